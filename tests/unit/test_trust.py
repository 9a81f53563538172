"""Renewing trust: forward only, same organization, same chain."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.headers import trust_anchor
from parsec_fs.audit.ports import AuditRecord, stored_trust
from parsec_fs.audit.trusted_state import fresh_state
from parsec_fs.config import Home
from parsec_fs.directory import Workspace, keep_workspaces
from parsec_fs.identity import Identity
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError, InputError, RollbackError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import LogId, OrgId, RealmId
from parsec_fs.storage.org_store import OrgStore
from parsec_fs.trust import TrustFile, decode_trust, encode_trust, newest_trust, renew_trust
from tests.support.identities import founded

REALMS = (RealmId(b"a" * 32), RealmId(b"b" * 32))


@pytest.fixture
def identity() -> Identity:
    return founded()[1]


def trust_at(identity: Identity, height: int) -> TrustState:
    start = trust_anchor(identity.anchor.chain)
    header_hash = sha256(height.to_bytes(8, "big"))
    return replace(start, height=height, header_hash=header_hash, time_ns=start.time_ns + height)


@pytest.fixture
async def home(tmp_path: Path, identity: Identity) -> Home:
    """A device that audited two workspaces, up to headers 5 and 9."""
    home = Home(root=tmp_path)
    store = OrgStore(home.org_database, identity.anchor.org)
    found = tuple(Workspace(realm=one, name=one[:1]) for one in REALMS)
    await keep_workspaces(store, identity.secrets, found)
    for realm, height in zip(REALMS, (5, 9), strict=True):
        logs = (LogId(identity.anchor.org), LogId(realm))
        state = fresh_state(logs, chain=trust_at(identity, height))
        record = AuditRecord(state=state, convictions=())
        await DeviceAuditStore(store, LogId(realm), home.evidence).save(encode(record))
    store.close()
    return home


def stored(home: Home, identity: Identity) -> list[int]:
    """Heights from which the workspaces' light clients would go on."""
    store = OrgStore(home.org_database, identity.anchor.org)
    try:
        stores = [DeviceAuditStore(store, LogId(one), home.evidence) for one in REALMS]
        return [stored_trust(one, identity.anchor).height for one in stores]
    finally:
        store.close()


def given(identity: Identity, height: int) -> TrustFile:
    anchor = identity.anchor
    return TrustFile(org=anchor.org, genesis=anchor.genesis, chain=trust_at(identity, height))


async def test_newest_header_is_exported(home: Home, identity: Identity) -> None:
    assert newest_trust(home, identity).chain.height == 9


async def test_nothing_to_export_before_the_first_audit(tmp_path: Path, identity: Identity) -> None:
    with pytest.raises(InputError, match="no chain header"):
        newest_trust(Home(root=tmp_path / "fresh"), identity)


async def test_renewal_moves_every_workspace_forward(home: Home, identity: Identity) -> None:
    renewed = await renew_trust(home, identity, given(identity, 40))
    assert stored(home, identity) == [40, 40]
    assert renewed.anchor.chain.trusted_from_ns == trust_at(identity, 40).time_ns
    assert replace(renewed.anchor, chain=identity.anchor.chain) == identity.anchor


Lie = Callable[[TrustFile], TrustFile]
LIES: list[tuple[str, Lie, type[Exception]]] = [
    ("older", lambda one: replace(one, chain=replace(one.chain, height=8)), RollbackError),
    ("other org", lambda one: replace(one, org=OrgId(bytes(32))), InputError),
    ("other genesis", lambda one: replace(one, genesis=sha256(b"")), InputError),
    ("chain", lambda one: replace(one, chain=replace(one.chain, chain_id=b"x")), InputError),
]


@pytest.mark.parametrize(("lie", "error"), [one[1:] for one in LIES], ids=[one[0] for one in LIES])
async def test_what_does_not_fit_is_refused(
    home: Home, identity: Identity, lie: Lie, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await renew_trust(home, identity, lie(given(identity, 40)))
    assert stored(home, identity) == [5, 9]


async def test_file_round_trip(identity: Identity) -> None:
    trust = given(identity, 3)
    assert decode_trust(encode_trust(trust)) == trust
    with pytest.raises(DataError):
        decode_trust(b"parsec-fs proof 1\n")
