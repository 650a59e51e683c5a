"""The one layout that pictures have here, (batch, channels, height, width), and words for all others."""

from collections.abc import Sequence

Sides = Sequence[int | None]
CHANNELS = (1, 3)
_ALIKE = (1, 3, 4)
_AXES = {
    2: "it is no picture but a list of values",
    3: "it has no batch axis: pictures are (N, 1 or 3, H, W) here",
    5: "it has five axes, as video or volumes have: pictures are (N, 1 or 3, H, W) here",
}


def is_picture(sides: Sides) -> bool:
    """Whether sides, batch axis included, are those of pictures with 1 or 3 channels."""
    return len(sides) == 4 and sides[1] in CHANNELS


def is_channels_last(sides: Sides) -> bool:
    """Whether sides, batch axis included, are (N, H, W, channels), as TensorFlow exports pictures."""
    return len(sides) == 4 and sides[3] in _ALIKE and sides[1] not in _ALIKE


def layout_fault(sides: Sides) -> str | None:
    """Words for what keeps sides, batch axis included, from being those of pictures; `None` for pictures."""
    if is_picture(sides):
        return None
    if is_channels_last(sides):
        return "its channels are the last axis (N, H, W, C), as TensorFlow exports them"
    if len(sides) == 4:
        return f"it has {sides[1] or 'any number of'} channels, a picture has 1 or 3"
    return _AXES.get(len(sides), f"it has {len(sides)} axes: pictures are (N, 1 or 3, H, W) here")


def layout_hint(sides: Sides, name: str, *, is_input: bool) -> str:
    """A sentence that says how a graph gets pictures in the one layout."""
    if is_channels_last(sides):
        side = "input" if is_input else "output"
        return (
            f"export it channels first (tf2onnx: --{side}s-as-nchw {name}), "
            f"or put a Transpose {'behind' if is_input else 'before'} that {side} of the graph"
        )
    if len(sides) == 5:
        return "give the graph one frame at a time: fold the frames into the batch axis with a Reshape"
    if len(sides) == 3:
        return "export it with a batch axis, or put an Unsqueeze into the graph"
    if len(sides) == 4:
        return "split the channels in the graph (a Slice or a 1x1 convolution) and name the colours"
    return "name an output that is a picture with --output NAME"


def sides_text(sides: Sides) -> str:
    """`(8, 32, 32, 3)`, `?` for a free side."""
    return f"({', '.join('?' if side is None else str(side) for side in sides)})"
