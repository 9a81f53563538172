"""Making a recovery kit, trying it, and using it when every device is lost (rule 25).

Data flow: `create`: verified org log -> kit -> paper; record -> server; certificate -> org log.
           `use`: words -> record, checked -> the paper device certifies a new one -> device file.
           `drill`: the same up to the certificate, in a folder that is thrown away.

A kit is shown before anything is certified: who does not write it down has changed nothing. The
record is there before the certificate, so that a kit in the log always works.
"""

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from parsec_fs.config import Home
from parsec_fs.connection import Connection, connect
from parsec_fs.enrolling import certify, check_reached, enrol, with_user_key
from parsec_fs.identity import Identity, label
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import InputError, RefusedError
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import LogState
from parsec_fs.recovery import (
    RECOVERY_CHECKS,
    Kit,
    RecoveryChecks,
    RecoveryRecord,
    check_certified,
    make_kit,
    new_secret,
    open_record,
    paper_keys,
    paper_secrets,
)
from parsec_fs.recovery_begun import begin, end
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import HttpClients, Transport, http_client
from parsec_fs.user_keys import newest_user_key

_ENDED: Final = (
    "these words are not taken (any more): the kit was revoked or never finished. "
    "Another kit or share set of yours may work; your data is where it was"
)


class UnknownKitError(InputError):
    """The server has nothing for these words."""


class RevokedKitError(InputError):
    """The device of these words is none of the user's (any more)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What a kit is good for, as verified: its device, the organization as it is, user keys held
    by it."""

    identity: Identity
    device: Device
    org: OrgState
    generations: int


async def create(
    connection: Connection, *, name: str, confirm: Callable[[Kit], Awaitable[bool]]
) -> Device:
    """Certify a device on paper, called `name`. `confirm` shows the kit to a person, and says
    whether it is written down.

    Raises InputError if it is not, OfflineError, RefusedError, VerificationError."""
    identity, org = connection.identity, await connection.org.pull()
    record = RecoveryRecord(
        anchor=identity.anchor,
        user=identity.secrets.user,
        org_state=connection.org.roots_at(connection.org.size()),
    )
    newest_user_key(org, identity.secrets)
    secret = new_secret(os.urandom)
    if not await confirm(make_kit(secret, record)):
        raise InputError(
            "these are not the words: nothing was made, what you wrote down is worth nothing; "
            "start again: parsec-fs recovery create"
        )
    request = paper_keys(secret).request(label(name))
    await connection.server.put_recovery(request.device, encode(record))
    await certify(connection, request)
    return connection.org.state.device(request.device).device


async def use(
    home: Home,
    kit: Kit,
    *,
    server_url: str,
    device_label: str,
    checks: RecoveryChecks = RECOVERY_CHECKS,
    clients: HttpClients = http_client,
) -> Identity:
    """Become a device of the kit's user; the device file is written last. What was interrupted goes
    on with the same device.

    Raises InputError, OfflineError, RefusedError, VerificationError, DeviceFileError."""
    record = await fetch_record(kit, server_url, checks=checks, clients=clients)
    begun = begin(home, kit, record, device_label)
    secrets, request = begun.secrets, begun.request
    try:
        async with _as_paper(home, kit, record, clients) as paper:
            if request.device not in paper.org.state.devices:
                await certify(paper, request)
            reached = paper.org.roots_at(paper.org.size())
    except BaseException:
        home.org_database.unlink(missing_ok=True)
        raise
    provisional = Identity(anchor=record.anchor, secrets=secrets, pins=(record.org_state, reached))
    identity = await enrol(
        home, provisional, lambda org: with_user_key(org, secrets, request), clients
    )
    end(home)
    return identity


async def drill(
    kit: Kit,
    *,
    server_url: str,
    pins: tuple[LogState, ...] = (),
    checks: RecoveryChecks = RECOVERY_CHECKS,
    clients: HttpClients = http_client,
) -> Drill:
    """Everything that `use` does before it signs, on nothing but the kit; nothing is left here.
    `pins`: what this device knows of the organization's log, if it is the kit's: the server must
    show no other one, and none that is shorter.

    Raises InputError, OfflineError, RefusedError, VerificationError."""
    record = await fetch_record(kit, server_url, checks=checks, clients=clients)
    with tempfile.TemporaryDirectory(prefix="parsec-fs-drill-") as folder:
        home = Home(root=Path(folder))
        async with _as_paper(home, kit, record, clients, pins=pins) as paper:
            org, secrets = paper.org.state, paper.identity.secrets
            return Drill(
                identity=paper.identity,
                device=check_certified(org, secrets),
                org=org,
                generations=newest_user_key(org, secrets).generation,
            )


async def fetch_record(
    kit: Kit,
    server_url: str,
    *,
    checks: RecoveryChecks = RECOVERY_CHECKS,
    clients: HttpClients = http_client,
) -> RecoveryRecord:
    """What the server has for these words, checked; with the address under which it is reached
    now. Raises OfflineError, DataError, TrustchainError; UnknownKitError if it has nothing."""
    device = paper_keys(kit.secret).request(b"").device
    async with clients() as http:
        public = PublicClient(Transport(http, server_url))
        try:
            unverified = await public.read_recovery(device)
        except RefusedError as error:
            if error.outcome != "NOT_FOUND":
                raise
            raise UnknownKitError(
                "this server knows nothing of these words: is its address the one on your paper, "
                "and are these the words of an organization there?"
            ) from error
    record = open_record(unverified, kit, checks=checks)
    # The server may have moved to another name: its keys are pinned, its address need not be.
    return replace(record, anchor=replace(record.anchor, server_url=server_url.encode()))


@asynccontextmanager
async def _as_paper(
    home: Home,
    kit: Kit,
    record: RecoveryRecord,
    clients: HttpClients,
    *,
    pins: tuple[LogState, ...] = (),
) -> AsyncIterator[Connection]:
    """The paper device, its organization replayed and verified. Raises OfflineError,
    VerificationError; RevokedKitError if it is no device any more."""
    secrets = paper_secrets(kit.secret, org=record.anchor.org, user=record.user)
    identity = Identity(anchor=record.anchor, secrets=secrets, pins=(record.org_state, *pins))
    async with connect(home, identity, clients=clients) as connection:
        try:
            org = await connection.org.pull()
        except RefusedError as error:
            if error.outcome not in ("NOT_AUTHENTICATED", "REVOKED"):
                raise
            raise RevokedKitError(_ENDED) from error
        check_reached(connection, identity)
        check_certified(org, secrets)
        if org.device(secrets.device).revoked is not None:
            # Though the server should have refused: what is signed from here on would convict it.
            raise RevokedKitError(_ENDED)
        yield connection
