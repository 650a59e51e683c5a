"""The bundle's own script: nothing that lies in a bundle runs or counts before it is compared."""

import hashlib
import json
import os
import py_compile
import shutil
import socket
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qsens.core.errors import RunFolderError
from qsens.deploy.bundle_script import Refused, compare
from qsens.deploy.verify import checked_files
from qsens.device.bundle_files import write_checksums
from qsens.device.goldens import read_goldens

# `__main__` is the script itself.
MODULES = sorted({*sys.stdlib_module_names, "numpy", "onnxruntime", "openvino", "tensorrt"} - {"__main__"})
UNKNOWN = "which no bundle holds"
PLANT = "import os; open(os.environ['RAN'], 'a').write(__name__ + '\\n'); raise SystemExit(0)\n"


def run(*command, cwd, ran=None):
    """A plain Python: not isolated, with the environment as it is."""
    environment = {**os.environ, "RAN": str(ran)}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def plant_modules(folder):
    for name in MODULES:
        (folder / f"{name}.py").write_text(PLANT)


def plant_packages(folder):
    for name in MODULES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(PLANT)


def plant_compiled(folder):
    """Sourceless modules and extensions beside the script."""
    source = folder.parent / "planted.py"
    source.write_text(PLANT)
    for name in MODULES:
        py_compile.compile(str(source), cfile=str(folder / f"{name}.pyc"))
        (folder / f"{name}.so").write_bytes(b"no library")


def beside_the_script(bundle, _elsewhere):
    return [["verify.py"], bundle]


def from_elsewhere(bundle, elsewhere):
    return [[bundle / "verify.py"], elsewhere]


def through_a_link(bundle, elsewhere):
    (elsewhere / "check.py").symlink_to(bundle / "verify.py")
    return [["check.py"], elsewhere]


def through_a_linked_folder(bundle, elsewhere):
    (elsewhere / "linked").symlink_to(bundle)
    return [["linked/verify.py"], elsewhere]


def without_site(bundle, _elsewhere):
    return [["-S", "verify.py"], bundle]


CALLS = [beside_the_script, from_elsewhere, through_a_link, through_a_linked_folder, without_site]


# Of several modules of one name Python takes the package; how the script is called changes where it looks.
@pytest.mark.parametrize(
    ("call", "plant"),
    [
        (beside_the_script, plant_modules),
        (beside_the_script, plant_compiled),
        *((call, plant_packages) for call in CALLS),
    ],
)
def test_no_module_beside_the_script_takes_the_place_of_another(bundle, tmp_path, call, plant):
    plant(bundle)
    (tmp_path / "elsewhere").mkdir()
    command, cwd = call(bundle, tmp_path / "elsewhere")
    done = run(*command, cwd=cwd, ran=tmp_path / "ran")
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
    assert done.returncode == 1
    assert done.stderr.startswith("Error: not part of the bundle: ")
    assert "Traceback" not in done.stderr


LISTED = [
    *("hashlib.py", "numpy.py", "numpy.pyc", "sitecustomize.py", "usercustomize.py", "more.pth", "more.zip"),
    *("libcudart.so.12", "more.so", "more.pyd", "more.dll", "more.dylib", "nvidia-smi", "nvidia-smi.exe"),
    *("qsens/numpy.so", "qsens/device/main.pyc", "qsens/device/main.cpython-311-x86_64-linux-gnu.so"),
    *("qsens/device/more.json", "pyvenv.cfg", ".env", "-rf.txt", "a b.txt", "a\\b.txt", "gr\u00f6sse.txt"),
]


@pytest.mark.parametrize("name", LISTED)
def test_a_file_that_no_bundle_holds_is_refused_though_it_is_listed(bundle, name):
    (bundle / name).write_text(PLANT)
    write_checksums(bundle)
    with pytest.raises(Refused, match=UNKNOWN):
        compare(bundle)


@pytest.mark.parametrize(
    "name", ["json", "qsens/device/__pycache__", "qsens/numpy", "qsens/device/device", ".venv", "empty"]
)
def test_a_folder_that_no_bundle_holds_is_refused_though_it_is_listed(bundle, name):
    (bundle / name).mkdir()
    if name != "empty":
        (bundle / name / "__init__.py").write_text(PLANT)
    write_checksums(bundle)
    with pytest.raises(Refused, match=rf"not part of the bundle: {name} \(a folder\)"):
        compare(bundle)


