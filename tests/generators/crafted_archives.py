"""Archives of torch made up part by part, for what nobody's torch would write."""

import json
import pickle
import struct
import zipfile


class MakesFolder:
    """Makes a folder named `ran` when it is read from a pickle by a reader that runs code."""

    def __reduce__(self):
        import os

        return (os.mkdir, ("ran",))


RUNS_CODE = pickle.dumps(MakesFolder(), 2)


def parts_of(path):
    """Content by name of every part below the top folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write_archive(path, parts, *, packed=()):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            kind = zipfile.ZIP_DEFLATED if name in packed else zipfile.ZIP_STORED
            archive.writestr(f"p/{name}", content, kind, compresslevel=1)
    return path


def with_program(parts, change):
    """The parts with a change made to the program's JSON."""
    program = json.loads(parts["models/model.json"])
    changed = change(program) or program
    return {**parts, "models/model.json": json.dumps(changed).encode()}


def two_directories(path, seen_by_zipfile, seen_by_torch):
    """One file in which zipfile finds the one archive, and readers of absolute offsets the other.

    The parts have the same names in the same order; those that torch sees must be the larger ones.
    """
    first = write_archive(path.with_suffix(".first"), seen_by_torch).read_bytes()
    second = bytearray(write_archive(path.with_suffix(".second"), seen_by_zipfile).read_bytes())
    end_of_first, end = first.rindex(b"PK\x05\x06"), second.rindex(b"PK\x05\x06")
    of_first = struct.unpack_from("<I", first, end_of_first + 16)[0]
    of_second = struct.unpack_from("<I", second, end + 16)[0]
    shift = of_first - of_second
    assert shift >= 0
    entry = of_second
    while second[entry : entry + 4] == b"PK\x01\x02":
        offset = struct.unpack_from("<I", second, entry + 42)[0]
        struct.pack_into("<I", second, entry + 42, offset + shift)
        entry += 46 + sum(struct.unpack_from("<HHH", second, entry + 28))
    struct.pack_into("<I", second, end + 16, of_first)
    path.write_bytes(first[:end_of_first] + bytes(second))
    return path
