"""`manifest.toml` of a set folder: what the files are, where they come from, and their checksums."""

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qsens.calibration.clip_names import clips_by_pattern
from qsens.calibration.feeds import check_readable
from qsens.calibration.files import ARRAY_EXTENSIONS, SetFiles, list_nested_files, list_set_files
from qsens.calibration.images import read_image
from qsens.core.errors import DataError, SpecError
from qsens.core.files import write_atomically
from qsens.core.schema import check_schema, parse_toml
from qsens.core.spec import LARGEST_PICTURE_MEGAPIXELS
from qsens.device.errors import reason_of
from qsens.device.special_files import special_kind

MANIFEST_NAME = "manifest.toml"
_LARGEST_VALUE = 1e30  # FP32, in which images are scaled, ends at 3e38


@dataclass(frozen=True)
class ManifestFile:
    """One file: its name, hexadecimal sha256, and the clip it belongs to where frames are correlated."""

    name: str
    sha256: str
    clip: str | None = None


@dataclass(frozen=True)
class Manifest:
    """The account that a set folder gives of itself: its files, their origin, licence and checksums.

    `size` is (height, width) where all images share it. `colour_order` and `value_range` are what the
    generator expects of these images (`value_range` is what 0..255 maps to); absent for arrays. `opener`
    names the plug-in that reads a set of another form, whose files lie in subfolders. `sha256` is over the
    lines `sha256  name` of all files, as the command `sha256sum` prints them.
    """

    name: str
    count: int
    licence: str
    origin: str
    sha256: str
    files: tuple[ManifestFile, ...]
    size: tuple[int, int] | None = None
    colour_order: str | None = None
    value_range: tuple[float, float] | None = None
    opener: str | None = None
    opener_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clips(self) -> tuple[str, ...] | None:
        """The clip of each file, or `None` where none is stated."""
        return tuple(file.clip or "" for file in self.files) if self.files[0].clip else None

    def to_json(self) -> dict[str, Any]:
        """Plain values for TOML or JSON; what is absent is left out."""
        values = {key: value for key, value in asdict(self).items() if value not in (None, {})}
        values["files"] = [
            {key: value for key, value in asdict(file).items() if value is not None} for file in self.files
        ]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@dataclass(frozen=True)
