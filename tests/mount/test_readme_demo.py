"""The README's first screen is executed: its commands work, its outputs are what is printed.

Data flow: README -> commands, run in order -> outputs compared with those that it shows.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chain import require_cometbft
from tests.support.console_blocks import blocks, console_steps, pattern
from tests.support.installation import ROOT, lazy_unmount

COMMAND_TIMEOUT_S = 120


class Shell:
    """A user with an empty home folder, in the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("PARSEC_FS_HOME", "XDG_DATA_HOME", "PYTHONPATH")
        } | {"HOME": str(folder), "LC_ALL": "C.UTF-8"}

    def run(self, command: str) -> str:
        """What a command prints on standard output, which here ends with a line break."""
        # Temporary files of the demo belong into this test's folder.
        command = command.replace("/tmp/", f"{self.folder}/")
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        output = done.stdout.replace(f"{self.folder}/", "/tmp/")
        return output if not output or output.endswith("\n") else output + "\n"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    require_cometbft()
    shell = Shell(tmp_path)
    yield shell
    subprocess.run(
        [str(ROOT / "scripts/quickstart"), "--stop"],
        env=shell.environment,
        capture_output=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    lazy_unmount(tmp_path / "Parsec")


def test_the_demo_does_what_the_readme_says(shell: Shell) -> None:
    readme = (ROOT / "README.md").read_text()
    start = next(
        line
        for line in blocks(readme, "sh")[0].splitlines()
        if line.startswith("scripts/quickstart")
    )
    assert "Your folder:" in shell.run(start)
    for step in console_steps(blocks(readme, "console")[0]):
        printed = shell.run(step.command)
        assert pattern(step.output).fullmatch(printed), (
            f"$ {step.command}\n{printed}\nexpected:\n{step.output}"
        )
    assert not os.path.ismount(shell.folder / "Parsec")
