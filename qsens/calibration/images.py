"""Image files to arrays of a graph input: shape, reading, cropping, resizing, the range of values."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from qsens.calibration.files import IMAGE_EXTENSIONS, list_files
from qsens.core.errors import DataError
from qsens.core.interfaces import InputRule, InputSpec
from qsens.core.picture_layout import is_channels_last
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS
from qsens.device.errors import reason_of
from qsens.device.special_files import special_kind

RESIZE_FILTER = "bicubic with antialias, float32"
_ORIENTATION = 0x0112
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's mode L


def image_sides(spec: InputSpec) -> tuple[int | None, int | None, int | None] | None:
    """(channels, height, width) of an input laid out like an image, `None` for a free side; else `None`.

    Free sides are as they are stated.
    """
    shape = spec.sides
    if not spec.is_batched and len(shape) == 4 and shape[0] in (1, None):
        shape = shape[1:]
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else None


def looks_like_an_image(spec: InputSpec) -> bool:
    """True for a 4-D float or uint8 input with 1, 3 or any number of channels, of more than one pixel."""
    sides = image_sides(spec)
    is_four_dimensional = spec.is_batched or len(spec.shape) == 4
    is_pixel_type = np.dtype(spec.dtype).kind == "f" or spec.dtype == "uint8"
    if not is_four_dimensional or not is_pixel_type or sides is None or is_channels_last((None, *sides)):
        return False
    return sides[0] in (1, 3, None) and sides[1:] != (1, 1)


def fits_shape(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """True where `shape` has the rank and every fixed side of `wanted`."""
    return len(shape) == len(wanted) and all(
        side is None or side == size for size, side in zip(shape, wanted, strict=True)
    )


def shape_text(spec: InputSpec) -> str:
    """`(3, ?, ?) float32`: the shape without the batch axis, as far as it is known, and the dtype."""
    sides = ", ".join("?" if side is None else str(side) for side in spec.sides)
    return f"({sides}) {spec.dtype}"


def shape_flag(spec: InputSpec) -> str:
    """`--input-shape x=1x3x?x?`: the flag that states what the graph leaves free."""
    sides = (1,) * spec.is_batched + tuple(side or "?" for side in spec.sides)
    return f"--input-shape {spec.name}={'x'.join(map(str, sides))} (sizes for ?)"


def list_images(folder: Path) -> tuple[Path, ...]:
    """PNG, JPEG and WebP files directly in `folder`, sorted by name.

    Raises:
        DataError: if there is no such folder or no image in it.
    """
    return list_files(folder, IMAGE_EXTENSIONS)


def read_image(path: Path, largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS) -> NDArray[np.uint8]:
    """Pixels of one file: uint8 (H, W, 3), 0 to 255, RGB.

    EXIF orientation is applied, gray is repeated to three channels, 16-bit gray is rounded to 8 bits,
    transparency is composited over white. Embedded colour profiles are not applied.

    Raises:
        DataError: if the file is corrupt, truncated, animated, too large or no PNG, JPEG or WebP.
    """
    with opened_image(path, largest_megapixels) as picture:
        return _rgb_pixels(ImageOps.exif_transpose(picture))


def read_image_size(path: Path, largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS) -> tuple[int, int]:
    """(height, width) as `read_image` would return it, from the header alone.

    Raises:
        DataError: as `read_image`, where the header shows it.
    """
    with opened_image(path, largest_megapixels) as picture:
        is_turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        width, height = int(picture.width), int(picture.height)
        return (width, height) if is_turned else (height, width)


def common_size(
    paths: Sequence[Path], largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS
) -> tuple[int, int]:
    """(height, width) shared by all the images.

    Raises:
        DataError: naming two files whose sizes differ.
    """
    sizes: dict[tuple[int, int], Path] = {}
    for path in paths:
        sizes.setdefault(read_image_size(path, largest_megapixels), path)
        if len(sizes) > 1:
            first, second = sizes.items()
            raise DataError(
                f"images of different sizes: {first[1].name} is {size_text(first[0])}, "
                f"{second[1].name} is {size_text(second[0])} (in {path.parent})",
                "bring them to one size with --resize HxW",
            )
    return next(iter(sizes))


def fit_image(image: NDArray[np.uint8], crop: str, resize: tuple[int, int] | None) -> NDArray[np.float32]:
    """Crop and resize: uint8 (H, W, 3) to float32 (H', W', 3), 0 to 255, not rounded.

    Resizing is bicubic with antialias in float32 (Pillow's mode F), clipped to 0..255; an image that
    already has the size is not filtered.
    """
    if resize is None or image.shape[:2] == resize:
        return image.astype(np.float32)
    cropped = _centred(image, resize) if crop == "center" else image
    height, width = resize
    planes = [
        Image.fromarray(cropped[:, :, channel].astype(np.float32)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        for channel in range(3)
    ]
    resized = np.stack([np.asarray(plane, dtype=np.float32) for plane in planes], axis=2)
    return np.clip(resized, np.float32(0.0), np.float32(255.0))


def prepare_image(image: NDArray[np.uint8], rule: InputRule) -> NDArray[np.float32]:
    """uint8 (H, W, 3) RGB to float32 (3, H', W'), or (1, H', W') for gray, by the rule.

    0..255 maps to `rule.value_range`, both ends exactly.
    """
    pixels = _in_colour_order(fit_image(image, rule.crop, rule.resize), rule.colour_order)
    low, high = rule.value_range
    scaled = pixels * np.float32(high - low) / np.float32(255.0) + np.float32(low)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def size_text(size: tuple[int | None, ...]) -> str:
    """`96x128` for (96, 128): height first."""
    return "x".join("?" if side is None else str(side) for side in size)


@contextmanager
def opened_image(path: Path, largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS) -> Iterator[Image.Image]:
    """A PNG, JPEG or WebP file whose header was read; what goes wrong in the block names the file.

    Raises:
        DataError: for a file that is none of these, animated, or larger than that.
    """
    if kind := special_kind(path):
        raise DataError(f"{path} is {kind}, not an image", "remove it from the folder")
    # Pillow reports damage with whatever its decoders run into, SyntaxError for a broken PNG included.
    try:
        with _header(path) as picture:
            _refuse_large(path, picture.size, largest_megapixels)
            # A phone's JPEG may carry a second picture (MPO); the first is the photograph.
            frames = 1 if picture.format in ("JPEG", "MPO") else getattr(picture, "n_frames", 1)
            if frames > 1:
                raise DataError(f"{path} is animated ({frames} frames)", "save each frame as its own file")
            yield picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is a picture of more than 178 megapixels", "save it smaller") from error
    except Exception as error:
        raise DataError(
            f"cannot read image {path}: {reason_of(error)}", "replace the file or remove it from the folder"
        ) from error


def _header(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        # Pillow warns from 89 megapixels on; our own limit holds where it is lower, and the user set it else.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path, formats=("PNG", "JPEG", "WEBP"))


def _refuse_large(path: Path, size: tuple[int, int], largest_megapixels: int) -> None:
    """Check the size that the header states: a small file can decode to gigabytes."""
    width, height = size
    if width * height > largest_megapixels * 1_000_000:
        raise DataError(
            f"{path} is {size_text((height, width))}, {width * height / 1e6:,.0f} megapixels",
            f"pictures have at most {largest_megapixels} here: save it smaller, or raise --largest-picture",
        )


def _rgb_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    if picture.mode.startswith("I"):
        gray = np.rint(np.clip(np.asarray(picture, dtype=np.float64) / 257.0, 0.0, 255.0))
        return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        backdrop = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
    return np.array(picture.convert("RGB"))


def _centred(image: NDArray[np.uint8], target: tuple[int, int]) -> NDArray[np.uint8]:
    """The largest centred rectangle of the target's aspect ratio, to the nearest pixel."""
    height, width = image.shape[:2]
    scale = min(height / target[0], width / target[1])
    cropped_height = max(1, round(target[0] * scale))
    cropped_width = max(1, round(target[1] * scale))
    top, left = (height - cropped_height) // 2, (width - cropped_width) // 2
    return image[top : top + cropped_height, left : left + cropped_width]


def _in_colour_order(pixels: NDArray[np.float32], colour_order: str) -> NDArray[np.float32]:
    if colour_order == "bgr":
        return pixels[:, :, ::-1]
    if colour_order == "gray":
        luma: NDArray[Any] = pixels.astype(np.float64) @ _LUMA
        return luma[:, :, None].astype(np.float32)
    return pixels
