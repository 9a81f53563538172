"""Sealed blocks: put and get by id, at the server or where its storage redirects to (rule 18).

Data flow: sync, contents -> this -> server/blocks or S3.

The server may answer with a temporary redirect to a presigned URL; that request goes out without
our authorization. Blocks are ciphertext whose digest the manifest names: the reader checks it.
"""

from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.errors import OfflineError, RefusedError
from parsec_fs.protocol.ids import BlockId, RealmId
from parsec_fs.protocol.limits import SEALED_BLOCK_MAX_SIZE
from parsec_fs.remote.sessions import Signer, body_of
from parsec_fs.remote.transport import HttpAnswer

_REDIRECTS = (302, 303, 307, 308)


class BlockClient:
    """Blocks of one realm."""

    def __init__(self, signer: Signer, realm: RealmId) -> None:
        self._signer = signer
        self._realm = realm

    async def put(self, block_id: BlockId, sealed: bytes) -> None:
        """Store a block; repeating it with the same bytes is fine. Raises OfflineError,
        RefusedError (EXISTS: other bytes under this id)."""
        answer = await self._signer.send("PUT", self._path(block_id), sealed)
        if answer.status in _REDIRECTS:
            answer = await self._follow("PUT", answer, sealed)
            if answer.status >= 300:
                raise OfflineError(f"block storage answered with status {answer.status}")
            return
        body_of(answer)

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
        location = redirect.headers.get("location", "")
        if not location.startswith(("https://", "http://")):
            raise OfflineError("block storage redirects to nowhere")
        return await self._signer.transport.send(
            method, location, body, {}, max_size=SEALED_BLOCK_MAX_SIZE + 1024
        )

    def _path(self, block_id: BlockId) -> str:
        return f"/v1/blocks/{self._realm.hex()}/{block_id.hex()}"
