"""`PUT` and `GET /v1/blocks/<realm>/<id>`, `POST /v1/blocks/put`: sealed blocks, create-only
(rule 18).

Data flow: signed request -> endpoint -> this -> decisions -> server/blocks -> database.

Contents and length are bound by the request's signature, which covers the hash of the body: the
same SHA-256 that the database keeps of the block, computed once, from what arrived. Of blocks that
come together it covers the digest and the bytes of each.
"""

import logging
from collections.abc import Sequence
from typing import Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from parsec_fs.protocol.block_batches import BlocksPut, PutBlocks, SealedBlock
from parsec_fs.protocol.certificates import CONTRIBUTOR, READER
from parsec_fs.protocol.commands import STORAGE_FULL, Nothing, Outcome
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import BlockId, Hash, LogId, RealmId
from parsec_fs.protocol.limits import BLOCKS_MAX_SIZE, SEALED_BLOCK_MAX_SIZE
from server.blocks.base import Redirect, Stored
from server.decisions.blocks import decide_blocks
from server.http.endpoint import Refused, authenticate, command, hash_of, read_body, route
from server.http.services import Services
from server.log.sequencer import Caller
from server.store import logs, records
from server.store.records import StoredBlock

log = logging.getLogger(__name__)

PATH = "/v1/blocks/{realm}/{block}"
_OUTCOMES: Final = {
    Stored.DURABLE: Outcome.OK,
    Stored.TAKEN: Outcome.EXISTS,
    Stored.FULL: Outcome.QUOTA,
    Stored.FAILED: Outcome.UNAVAILABLE,
}


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
        realm, block = allowed
        one = SealedBlock(id=block, digest=digest, sealed=body)
        outcome = (await _store(services, realm, [one]))[block]
        if outcome is Outcome.QUOTA:
            return Refused(outcome=outcome, status=STORAGE_FULL)
        return Nothing() if outcome is Outcome.OK else outcome

    async def put_many(caller: Caller, request: PutBlocks) -> BlocksPut | Outcome:
        state = await services.reader.realm(caller, request.realm, least=CONTRIBUTOR)
        if isinstance(state, Outcome):
            return state
        sound = await anyio.to_thread.run_sync(_sound, request.blocks)
        found = await _store(services, request.realm, sound)
        outcomes = [found.get(one.id, Outcome.BAD_REQUEST) for one in request.blocks]
        return BlocksPut(outcomes=tuple(map(int, outcomes)))

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

    return [
        route(services, PATH, "PUT", put),
        route(services, PATH, "GET", get),
        command(services, "/v1/blocks/put", PutBlocks, put_many, limit=BLOCKS_MAX_SIZE),
    ]


def _sound(blocks: Sequence[SealedBlock]) -> list[SealedBlock]:
    """Those whose bytes have the digest that is signed for them. A hash costs little beside what a
    wrong one would: a file that no device can read, and an id that nobody can use again."""
    return [one for one in blocks if sha256(one.sealed) == one.digest]


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
    known = await services.database.read(
        lambda transaction: records.stored_blocks(transaction, LogId(realm), [block])
    )
    return known.get(block)


async def _store(
    services: Services, realm: RealmId, blocks: Sequence[SealedBlock]
) -> dict[BlockId, Outcome]:
    """What becomes of each, which is durable now."""
    known, used = await services.database.read(
        lambda transaction: (
            records.stored_blocks(transaction, LogId(realm), [one.id for one in blocks]),
            logs.stored_bytes(transaction, LogId(realm)),
        )
    )
    decided = decide_blocks(
        blocks,
        known={block: one.digest for block, one in known.items()},
        room=services.config.quotas.realm_bytes - used,
    )
    new = {one.id: one for one in blocks if one.id not in known and decided[one.id] is Outcome.OK}
    if not new:
        return decided
    stored = await services.blocks.put(realm, {block: one.sealed for block, one in new.items()})
    if Stored.FULL in stored.values():
        log.error("block storage is full: devices keep what they have to send")
    entries = {
        block: StoredBlock(digest=one.digest, size=len(one.sealed))
        for block, one in new.items()
        if stored[block] is Stored.DURABLE
    }
    if entries:
        await services.database.write(
            lambda transaction: records.add_blocks(transaction, LogId(realm), entries)
        )
    return decided | {block: _OUTCOMES[one] for block, one in stored.items()}
