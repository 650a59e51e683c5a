"""Puts an `ssh` on the path that runs the command here, in a folder that takes the place of the device."""

SCRIPT = """#!/bin/sh
while [ "$1" != -- ]; do shift; done
echo "$2" >> "{calls}"
cd "{home}"
export TMPDIR="{home}"
{before}
exec sh -c "$3"
"""


class FakeSsh:
    """A device of this machine: `home` is where it keeps files; `before` runs before each command."""

    def __init__(self, folder, monkeypatch):
        self.home, self.calls, self.path = folder / "there", folder / "calls", folder / "bin"
        self.home.mkdir()
        self.path.mkdir()
        self.answer("")
        monkeypatch.setenv("PATH", f"{self.path}:/usr/bin:/bin")

    def answer(self, before):
        script = self.path / "ssh"
        script.write_text(SCRIPT.format(home=self.home, calls=self.calls, before=before))
        script.chmod(0o755)

    def left(self):
        """What is in the temporary folder of the device."""
        return [path.name for path in self.home.iterdir()]
