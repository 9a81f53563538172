"""A daemon that loads before its command knows what to mount: it obeys one order, or ends."""

from pathlib import Path

import pytest

from parsec_fs.cli.background import order_daemon
from parsec_fs.cli.early import Orders, begin
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.words import hoist


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


def test_what_is_ordered_is_done_and_said(tmp_path: Path) -> None:
    """No device lives there: the child says so, by name and exit code, and ends."""
    early = begin(["mount", "notes", "/mnt"])
    assert early is not None
    orders = Orders(
        home=str(tmp_path / "home"),
        realm="01" * 32,
        name=b"notes".hex(),
        place=str(tmp_path / "mnt"),
        log=str(tmp_path / "logs/daemon.log"),
        fsync="local",
        consistency="local",
        cache_size=1 << 30,
        allow_other=False,
        stored_owners=False,
        key="",
    )
    with early.reports, pytest.raises(CommandError, match=f"no device in {tmp_path}") as caught:
        order_daemon(early, orders, tmp_path / "logs/daemon.log", lambda text: None)
    assert caught.value.code == ExitCode.WRONG_SECRET
    assert early.process.returncode is not None


def test_a_key_is_never_shown() -> None:
    orders = Orders(
        home="/h",
        realm="01",
        name="02",
        place="/m",
        log="/l",
        fsync="local",
        consistency="local",
        cache_size=1,
        allow_other=False,
        stored_owners=False,
        key="5ec2e7",
    )
    assert "5ec2e7" not in repr(orders)
