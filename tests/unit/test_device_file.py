"""The device file: permissions, damage, wrong key, never half written."""

import os
from pathlib import Path

import pytest

from parsec_fs.device_file import DeviceFile, write_beside_others
from parsec_fs.device_lock import KeyringLock
from parsec_fs.identity import Identity
from parsec_fs.protocol.errors import DeviceFileError
from tests.support.identities import CountingRandom, founded


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founded()[1]


@pytest.fixture
def file(tmp_path: Path, identity: Identity) -> DeviceFile:
    file = DeviceFile(tmp_path / "device")
    file.create(identity, random=CountingRandom())
    return file


def test_round_trip(file: DeviceFile, identity: Identity) -> None:
    assert file.load() == identity


def test_only_the_user_can_read(file: DeviceFile) -> None:
    for path in (file.data_path, file.key_path):
        assert path.stat().st_mode & 0o777 == 0o600
    assert file.data_path.parent.stat().st_mode & 0o777 == 0o700


def test_secrets_are_sealed(file: DeviceFile, identity: Identity) -> None:
    data = file.data_path.read_bytes()
    assert data[0] == 1
    assert identity.secrets.sign_seed not in data
    assert bytes(identity.anchor.org) not in data


def test_a_device_is_never_overwritten(file: DeviceFile, identity: Identity) -> None:
    with pytest.raises(DeviceFileError, match="already has a device"):
        file.create(identity, random=os.urandom)


def test_missing_device_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(DeviceFileError, match="parsec-fs org create"):
        DeviceFile(tmp_path).load()


@pytest.mark.parametrize("position", [0, 1, 40, -1])
def test_damage_is_noticed(file: DeviceFile, position: int) -> None:
    data = bytearray(file.data_path.read_bytes())
    data[position] ^= 1
    file.data_path.write_bytes(data)
    with pytest.raises(DeviceFileError):
        file.load()


def test_another_key_does_not_open(file: DeviceFile) -> None:
    file.key_path.write_bytes(os.urandom(32))
    with pytest.raises(DeviceFileError, match="is not its key"):
        file.load()


def test_key_that_others_can_read_is_refused(file: DeviceFile) -> None:
    file.key_path.chmod(0o640)
    with pytest.raises(DeviceFileError, match="chmod 600"):
        file.load()


def test_saving_replaces_and_leaves_nothing_behind(file: DeviceFile, identity: Identity) -> None:
    before = file.data_path.read_bytes()
    file.save(identity, random=os.urandom)
    assert file.data_path.read_bytes() != before
    assert file.load() == identity
    assert sorted(os.listdir(file.data_path.parent)) == ["device.dat", "device.key"]


def test_rest_of_an_interrupted_save_does_no_harm(file: DeviceFile, identity: Identity) -> None:
    file.data_path.with_suffix(".new").write_bytes(b"half")
    assert file.load() == identity
    file.save(identity, random=os.urandom)
    assert file.load() == identity


@pytest.mark.parametrize("left", ["joining.dat", "joining.new"])
def test_keys_of_a_join_go_at_the_next_start(
    file: DeviceFile, identity: Identity, left: str
) -> None:
    """The process that joined was killed before it could take them away."""
    path = file.data_path.with_name(left)
    path.write_bytes(b"keys")
    assert file.load() == identity
    assert not path.exists()


def test_no_lock_is_put_beside_keys_in_the_clear(file: DeviceFile, identity: Identity) -> None:
    file.joining_path.write_bytes(b"keys")
    file.replace_lock(identity, KeyringLock(entry=bytes(16)), bytes(32), random=os.urandom)
    assert sorted(os.listdir(file.data_path.parent)) == ["device.dat"]


def test_keys_that_cannot_be_removed_are_told(file: DeviceFile) -> None:
    (file.joining_path / "folder").mkdir(parents=True)
    with pytest.raises(DeviceFileError, match="holds keys in the clear"):
        file.load()


def test_a_file_beside_those_of_the_user_takes_none_of_them_away(tmp_path: Path) -> None:
    (tmp_path / "words.new").write_text("mine")
    write_beside_others(tmp_path / "words.txt", b"words")
    assert (tmp_path / "words.new").read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["words.new", "words.txt"]


def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "words.txt").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_beside_others(tmp_path / "words.txt", b"words")
    assert [one.name for one in tmp_path.iterdir()] == ["words.txt"]
