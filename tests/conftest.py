"""Puts `tests/` on the import path, so that tests share the tiny models; what several tests use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with entry points on the path, the way an installed package looks."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(distribution, group, entries, modules=()):
        info = tmp_path / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {target}" for name, target in entries.items())
        (info / "entry_points.txt").write_text(f"[qsens.{group}]\n{lines}\n")
        for name, text in dict(modules).items():
            (tmp_path / f"{name}.py").write_text(text)

    return install