def link_the_code(bundle, elsewhere):
    """All is as exported, and a compiled file that Python would prefer lies where the link leads."""
    shutil.move(bundle / "qsens" / "device", elsewhere / "device")
    cache = elsewhere / "device" / "__pycache__"
    cache.mkdir()
    (elsewhere / "planted.py").write_text(PLANT)
    py_compile.compile(
        str(elsewhere / "planted.py"),
        cfile=str(cache / f"main.{sys.implementation.cache_tag}.pyc"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    (bundle / "qsens" / "device").symlink_to(elsewhere / "device")
    return "qsens/device (a link)"


def link(name):
    def damage(bundle, elsewhere):
        shutil.move(bundle / name, elsewhere / "moved")
        (bundle / name).symlink_to(elsewhere / "moved")
        return f"{name} (a link)"

    return damage


def dangling_link(bundle, elsewhere):
    (bundle / "notes.txt").symlink_to(elsewhere / "none")
    return "notes.txt (a link)"


def pipe(name):
    def damage(bundle, _elsewhere):
        (bundle / name).unlink(missing_ok=True)
        os.mkfifo(bundle / name)
        return f"{name} (no file)"

    return damage


def socket_instead(bundle, _elsewhere):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(bundle / "notes.txt"))
    return "notes.txt (no file)"


NO_FILES = {
    "linked code": link_the_code,
    "linked package": link("qsens"),
    "linked module": link("qsens/device/check.py"),
    "linked model": link("model.onnx"),
    "linked goldens": link("goldens.npz"),
    "linked checksums": link("SHA256SUMS"),
    "dangling": dangling_link,
    "pipe": pipe("notes.txt"),
    "pipe for the model": pipe("model.onnx"),
    "pipe for the checksums": pipe("SHA256SUMS"),
    "pipe for a module": pipe("qsens/device/check.py"),
    "socket": socket_instead,
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_links_pipes_and_sockets_are_refused(bundle, tmp_path, kind, monkeypatch, script_here):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    named = NO_FILES[kind](bundle, tmp_path / "elsewhere")
    done = script_here(bundle)
    assert done.stderr.splitlines() == [
        f"Error: not part of the bundle: {named}",
        "Hint: delete what does not belong there",
    ]
    assert done.returncode == 1
    with pytest.raises(RunFolderError, match="not part of the bundle"):
        checked_files(bundle)


def test_linked_code_is_refused_before_anything_runs(bundle, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    named = link_the_code(bundle, tmp_path / "elsewhere")
    done = run("verify.py", cwd=bundle, ran=tmp_path / "ran")
    assert done.stderr.startswith(f"Error: not part of the bundle: {named}")
    assert not (tmp_path / "ran").exists()


ZEROS = "0" * 64
TWICE, DAMAGED = "as a line before it does", "damaged: line 1 of SHA256SUMS"
WRONG_LINES = {
    **{f"{ZEROS}  {name}\n": UNKNOWN for name in ("/etc/hostname", "../secret.json", "C:/a.txt", "C:a.txt")},
    **{
        f"{ZEROS}  {name}\n": UNKNOWN for name in ("./model.onnx", "qsens/../a.py", "qsens//a.py", "b/a.json")
    },
    **{
        f"{ZEROS}  {name}\n": UNKNOWN
        for name in ("a\x1b[2J.txt", "a\u202e.txt", "a.txt\0", "~", "hashlib.py")
    },
    **{f"{ZEROS}  {name}\n": TWICE for name in ("model.onnx", "MODEL.onnx", "qsens/device/check.py")},
    **dict.fromkeys(("\n", "no sum\n", f"{ZEROS} a.txt\n", f"{'g' * 64}  a.txt\n", "\ufeff\n"), DAMAGED),
    f"{ZEROS[1:]}  a.txt\n": DAMAGED,
    f"{ZEROS}  absent.txt\n": "missing: absent.txt",
    f"{ZEROS}  {'a' * 10_000}.txt\n": "missing: aaa",
}


@pytest.mark.parametrize("text", WRONG_LINES, ids=range(len(WRONG_LINES)))
def test_checksums_that_export_does_not_write_are_refused(bundle, text):
    path = bundle / "SHA256SUMS"
    path.write_text(text + path.read_text(), encoding="utf-8")
    with pytest.raises(Refused, match=WRONG_LINES[text]) as caught:
        compare(bundle)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("content", [b"\xff\xfe", bytes(100)])
def test_checksums_that_are_no_text_are_refused(bundle, content):
    (bundle / "SHA256SUMS").write_bytes(content)
    with pytest.raises(Refused, match=DAMAGED):
        compare(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "goldens.npz", "qsens/__init__.py", "bundle.json"])
def test_a_bundle_that_lists_too_little_is_refused(bundle, name):
    (bundle / name).unlink()
    write_checksums(bundle)
    with pytest.raises(Refused, match=f"missing: {name}"):
        compare(bundle)


def test_checksums_of_nothing_are_refused(bundle):
    (bundle / "SHA256SUMS").write_bytes(b"")
    with pytest.raises(Refused, match=r"not part of the bundle: README\.md"):
        compare(bundle)


@pytest.mark.parametrize("name", ["bundle.json", "qsens/device/check.py", "SHA256SUMS"])
def test_a_text_that_would_fill_the_memory_is_not_read_whole(bundle, name):
    os.truncate(bundle / name, 2**40)
    with pytest.raises(Refused, match=rf"{name} is larger than 64 MiB"):
        compare(bundle)


def digest_of(bundle):
    return hashlib.sha256((bundle / "SHA256SUMS").read_bytes()).hexdigest()


def test_the_digest_that_export_gives_is_the_one_of_the_checksums(ort_bundle):
    assert ort_bundle.digest == digest_of(ort_bundle.folder)
    assert checked_files(ort_bundle.folder, ort_bundle.digest.upper()).files.digest == ort_bundle.digest


def test_another_digest_is_refused_before_anything_runs_and_both_are_named(bundle, ort_bundle, tmp_path):
    # Whoever changes a file can change its sum: only the digest tells.
    (bundle / "qsens" / "__init__.py").write_text(PLANT)
    write_checksums(bundle)
    done = run("verify.py", "--digest", ort_bundle.digest, cwd=bundle, ran=tmp_path / "ran")
    assert done.returncode == 1
    assert f"is {digest_of(bundle)}, not {ort_bundle.digest}\nHint: " in done.stderr
    assert not (tmp_path / "ran").exists()
    with pytest.raises(RunFolderError, match=f"is {digest_of(bundle)}, not {ort_bundle.digest}"):
        checked_files(bundle, ort_bundle.digest)


def test_the_script_checks_with_the_digest_and_prints_it(ort_bundle, script_here):
    done = script_here(ort_bundle.folder, "--no-latency", "--json", "--digest", ort_bundle.digest)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == ort_bundle.digest


@pytest.mark.parametrize("text", ["", "abc", "x" * 64, "0" * 63, "0" * 65])
def test_what_is_no_digest_is_a_mistake_in_the_command(ort_bundle, text, script_here):
    done = script_here(ort_bundle.folder, "--digest", text)
    assert done.returncode == 2
    assert "are not the 64 digits that qsens export printed" in done.stderr


def test_the_code_that_runs_is_the_code_that_was_compared(bundle, tmp_path):
    swap = (
        "import runpy, sys; script = runpy.run_path('verify.py'); folder = script['FOLDER']\n"
        "code = script['compare'](folder).code\n"
        f"(folder / 'qsens' / 'device' / 'main.py').write_text({PLANT!r})\n"
        "sys.meta_path.insert(0, script['ComparedCode'](code))\n"
        "import qsens.device.check as main; print(main.__doc__, main.__spec__.origin)\n"
        "import qsens.deploy\n"
    )
    done = run("-c", swap, cwd=bundle, ran=tmp_path / "ran")
    assert "qsens/device/check.py" in done.stdout, done.stderr
    assert "the bundle holds no module qsens.deploy" in done.stderr
    assert not (tmp_path / "ran").exists()


WRONG_DOCUMENTS = {
    "no layers": ({"layers": []}, "'layers' is []"),
    "flavour": ({"flavour": "exact"}, "'flavour' is 'exact'"),
    "no outputs": ({"outputs": []}, "'outputs' is []"),
    "outputs": ({"outputs": ["other"]}, "'picture.output' is 'picture', outputs are other"),
    "batch": ({"batch": 10**9}, "'batch' is 1000000000"),
    "types": ({"float_pins": 1, "notes": 1}, "'float_pins' is 1"),
}


@pytest.mark.parametrize("kind", WRONG_DOCUMENTS)
def test_a_document_that_checks_nothing_is_refused_by_the_script_and_by_qsens(bundle, kind, script_here):
    changes, message = WRONG_DOCUMENTS[kind]
    path = bundle / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    write_checksums(bundle)
    done = script_here(bundle)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 2
    with pytest.raises(RunFolderError) as caught:
        checked_files(bundle)
    assert message in caught.value.message


def no_samples(bundle):
    names = json.dumps({"input": ["image"], "fp32": ["picture"], "exact": ["picture"]})
    empty = np.zeros((0, 3, 8, 8), np.float32)
    np.savez(bundle / "goldens.npz", names=np.array(names), input_0=empty, fp32_0=empty, exact_0=empty)


def torn(bundle):
    path = bundle / "goldens.npz"
    path.write_bytes(path.read_bytes()[:-200])


def objects(bundle):
    np.savez(bundle / "goldens.npz", names=np.array([print], dtype=object))


def another_shape(bundle):
    goldens = read_goldens(bundle / "goldens.npz")
    names = json.dumps({"input": ["image"], "fp32": ["picture"], "exact": ["picture"]})
    image, picture = goldens.inputs["image"][:1], goldens.fp32["picture"][:1]
    np.savez(bundle / "goldens.npz", names=np.array(names), input_0=image, fp32_0=picture, exact_0=picture)


@pytest.mark.parametrize("damage", [no_samples, torn, objects, another_shape])
def test_goldens_that_are_none_are_an_error_of_two_lines(bundle, damage, script_here):
    damage(bundle)
    write_checksums(bundle)
    done = script_here(bundle)
    assert done.returncode == 1
    assert "goldens.npz" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_name_that_steers_a_terminal_is_shown_as_text(bundle, script_here):
    path = bundle / "bundle.json"
    path.write_text(path.read_text().replace('"layer": "first"', '"layer": "\\u001b[2Jfirst\\ud800"'))
    write_checksums(bundle)
    done = script_here(bundle, "--no-latency")
    assert done.returncode == 0, done.stderr
    assert "\\x1b[2Jfirst\\ud800" in done.stdout
    assert "\x1b" not in done.stdout


def make_endless(folder):
    """Put a loop without an end before the first layer of a bundle's graph."""
    model = onnx.load(folder / "model.onnx")
    body = helper.make_graph(
        [helper.make_node("Identity", [a], [b]) for a, b in (("going", "go"), ("before", "after"))],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    for node in model.graph.node:
        node.input[:] = ["looped" if name == "image" else name for name in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "always"))
    model.graph.node.insert(0, helper.make_node("Loop", ["", "always", "image"], ["looped"], body=body))
    onnx.save(model, folder / "model.onnx")
    write_checksums(folder)


def test_an_engine_that_never_ends_is_ended(bundle):
    make_endless(bundle)
    code = (
        "import sys; from pathlib import Path; from qsens.device import check\n"
        "from qsens.deploy.verify import checked_files, verify_engine\n"
        "check.LONGEST_RUN_S = 0.1; verify_engine(checked_files(Path(sys.argv[1])), repeats=0)"
    )
    done = run("-c", code, bundle, cwd=bundle.parent)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: one run of the engine took longer than 0.1 s\nHint: its graph may never end\n"
    )


def test_whoever_reads_the_output_may_have_enough(bundle):
    with subprocess.Popen(
        [sys.executable, "verify.py", "--no-latency"],
        cwd=bundle,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(100) == 141
