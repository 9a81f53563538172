"""`PUT` and `GET /v1/blocks/<realm>/<id>`: sealed blocks, create-only (rule 18).

Data flow: signed request -> endpoint -> this -> server/blocks.

Contents and length are bound by the request's signature, which covers the hash of the body: the
same SHA-256 that the database keeps of the block, computed once, from what arrived.
"""

import errno
import logging

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from parsec_fs.protocol.certificates import CONTRIBUTOR, READER
from parsec_fs.protocol.commands import STORAGE_FULL, Nothing, Outcome
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId, Hash, LogId, RealmId
from parsec_fs.protocol.limits import SEALED_BLOCK_MAX_SIZE
from server.blocks.base import Redirect
from server.http.endpoint import Refused, authenticate, hash_of, read_body, route
from server.http.services import Services
from server.store import logs, records
from server.store.records import StoredBlock

log = logging.getLogger(__name__)

PATH = "/v1/blocks/{realm}/{block}"


def routes(services: Services) -> list[Route]:
    """Data flow: device -> role -> block store; the database knows digest and size."""

    async def put(request: Request) -> object:
        body = await read_body(request, SEALED_BLOCK_MAX_SIZE)
        if isinstance(body, Outcome):
            return body
        digest = await hash_of(services, request, body)
        if isinstance(digest, Outcome):
            return digest
        allowed = await _allowed(services, request, digest, least=CONTRIBUTOR)
        if isinstance(allowed, Outcome):
            return allowed
        if not body:
            return Outcome.BAD_REQUEST
        return await _store(services, *allowed, body, StoredBlock(digest=digest, size=len(body)))

    async def get(request: Request) -> object:
        allowed = await _allowed(services, request, sha256(b""), least=READER)
        if isinstance(allowed, Outcome):
            return allowed
        found = await services.blocks.get(*allowed)
        if found is None:
            return Outcome.NOT_FOUND
        if isinstance(found, Redirect):
            # Asked here: storage may refuse to say that it has no such block (S3: 403), and a
            # device has to know, or it tries for ever to send a file whose block is lost.
            if await _known(services, *allowed) is None:
                return Outcome.NOT_FOUND
            return RedirectResponse(found.url, status_code=307)
        return Response(found, media_type="application/octet-stream")

    return [route(services, PATH, "PUT", put), route(services, PATH, "GET", get)]


async def _allowed(
    services: Services, request: Request, body_hash: Hash, *, least: int
) -> tuple[RealmId, BlockId] | Outcome:
    caller = await authenticate(services, request, body_hash)
    if isinstance(caller, Outcome):
        return caller
    try:
        realm = RealmId(bytes.fromhex(request.path_params["realm"]))
        block = BlockId(bytes.fromhex(request.path_params["block"]))
    except ValueError:
        return Outcome.BAD_REQUEST
    if len(realm) != 32 or len(block) != 16:
        return Outcome.BAD_REQUEST
    state = await services.reader.realm(caller, realm, least=least)
    return state if isinstance(state, Outcome) else (realm, block)


async def _known(services: Services, realm: RealmId, block: BlockId) -> StoredBlock | None:
    return await services.database.read(
        lambda transaction: records.stored_block(transaction, LogId(realm), block)
    )


async def _store(
    services: Services, realm: RealmId, block: BlockId, body: bytes, stored: StoredBlock
) -> object:
    realm_log = LogId(realm)
    known, used = await services.database.read(
        lambda transaction: (
            records.stored_block(transaction, realm_log, block),
            logs.stored_bytes(transaction, realm_log),
        )
    )
    if known is not None:
        return Nothing() if known == stored else Outcome.EXISTS
    if used + len(body) > services.config.quotas.realm_bytes:
        return Refused(outcome=Outcome.QUOTA, status=STORAGE_FULL)
    try:
        stored_now = await services.blocks.put(realm, block, body)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        log.error("block storage is full: devices keep what they have to send")
        return Refused(outcome=Outcome.QUOTA, status=STORAGE_FULL)
    if not stored_now:
        return Outcome.EXISTS
    await services.database.write(
        lambda transaction: records.add_block(transaction, realm_log, block, stored)
    )
    return Nothing()