class SetFacts:
    """Statements of a person about a set; `None` keeps what its manifest says already.

    `clip_pattern` is a regular expression searched in each file name; its first group is the clip. A set
    with an `opener` has its files in subfolders; without a pattern, a file's clip is the folder it is in.
    """

    licence: str | None = None
    origin: str | None = None
    name: str | None = None
    colour_order: str | None = None
    value_range: tuple[float, float] | None = None
    clip_pattern: str | None = None
    opener: str | None = None
    opener_options: Mapping[str, Any] | None = None


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a folder, or `None` if it has none.

    Raises:
        DataError: naming the key that is unknown, missing or wrong.
    """
    path = folder / MANIFEST_NAME
    if kind := special_kind(path):
        raise DataError(f"{path} is {kind}, not a file", _how_to_correct(path))
    try:
        values = parse_toml(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {reason_of(error)}", _how_to_correct(path)) from error
    try:
        check_schema(values, "calibration_manifest", str(path))
    except SpecError as error:
        raise DataError(error.message, error.hint) from error
    return _checked(_manifest_from_values(values), path)


def write_manifest(
    folder: Path, facts: SetFacts, *, largest_megapixels: int = LARGEST_PICTURE_MEGAPIXELS
) -> Manifest:
    """Describe the files of a folder in its `manifest.toml`, after reading every one of them in full.

    Called again, it updates checksums, count and size, and keeps what `facts` leaves open. Images and
    arrays are never changed.

    Raises:
        DataError: for an empty folder or a file that cannot be read.
        SpecError: if licence or origin is stated neither now nor before, or the clip pattern does not fit.
        RunFolderError: if the manifest cannot be written.
    """
    # tomli_w is only needed where a manifest is written.
    import tomli_w

    with _alone(folder):
        previous = read_manifest(folder)
        opener = facts.opener or (previous and previous.opener)
        files = list_nested_files(folder) if opener else list_set_files(folder)
        size = _size_after_reading(files, largest_megapixels)
        manifest = _described(files, facts, previous, size)
        path = folder / MANIFEST_NAME
        check_schema(manifest.to_json(), "calibration_manifest", str(path))
        header = "# Written by `qsens calibration add`; run it again after changing the files.\n"
        write_atomically(path, (header + tomli_w.dumps(_checked(manifest, path).to_json())).encode())
        return manifest


def check_manifest(files: SetFiles, manifest: Manifest) -> None:
    """Compare the files of a folder with its manifest.

    Raises:
        DataError: naming a file that is missing, changed, or not in the manifest.
    """
    known = {file.name: file.sha256 for file in manifest.files}
    present = dict(zip(files.names, files.checksums, strict=True))
    problems = [f"{name} is missing" for name in known if name not in present]
    problems += [f"{name} is not in the manifest" for name in present if name not in known]
    problems += [
        f"{name} has another sha256 than the manifest says"
        for name in known.keys() & present.keys()
        if known[name] != present[name]
    ]
    if problems:
        problems.sort()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(
            f"{files.folder} does not match its manifest: {problems[0]}{more}",
            f"restore the file, or accept the change with: qsens calibration add {files.folder}",
        )


def checked_manifest(folder: Path) -> Manifest:
    """The manifest of a set whose files are as it says. Raises `DataError` where they are not."""
    manifest = read_manifest(folder)
    if manifest is None:
        list_set_files(folder)
        raise DataError(f"{folder} has no manifest", f"write one: qsens calibration add {folder}")
    check_manifest(list_nested_files(folder) if manifest.opener else list_set_files(folder), manifest)
    return manifest


def is_complete(folder: Path) -> bool:
    """Whether a folder is a set with a manifest, and its files are as that says."""
    try:
        checked_manifest(folder)
    except DataError:
        return False
    return True


def _manifest_from_values(values: dict[str, Any]) -> Manifest:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
    }
    if "value_range" in values:
        fields["value_range"] = tuple(float(end) for end in values["value_range"])
    fields["opener_options"] = values.get("opener_options", {})
    fields["files"] = tuple(ManifestFile(**file) for file in values["files"])
    return Manifest(**fields)


def _checked(manifest: Manifest, path: Path) -> Manifest:
    """The manifest, if values that no schema can relate agree with each other. Raises `DataError`."""
    names = [file.name for file in manifest.files]
    hint = _how_to_correct(path)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{path}: file {twice!r} is listed twice", hint)
    if manifest.count != len(names):
        raise DataError(f"{path}: count is {manifest.count}, but {len(names)} files are listed", hint)
    if manifest.sha256 != _overall_sha256(manifest.files):
        raise DataError(f"{path}: 'sha256' does not match the files listed", hint)
    if len({file.clip is None for file in manifest.files}) > 1:
        without = next(file.name for file in manifest.files if file.clip is None)
        raise DataError(
            f"{path}: file {without!r} has no clip, others have", "state a clip for all files or none"
        )
    low, high = manifest.value_range or (0.0, 1.0)
    if not is_range(low, high):
        raise DataError(
            f"{path}: value_range is {low:g}..{high:g}", "give two finite numbers, the lower one first"
        )
    return _with_image_keys(manifest, path)


def is_range(low: float, high: float) -> bool:
    """Whether images can be scaled to that range: two numbers far from the end of FP32, in order."""
    return -_LARGEST_VALUE <= low < high <= _LARGEST_VALUE


def _how_to_correct(path: Path) -> str:
    return f"correct it, or delete it and run: qsens calibration add {path.parent}"


def _with_image_keys(manifest: Manifest, path: Path) -> Manifest:
    suffix = Path(manifest.files[0].name).suffix.lower()
    is_image_set = manifest.opener is None and suffix not in ARRAY_EXTENSIONS
    for key in ("colour_order", "value_range"):
        if is_image_set and getattr(manifest, key) is None:
            raise DataError(f"{path}: {key!r} is missing", "a set of images states it")
    return manifest


def _overall_sha256(files: Sequence[ManifestFile]) -> str:
    return hashlib.sha256("".join(f"{file.sha256}  {file.name}\n" for file in files).encode()).hexdigest()


def _described(
    files: SetFiles, facts: SetFacts, previous: Manifest | None, size: tuple[int, int] | None
) -> Manifest:
    clips = _clips(files.names, facts, previous)
    listed = tuple(
        ManifestFile(name, checksum, clips[name])
        for name, checksum in zip(files.names, files.checksums, strict=True)
    )
    licence = facts.licence or (previous and previous.licence)
    origin = facts.origin or (previous and previous.origin)
    for option, value in (("licence", licence), ("origin", origin)):
        if not value:
            raise SpecError(f"no {option} stated for {files.folder}", f"add --{option} TEXT")
    fallback = Manifest("", 0, "", "", "", (), colour_order="rgb", value_range=(0.0, 1.0))
    kept = previous or (fallback if files.are_images else Manifest("", 0, "", "", "", ()))
    return Manifest(
        name=facts.name or kept.name or files.folder.absolute().name,
        count=len(listed),
        licence=str(licence),
        origin=str(origin),
        sha256=_overall_sha256(listed),
        files=listed,
        size=size,
        colour_order=facts.colour_order or kept.colour_order,
        value_range=facts.value_range or kept.value_range,
        opener=facts.opener or kept.opener,
        opener_options=kept.opener_options if facts.opener_options is None else facts.opener_options,
    )


def _size_after_reading(files: SetFiles, largest_megapixels: int) -> tuple[int, int] | None:
    """Read every file in full; the size that all images share, else `None`."""
    if not files.are_images:
        for path in files.paths:
            if path.suffix.lower() in ARRAY_EXTENSIONS:
                check_readable(path)
        return None
    sizes = {read_image(path, largest_megapixels).shape[:2] for path in files.paths}
    return sizes.pop() if len(sizes) == 1 else None


def _clips(names: Sequence[str], facts: SetFacts, previous: Manifest | None) -> Mapping[str, str | None]:
    if facts.clip_pattern is not None:
        return clips_by_pattern(facts.clip_pattern, names)
    known = {file.name: file.clip for file in previous.files} if previous else {}
    return {name: name.rpartition("/")[0] if "/" in name else known.get(name) for name in names}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One writer of a manifest at a time: each keeps what the one before stated."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # opening a pipe may never end
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        raise DataError(f"cannot list folder {folder}: {reason_of(error)}", "check the path") from error
    try:
        # The folder itself is locked, so that no lock file stays in people's sets.
        fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
