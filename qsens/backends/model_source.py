"""A lowered graph as runtimes read it: bytes, or a file where protobuf cannot hold so much."""

from collections.abc import Iterator
from contextlib import contextmanager

import onnx

from qsens.device.leftovers import temporary_folder
from qsens.graph.detached import DetachedModel

# Protobuf cannot serialise more; larger graphs go through a file with external data.
LARGEST_MESSAGE = 2**31 - 2**20


@contextmanager
def model_source(model: DetachedModel) -> Iterator[bytes | str]:
    """The serialised model, or the path of a file that is gone afterwards."""
    large = sum(value.nbytes for value in model.weights.values())
    if large + model.skeleton.ByteSize() < LARGEST_MESSAGE:
        yield model.serialized()
        return
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        onnx.save(model.attached(), path, save_as_external_data=True, location="weights")
        yield str(path)
