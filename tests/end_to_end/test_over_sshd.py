"""Devices over an sshd of its own on the loopback address, with its own host key and user key."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import qsens

from qsens.run.folder import read_provenance, read_study
from qsens.selection.timings import check_table, read_latency_table, timings_of

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None or shutil.which("ssh") is None, reason="no sshd and ssh are installed"),
]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A host for `--on`, and an `ssh` on the path that knows where it listens."""
    folder, port = tmp_path_factory.mktemp("sshd"), free_port()
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    known = f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}"
    (folder / "known").write_text(known)
    options = {
        **{"Port": port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "UsePAM": "no"},
        **{"AuthorizedKeysFile": folder / "user.pub", "StrictModes": "no", "PidFile": "none"},
        **{"PasswordAuthentication": "no", "PermitRootLogin": "yes", "SetEnv": f"TMPDIR={folder}/tmp"},
    }
    (folder / "tmp").mkdir()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # Debian's sshd wants it, and a service would make it
    listed = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", os.devnull, *listed], stderr=subprocess.DEVNULL)
    script = folder / "bin" / "ssh"
    script.parent.mkdir()
    mine = f"-F none -p {port} -i {folder}/user -o UserKnownHostsFile={folder}/known -o ConnectionAttempts=20"
    script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {mine} "$@"\n')
    script.chmod(0o755)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
            yield folder
    finally:
        server.terminate()
        server.wait()


def on(host="127.0.0.1"):
    return ("--on", f"{getpass.getuser()}@{host}", "--python", sys.executable, "--repeats", "3")


def test_a_bundle_is_checked_over_ssh(run, there):
    exported = qsens("export", run, "--for", "onnxruntime", "--trial", "1", "--float-fallback")
    assert exported.exit_code == 0, exported.stderr
    bundle = run / "bundle-onnxruntime"
    done = qsens("verify", bundle, *on(), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["latency"]["runs"] == 3
    unknown = qsens("verify", bundle, *on("localhost"))
    assert (unknown.exit_code, "Host key verification failed" in unknown.stderr) == (1, True)
    assert list((there / "tmp").iterdir()) == []


def test_the_maps_of_a_run_are_measured_over_ssh(run, there):
    done = qsens("bench", run, *on(), "--maps", "anchors", "--backend", "onnxruntime", "--batch", "1,2")
    assert done.exit_code == 0, done.stderr
    table, study = read_latency_table(next((run / "latency").glob("*-onnxruntime.json"))), read_study(run)
    check_table(table, study, read_provenance(run).contents["graph"])
    assert table.batches == (1, 2)
    assert {0, 1} <= timings_of(study, table).by_trial.keys()
    assert list((there / "tmp").glob("qsens-ssh-*")) == []
