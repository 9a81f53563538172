"""A daemon that loads before its command knows what to mount: it obeys one order, or ends."""

from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.cli.background import order_daemon
from parsec_fs.cli.early import Orders, begin
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.words import hoist
from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from parsec_fs.device_lock import KeyringLock
from tests.support.identities import CountingRandom, founded

KEY = b"k" * 32


@pytest.fixture
def orders(tmp_path: Path) -> Orders:
    """To serve a workspace of a device that is not there, on a folder that is in use."""
    place = tmp_path / "mnt"
    (place / "taken").mkdir(parents=True)
    return Orders(
        home=str(tmp_path / "home"),
        realm="01" * 32,
        name=b"notes".hex(),
        place=str(place),
        log=str(tmp_path / "logs/daemon.log"),
        fsync="local",
        consistency="local",
        cache_size=1 << 30,
        allow_other=False,
        stored_owners=False,
        key="",
    )


def refused(orders: Orders) -> CommandError:
    """What a child says that is ordered this; it has ended."""
    early = begin(["mount", "notes", "/mnt"])
    assert early is not None
    with early.reports, pytest.raises(CommandError) as caught:
        order_daemon(early, orders, Path(orders.log), lambda text: None)
    assert early.process.returncode is not None
    return caught.value


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["status"],
        ["--home", "mount", "status"],
        ["mount", "notes", "/mnt", "--foreground"],
        ["mount", "notes", "/mnt", "--service"],
        ["mount", "notes", "/mnt", "--ready-fd", "3"],
        ["mount", "--help"],
    ],
)
def test_nothing_starts_that_is_not_needed(typed: list[str]) -> None:
    assert begin(hoist(typed)) is None


def test_a_command_that_fails_leaves_no_process() -> None:
    early = begin(["mount", "notes", "/mnt"])
    assert early is not None
    with early.reports:
        early.dismiss()
        assert early.process.returncode is not None
        assert early.reports.read() == b""


def test_what_keeps_a_child_from_serving_is_said(orders: Orders) -> None:
    """No device lives there: by name, and by exit code."""
    error = refused(orders)
    assert str(error).startswith(f"no device in {orders.home}")
    assert error.code == ExitCode.WRONG_SECRET


def test_a_locked_device_is_opened_by_the_key_that_the_command_had(orders: Orders) -> None:
    """With it the child comes as far as the folder; with another it stays shut."""
    file = DeviceFile(Home(root=Path(orders.home)).device)
    identity, random = founded()[1], CountingRandom()
    file.create(identity, random=random)
    file.replace_lock(identity, KeyringLock(entry=bytes(16)), KEY, random=random)
    assert refused(replace(orders, key=KEY.hex())).code == ExitCode.NOT_EMPTY
    assert refused(replace(orders, key=bytes(32).hex())).code == ExitCode.WRONG_SECRET


def test_a_key_is_never_shown(orders: Orders) -> None:
    assert "5ec2e7" not in repr(replace(orders, key="5ec2e7"))
