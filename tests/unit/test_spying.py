"""The search for secrets in what a machine shows finds them however a program wrote them.

Data flow: secret -> one form of writing it -> `Spy` -> finding.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.spying import Spy

WORDS = b"abandon zoo legal winner"
KEY = bytes(range(32)) + b"'\\\xff\xfb\xef"


def seen(folder: Path, text: bytes) -> Spy:
    spy = Spy(folder, ["*.log"])
    (folder / "a.log").write_bytes(b"before " + text + b" after\n")
    spy.look()
    return spy


@pytest.mark.parametrize(
    "write",
    [
        bytes.decode,
        lambda secret: repr(tuple(secret.decode().split())),
        lambda secret: json.dumps(secret.decode().split()),
        lambda secret: secret.decode().replace(" ", "\n"),
        lambda secret: repr(secret.decode().replace(" ", "\n")),
        lambda secret: secret.decode().replace(" ", "\0"),
        lambda secret: base64.b64encode(secret).decode(),
    ],
    ids=["plain", "tuple", "json", "lines", "lines-written-out", "arguments", "base64"],
)
def test_words_are_found(tmp_path: Path, write: Callable[[bytes], str]) -> None:
    spy = seen(tmp_path, write(WORDS).encode())
    assert spy.findings([b"other words", WORDS]) == [f"secret 1 in {tmp_path / 'a.log'}"]


@pytest.mark.parametrize(
    "write",
    [
        bytes,
        lambda secret: repr(secret).encode(),
        lambda secret: secret.hex().encode(),
        lambda secret: secret.hex().upper().encode(),
        base64.b64encode,
        base64.urlsafe_b64encode,
        lambda secret: base64.urlsafe_b64encode(secret).rstrip(b"="),
    ],
    ids=["plain", "repr", "hex", "upper-hex", "base64", "urlsafe", "unpadded"],
)
def test_keys_are_found(tmp_path: Path, write: Callable[[bytes], bytes]) -> None:
    spy = seen(tmp_path, write(KEY))
    assert spy.findings([KEY[::-1], KEY]) == [f"secret 1 in {tmp_path / 'a.log'}"]


def test_what_is_added_to_a_log_and_a_new_one_of_its_name_are_read(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    spy = seen(tmp_path, b"first")
    with log.open("ab") as file:
        file.write(b"second\n")
    spy.look()
    (tmp_path / "new").write_bytes(b"third\n")
    (tmp_path / "new").replace(log)
    spy.look()
    assert spy.logs[log] == b"before first after\nsecond\nthird\n"


def test_a_command_is_known_by_its_words(tmp_path: Path) -> None:
    wait = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", wait, str(tmp_path), "device", "umount", "mount-point"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        spy = Spy(tmp_path, [])
        spy.look()
        process.communicate()
    assert spy.ran("umount")
    assert spy.ran("device umount")
    assert spy.ran(Path(sys.executable).name)
    assert not spy.ran("mount")
    assert not spy.ran("device mount-point")


def test_what_ends_the_watch_reaches_the_test(tmp_path: Path) -> None:
    spy = Spy(tmp_path, ["/not below the folder"])
    spy.start()
    spy.join(30)
    with pytest.raises(NotImplementedError):
        spy.end()
