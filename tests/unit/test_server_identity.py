"""The server's key files: what a change of the statements' keys leaves on disk, also half-way.

Data flow: `create_identity`, `change_keys` -> files -> `load_identity`.
"""

import stat
from pathlib import Path

import pytest

from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.limits import KEY_CHANGES_MAX
from parsec_fs.protocol.statements import statement_keys
from server.identity import (
    KEY_CHANGES_FILE,
    ServerIdentity,
    change_keys,
    create_identity,
    load_identity,
)

CHAIN = b"parsec-test"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_identity(tmp_path / "server", name=b"server", epoch_ms=2_000, heartbeat_ms=2_000)
    return tmp_path / "server"


def public(identity: ServerIdentity) -> tuple[bytes, bytes]:
    key, co_key = identity.statement_keys
    return key.verify_key.raw, co_key.verify_key.raw


def reached(identity: ServerIdentity) -> tuple[bytes, bytes]:
    """Where the changes lead whoever knows the registration alone."""
    registration = identity.registration
    key, co_key = statement_keys(
        identity.changes,
        chain_id=CHAIN,
        server_log=registration.server_log,
        head_key=registration.head_key,
        co_key=registration.co_key,
    )
    return key.raw, co_key.raw


def test_first_statements_are_signed_by_the_registered_pair(home: Path) -> None:
    identity = load_identity(home)
    assert public(identity) == (identity.registration.head_key, identity.registration.co_key)
    assert reached(identity) == public(identity)


def test_changes_lead_from_the_registered_pair_to_the_present_one(home: Path) -> None:
    before = load_identity(home)
    for count in range(1, KEY_CHANGES_MAX + 1):
        changed = change_keys(home, chain_id=CHAIN)
        loaded = load_identity(home)
        assert public(loaded) == public(changed) == reached(loaded)
        assert len(loaded.changes) == count
        assert loaded.registration == before.registration
        assert loaded.head_key.verify_key == before.head_key.verify_key
    with pytest.raises(InputError, match="new server"):
        change_keys(home, chain_id=CHAIN)


def test_key_files_are_private(home: Path) -> None:
    change_keys(home, chain_id=CHAIN)
    files = sorted(home.glob("statement-*"))
    assert len(files) == 2
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in files)


def test_interrupted_change_leaves_the_old_pair_in_force(home: Path) -> None:
    change_keys(home, chain_id=CHAIN)
    before = load_identity(home)
    (home / "statement-2.key").write_bytes(b"cut short")
    assert public(load_identity(home)) == public(before)
    changed = change_keys(home, chain_id=CHAIN)
    assert public(load_identity(home)) == public(changed)


def test_files_that_do_not_belong_together_are_refused(home: Path) -> None:
    change_keys(home, chain_id=CHAIN)
    (home / "statement-1.key").write_bytes(bytes(32))
    with pytest.raises(InputError):
        load_identity(home)
    (home / "statement-1.key").unlink()
    with pytest.raises(InputError):
        load_identity(home)
    (home / KEY_CHANGES_FILE).write_bytes(b"\x00")
    with pytest.raises(InputError):
        load_identity(home)
