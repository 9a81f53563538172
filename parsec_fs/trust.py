"""Renewing trust in the chain after a long absence (rule 29).

Data flow: a device that kept up -> TrustFile -> carried by a person -> this device's audit states.

Keys of a past validator set are believed for 30 days only: who holds them later could have sold
them. After that neither the chain nor a majority of devices can help, only a person who brings a
newer header from a device that never stopped auditing. It never moves trust back, and never to
another chain.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from parsec_fs.audit.audit_store import DeviceAuditStore
from parsec_fs.audit.ports import AuditRecord
from parsec_fs.config import Home
from parsec_fs.identity import Identity
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, InputError, RollbackError
from parsec_fs.protocol.ids import Hash, OrgId
from parsec_fs.storage.org_store import OrgStore

FORMAT: Final = b"parsec-fs trust 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustFile:
    """The newest chain header that a device of this organization verified."""

    org: OrgId
    genesis: Hash
    chain: TrustState


def encode_trust(trust: TrustFile) -> bytes:
    """The file. It is public; what counts is that it is not exchanged on the way."""
    return FORMAT + encode(trust)


def decode_trust(data: bytes) -> TrustFile:
    """Raises DataError."""
    if not data.startswith(FORMAT):
        raise DataError("not a trust file")
    return decode(TrustFile, data[len(FORMAT) :])


def newest_trust(home: Home, identity: Identity) -> TrustFile:
    """Raises InputError if nothing was ever audited here."""
    with _stores(home, identity) as stores:
        states = [record.state.chain for _, record in _records(stores)]
    verified = [one for one in states if one.height]
    if not verified:
        raise InputError("no chain header was ever verified on this device; mount a workspace")
    newest = max(verified, key=lambda one: one.height)
    return TrustFile(org=identity.anchor.org, genesis=identity.anchor.genesis, chain=newest)


async def renew_trust(home: Home, identity: Identity, given: TrustFile) -> Identity:
    """Believe the given header from now on; the identity to be saved.

    Raises InputError for another organization or chain, RollbackError for an older header."""
    anchor = identity.anchor
    if (given.org, given.genesis) != (anchor.org, anchor.genesis):
        raise InputError("that trust file is of another organization")
    if given.chain.chain_id != anchor.chain.chain_id:
        raise InputError("that trust file is of another chain")
    with _stores(home, identity) as stores:
        records = list(_records(stores))
        newest = max((record.state.chain.height for _, record in records), default=0)
        if given.chain.height < newest:
            raise RollbackError(f"this device has verified header {newest} already")
        for store, record in records:
            state = replace(record.state, chain=given.chain)
            await store.save(encode(replace(record, state=state)))
    renewed = replace(
        anchor.chain,
        validators=given.chain.validators,
        trusted_from_ns=given.chain.time_ns,
    )
    return replace(identity, anchor=replace(anchor, chain=renewed))


@contextmanager
def _stores(home: Home, identity: Identity) -> Iterator[list[DeviceAuditStore]]:
    store = OrgStore(home.org_database, identity.anchor.org)
    try:
        yield DeviceAuditStore.all(store, home.evidence)
    finally:
        store.close()


def _records(
    stores: Iterable[DeviceAuditStore],
) -> Iterator[tuple[DeviceAuditStore, AuditRecord]]:
    for store in stores:
        stored = store.load()
        if stored is not None:
            yield store, decode(AuditRecord, stored)
