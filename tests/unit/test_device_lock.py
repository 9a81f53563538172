"""The device file under a passphrase or a keyring, and what a thief or a hostile writer can do.

Data flow: identity -> DeviceFile with a lock -> bytes changed on purpose -> refused.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from parsec_fs.device_file import DeviceFile
from parsec_fs.device_lock import (
    KEY_FILE,
    KEYRING,
    PASSPHRASE,
    KeyFileLock,
    KeyringLock,
    PassphraseLock,
    describe,
    head_of,
    lock_name,
    open_passphrase_lock,
    passphrase_lock,
    split,
)
from parsec_fs.identity import Identity
from parsec_fs.passphrase import FLOOR
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError
from parsec_fs.protocol.limits import KIB, MIB
from tests.support.identities import CountingRandom, founded

GIB = 1024 * MIB
WORDS = b"correct horse battery"


@dataclass
class Holder:
    """A key source that knows one key and counts how often it was asked."""

    key: bytes
    asked: int = 0

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        self.asked += 1
        return self.key

    def keyring_key(self, lock: KeyringLock) -> bytes:
        self.asked += 1
        return self.key


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founded()[1]


@pytest.fixture(scope="module")
def locked() -> tuple[PassphraseLock, bytes]:
    """A lock, derived once: it costs what it shall cost a thief."""
    key = os.urandom(32)
    return passphrase_lock(WORDS, cost=FLOOR, key=key, random=os.urandom), key


@pytest.fixture
def file(tmp_path: Path, identity: Identity, locked: tuple[PassphraseLock, bytes]) -> DeviceFile:
    lock, key = locked
    file = DeviceFile(tmp_path / "device", Holder(key))
    file.create(identity, random=CountingRandom())
    file.replace_lock(identity, lock, key, random=os.urandom)
    return file


def test_a_passphrase_opens_and_the_key_file_is_gone(
    file: DeviceFile, identity: Identity, locked: tuple[PassphraseLock, bytes]
) -> None:
    lock, key = locked
    assert file.lock() == lock
    assert open_passphrase_lock(lock, WORDS) == key
    assert file.load() == identity
    assert sorted(os.listdir(file.data_path.parent)) == ["device.dat"]
    assert file.data_path.stat().st_mode & 0o777 == 0o600
    data = file.data_path.read_bytes()
    assert data[0] == PASSPHRASE
    for secret in (identity.secrets.sign_seed, bytes(identity.anchor.org), key, WORDS):
        assert secret not in data


def test_another_passphrase_does_not(locked: tuple[PassphraseLock, bytes]) -> None:
    with pytest.raises(DecryptionError):
        open_passphrase_lock(locked[0], b"correct horse batterz")


def test_without_anybody_to_ask_the_next_command_is_named(file: DeviceFile) -> None:
    with pytest.raises(DeviceFileError, match="parsec-fs unlock"):
        DeviceFile(file.data_path.parent).load()


def test_saving_keeps_the_lock(
    file: DeviceFile, identity: Identity, locked: tuple[PassphraseLock, bytes]
) -> None:
    before = file.data_path.read_bytes()
    file.save(identity, random=os.urandom)
    assert file.data_path.read_bytes() != before
    assert (file.lock(), file.load()) == (locked[0], identity)


def test_back_to_a_key_file(file: DeviceFile, identity: Identity) -> None:
    file.replace_lock(identity, KeyFileLock(), b"k" * 32, random=os.urandom)
    assert file.data_path.read_bytes()[0] == KEY_FILE
    assert DeviceFile(file.data_path.parent).load() == identity


def test_keyring_lock(file: DeviceFile, identity: Identity) -> None:
    lock = KeyringLock(entry=b"e" * 16)
    file.replace_lock(identity, lock, b"k" * 32, random=os.urandom)
    assert file.data_path.read_bytes()[0] == KEYRING
    folder = file.data_path.parent
    assert DeviceFile(folder, Holder(b"k" * 32)).load() == identity
    with pytest.raises(DeviceFileError, match="is not its key"):
        DeviceFile(folder, Holder(b"l" * 32)).load()
    with pytest.raises(DeviceFileError, match="keyring"):
        DeviceFile(folder).load()


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("fewer passes", lambda cost: replace(cost, iterations=1)),
        ("less memory", lambda cost: replace(cost, memory_kib=8 * KIB)),
        ("100 GiB", lambda cost: replace(cost, memory_kib=100 * GIB // KIB)),
        ("endless", lambda cost: replace(cost, iterations=2**32 - 1)),
        ("255 lanes", lambda cost: replace(cost, lanes=255)),
    ],
)
def test_a_changed_cost_is_refused_before_anybody_is_asked(
    file: DeviceFile,
    locked: tuple[PassphraseLock, bytes],
    what: str,
    change: Callable[[object], object],
) -> None:
    lock, key = locked
    hostile = replace(lock, cost=change(lock.cost))  # type: ignore[arg-type]
    sealed = file.data_path.read_bytes()[len(head_of(lock)) :]
    file.data_path.write_bytes(head_of(hostile) + sealed)
    asked = Holder(key)
    with pytest.raises(DeviceFileError, match="cost"):
        DeviceFile(file.data_path.parent, asked).load()
    assert asked.asked == 0, what


def test_a_cost_within_bounds_that_was_changed_opens_nothing(
    file: DeviceFile, locked: tuple[PassphraseLock, bytes]
) -> None:
    lock, _ = locked
    hostile = replace(lock, cost=replace(lock.cost, lanes=1))
    with pytest.raises(DecryptionError):
        open_passphrase_lock(hostile, WORDS)
    sealed = file.data_path.read_bytes()[len(head_of(lock)) :]
    file.data_path.write_bytes(head_of(hostile) + sealed)
    with pytest.raises(DeviceFileError):
        file.load()


def test_the_lock_of_another_file_opens_nothing(
    file: DeviceFile, identity: Identity, locked: tuple[PassphraseLock, bytes], tmp_path: Path
) -> None:
    """Whoever can write the file puts a lock there whose passphrase is theirs."""
    lock, key = locked
    mine = passphrase_lock(b"the thief's own", cost=FLOOR, key=b"t" * 32, random=os.urandom)
    sealed = file.data_path.read_bytes()[len(head_of(lock)) :]
    file.data_path.write_bytes(head_of(mine) + sealed)
    for source in (Holder(b"t" * 32), Holder(key)):
        with pytest.raises(DeviceFileError, match="is not its key"):
            DeviceFile(file.data_path.parent, source).load()
    with pytest.raises(DeviceFileError, match="replaced meanwhile"):
        file.check_key(lock, key)
    assert lock_name(mine) != lock_name(lock)


def test_a_method_exchanged_opens_nothing(file: DeviceFile, identity: Identity) -> None:
    data = bytearray(file.data_path.read_bytes())
    for method in {0, KEY_FILE, KEYRING, 4, 255}:
        data[0] = method
        file.data_path.write_bytes(data)
        with pytest.raises(DeviceFileError):
            file.load()


def test_truncated_anywhere_it_is_refused(file: DeviceFile) -> None:
    data = file.data_path.read_bytes()
    for size in {0, 1, 2, 3, 40, 100, 150, len(data) // 2, len(data) - 1}:
        file.data_path.write_bytes(data[:size])
        with pytest.raises(DeviceFileError):
            file.load()


def test_every_bit_of_the_head_counts(
    file: DeviceFile, locked: tuple[PassphraseLock, bytes]
) -> None:
    data = file.data_path.read_bytes()
    for position in range(len(head_of(locked[0])) + 1):
        changed = bytearray(data)
        changed[position] ^= 1
        file.data_path.write_bytes(changed)
        with pytest.raises(DeviceFileError):
            file.load()


def test_a_lock_of_trailing_bytes_is_none(locked: tuple[PassphraseLock, bytes]) -> None:
    encoded = encode(locked[0]) + b"\x00"
    with pytest.raises(DataError):
        split(bytes((PASSPHRASE,)) + len(encoded).to_bytes(2, "big") + encoded)


def test_people_read_what_opens_their_keys(locked: tuple[PassphraseLock, bytes]) -> None:
    assert describe(locked[0]) == "a passphrase (Argon2id, 64 MiB, 3 passes)"
    assert "0600" in describe(KeyFileLock())
    assert "keyring" in describe(KeyringLock(entry=bytes(16)))
