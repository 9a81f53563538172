"""Sealed blocks: put and get by id, at the server or where its storage redirects to (rule 18).

Data flow: sync, contents -> this -> server/blocks or S3.

The server may answer with a temporary redirect to a presigned URL; that request goes out without
our authorization, and not to every place (`redirects`). Blocks are ciphertext whose digest the
manifest names: the reader checks it.
"""

from typing import Final

from parsec_fs.protocol.block_batches import BlocksPut
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import DataError, OfflineError, RefusedError, StorageFullError
from parsec_fs.protocol.ids import BlockId, Hash, RealmId
from parsec_fs.protocol.limits import KIB, SEALED_BLOCK_MAX_SIZE
from parsec_fs.remote.redirects import Resolve, Target, by_system, targets
from parsec_fs.remote.sessions import Signer, body_of, error_of, outcome_name
from parsec_fs.remote.transport import HttpAnswer

PUT_PATH: Final = "/v1/blocks/put"
_REDIRECTS = (302, 303, 307, 308)
_PUT_ANSWER_MAX_SIZE: Final = 4 * KIB


class BlockClient:
    """Blocks of one realm."""

    def __init__(self, signer: Signer, realm: RealmId, *, resolve: Resolve = by_system) -> None:
        self._signer = signer
        self._realm = realm
        self._resolve = resolve

    async def put(self, block_id: BlockId, sealed: bytes, *, digest: Hash) -> None:
        """Store a block, `digest` being the SHA-256 of its bytes; repeating it with the same bytes
        is fine. Raises OfflineError, RefusedError (EXISTS: other bytes under this id)."""
        answer = await self._signer.send("PUT", self._path(block_id), sealed, body_hash=digest)
        if answer.status in _REDIRECTS:
            answer = await self._follow("PUT", answer, sealed)
            if answer.status >= 300:
                raise OfflineError(f"block storage answered with status {answer.status}")
            return
        body_of(answer)

    async def put_many(
        self, request: bytes, count: int, *, digest: Hash
    ) -> list[RefusedError | OfflineError | None]:
        """Send an encoded `PutBlocks` of `count` blocks, `digest` being its SHA-256; what the
        server says of each, in their order: None if it is stored, OfflineError if it is to be sent
        again. Raises OfflineError, RefusedError (of all), DataError."""
        answer = await self._signer.send(
            "POST", PUT_PATH, request, body_hash=digest, max_size=_PUT_ANSWER_MAX_SIZE
        )
        outcomes = decode(BlocksPut, body_of(answer)).outcomes
        if len(outcomes) != count:
            raise DataError("blocks/put: not an outcome for each block")
        return [_refusal(one) for one in outcomes]

    async def get(self, block_id: BlockId) -> bytes:
        """The sealed block, unverified. Raises OfflineError, RefusedError (NOT_FOUND)."""
        path = self._path(block_id)
        answer = await self._signer.send("GET", path, max_size=SEALED_BLOCK_MAX_SIZE + 1024)
        if answer.status in _REDIRECTS:
            answer = await self._follow("GET", answer, b"")
            if answer.status == 404:
                raise RefusedError(Outcome.NOT_FOUND.name)
        if answer.status == 200:
            return answer.body
        body_of(answer)
        raise OfflineError(f"block storage answered with status {answer.status}")

    async def _follow(self, method: str, redirect: HttpAnswer, body: bytes) -> HttpAnswer:
        found = await targets(
            redirect.headers.get("location", ""),
            base_url=self._signer.transport.base_url,
            peer=redirect.peer,
            resolve=self._resolve,
        )
        for one in found[:-1]:
            try:
                return await self._send(method, one, body)
            except OfflineError:
                continue
        return await self._send(method, found[-1], body)

    async def _send(self, method: str, target: Target, body: bytes) -> HttpAnswer:
        return await self._signer.transport.send(
            method,
            target.url,
            body,
            {"Host": target.host},
            max_size=SEALED_BLOCK_MAX_SIZE + 1024,
            tls_name=target.name,
        )

    def _path(self, block_id: BlockId) -> str:
        return f"/v1/blocks/{self._realm.hex()}/{block_id.hex()}"


def _refusal(outcome: int) -> RefusedError | OfflineError | None:
    if outcome == Outcome.OK:
        return None
    if outcome == Outcome.QUOTA:
        return StorageFullError(outcome_name(outcome))
    return error_of(outcome)
