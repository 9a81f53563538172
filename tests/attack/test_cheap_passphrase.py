"""Whoever can write a device file makes its passphrase cheap to guess, or too dear to try (A04).

Data flow: device file with another cost -> DeviceFile -> refused before anybody is asked.

The cost is read before anything is authenticated. A lock that was made at such a cost from the
beginning, by another program or on a prepared machine, is whole in every other point: without the
check it opens, and so it does for a thief with a list of words.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from parsec_fs.device_file import DeviceFile
from parsec_fs.device_lock import (
    KeyringLock,
    PassphraseLock,
    head_of,
    open_passphrase_lock,
    passphrase_lock,
)
from parsec_fs.identity import Identity
from parsec_fs.passphrase import COST_CHECKS, FLOOR, Cost, CostChecks
from parsec_fs.protocol.errors import DataError, DecryptionError, DeviceFileError
from tests.support.identities import CountingRandom, founded

CHEAP = Cost(memory_kib=8, iterations=1, lanes=1)
WORDS = b"correct horse battery"
LIST = [b"correct horse %d" % number for number in range(500)] + [WORDS]


class AnyCost(CostChecks):
    """The check left out."""

    def cost(self, unverified: Cost) -> Cost:
        """Whatever is written there."""
        return unverified


@dataclass
class Typist:
    """A person who types the passphrase whenever a program asks."""

    checks: CostChecks
    asked: int = 0

    def passphrase_key(self, lock: PassphraseLock) -> bytes:
        self.asked += 1
        return open_passphrase_lock(lock, WORDS, self.checks)

    def keyring_key(self, lock: KeyringLock) -> bytes:
        raise AssertionError


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founded()[1]


def locked(folder: Path, identity: Identity, cost: Cost) -> PassphraseLock:
    """A device whose lock was made at this cost."""
    key = os.urandom(32)
    lock = passphrase_lock(WORDS, cost=cost, key=key, random=os.urandom, checks=AnyCost())
    file = DeviceFile(folder)
    file.create(identity, random=CountingRandom())
    file.replace_lock(identity, lock, key, random=os.urandom)
    return lock


def guessed(lock: PassphraseLock) -> list[bytes]:
    """What a thief with a list of words and the file finds."""
    found = []
    for word in LIST:
        try:
            open_passphrase_lock(lock, word, AnyCost())
        except DecryptionError:
            continue
        found.append(word)
    return found


@pytest.mark.parametrize(
    "cost", [CHEAP, replace(FLOOR, memory_kib=32), replace(FLOOR, iterations=1)], ids=repr
)
def test_a_cheap_lock_is_not_opened(tmp_path: Path, identity: Identity, cost: Cost) -> None:
    lock = locked(tmp_path, identity, cost)
    before = (tmp_path / "device.dat").read_bytes()
    person = Typist(COST_CHECKS)
    with pytest.raises(DeviceFileError, match="passphrase cost"):
        DeviceFile(tmp_path, person).load()
    assert person.asked == 0
    with pytest.raises(DataError, match="passphrase cost"):
        open_passphrase_lock(lock, WORDS)
    assert (tmp_path / "device.dat").read_bytes() == before


def test_a_cheap_lock_without_the_check(tmp_path: Path, identity: Identity) -> None:
    """The device is used for years behind a passphrase that a list of words opens at once."""
    lock = locked(tmp_path, identity, CHEAP)
    person = Typist(AnyCost())
    assert DeviceFile(tmp_path, person, AnyCost()).load() == identity
    assert person.asked == 1
    assert guessed(lock) == [WORDS]


@pytest.mark.parametrize("checks", [COST_CHECKS, AnyCost()], ids=["checked", "without"])
def test_no_passphrase_is_typed_at_a_cost_that_was_lowered(
    tmp_path: Path, identity: Identity, checks: CostChecks
) -> None:
    """Lowered in the file later it opens nothing, but without the check the passphrase is asked
    for, and goes through a function that costs nothing."""
    lock = locked(tmp_path, identity, FLOOR)
    file, person = tmp_path / "device.dat", Typist(checks)
    sealed = file.read_bytes()[len(head_of(lock)) :]
    lowered = head_of(replace(lock, cost=CHEAP)) + sealed
    file.write_bytes(lowered)
    with pytest.raises(DeviceFileError if checks is COST_CHECKS else DecryptionError):
        DeviceFile(tmp_path, person, checks).load()
    assert person.asked == (0 if checks is COST_CHECKS else 1)
    assert file.read_bytes() == lowered
