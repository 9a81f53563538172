"""The lock of a device's keys as people use it: real commands, a real agent, a keyring backend.

Data flow: founded identity on disk -> `parsec-fs` processes -> exit codes, files, what is printed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from tests.support.file_keyring import VARIABLE
from tests.support.identities import founded
from tests.support.sources import ROOT

OLD, NEW = "correct horse battery", "staple of another kind"


class Desk:
    """One device, one login session."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(root=folder / "home")
        self.runtime = folder / "run"
        self.runtime.mkdir(mode=0o700)
        self.keyring = folder / "keyring.json"
        self.anchor = folder / "anchor"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "PYTHON_KEYRING_BACKEND": "tests.support.file_keyring.FileKeyring",
            VARIABLE: str(self.keyring),
        }
        DeviceFile(self.home.device).create(founded()[1], random=os.urandom)

    def run(self, *words: str, stdin: str = "", **more: str) -> tuple[int, dict[str, Any]]:
        """Exit code and document of a command."""
        done = subprocess.run(
            [sys.executable, "-Pm", "parsec_fs", "--json", "--home", str(self.home.root), *words],
            input=stdin.encode(),
            capture_output=True,
            timeout=120,
            env={**self.environment, **more},
            check=False,
        )
        for secret in (OLD, NEW):
            assert secret.encode() not in done.stdout + done.stderr
        return done.returncode, json.loads(done.stdout)

    def opens(self, *words: str, stdin: str = "") -> int:
        """Exit code of a command that needs the keys, and no server."""
        return self.run("org", "anchor", str(self.anchor), *words, stdin=stdin)[0]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_passphrase_from_set_to_remove(desk: Desk) -> None:
    code, document = desk.run("device", "passphrase", "set", "--password-stdin", stdin=OLD + "\n")
    assert (code, document) == (0, {"opened_by": "passphrase"})
    assert not DeviceFile(desk.home.device).key_path.exists()
    assert desk.opens() == 12
    assert desk.opens("--password-stdin", stdin="a wrong passphrase\n") == 12
    assert desk.opens("--password-command", "false") == 12
    assert desk.opens("--password-command", f"echo {OLD}") == 0

    assert desk.run("unlock", "--password-stdin", stdin="a wrong passphrase")[0] == 12
    assert desk.run("unlock", "--idle", "1h", "--password-stdin", stdin=OLD)[0] == 0
    assert desk.opens() == 0
    assert desk.run("lock")[1]["was_unlocked"] is True
    assert desk.opens() == 12

    both = f"{OLD}\n{NEW}\n"
    assert desk.run("device", "passphrase", "change", "--password-stdin", stdin=both)[0] == 0
    assert desk.opens("--password-stdin", stdin=OLD) == 12
    assert desk.run("device", "passphrase", "remove", "--password-stdin", stdin=NEW)[0] == 0
    assert desk.opens() == 0


def test_the_desktops_keyring_opens_the_keys(desk: Desk) -> None:
    weak = "tests.support.file_keyring.WeakKeyring"
    code, document = desk.run("device", "keyring", "set", PYTHON_KEYRING_BACKEND=weak)
    assert (code, "keeps secrets" in document["error"]) == (12, True)
    assert desk.opens() == 0

    assert desk.run("device", "keyring", "set") == (0, {"opened_by": "keyring"})
    assert not DeviceFile(desk.home.device).key_path.exists()
    assert desk.opens() == 0
    closed = desk.keyring.with_name("locked")
    closed.touch()
    assert desk.opens() == 12
    closed.unlink()
    assert desk.run("device", "keyring", "remove") == (0, {"opened_by": "key-file"})
    assert json.loads(desk.keyring.read_text()) == {}
    assert desk.opens() == 0
