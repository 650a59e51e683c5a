"""A lowered graph as runtimes read it: bytes, or a file where protobuf cannot serialise so much."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

# Protobuf cannot serialise more; larger graphs go through a file with external data.
LARGEST_MESSAGE = 2**31 - 2**20


@contextmanager
def model_source(model: onnx.ModelProto) -> Iterator[bytes | str]:
    """The serialised model, or the path of a file that is gone afterwards."""
    if model.ByteSize() < LARGEST_MESSAGE:
        yield bytes(model.SerializeToString())
        return
    with TemporaryDirectory(prefix="qsens-") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path, save_as_external_data=True, location="weights")
        yield str(path)
