"""A chain node that lies: a door to a real one, with exactly one thing in its answers forged.

Data flow: device -> `LyingNode.app` -> real node -> answer, forged as told -> device.

It works for a server that signed a second statement for each epoch: every lie tries to make a
device believe that the validators agreed on that one. What is forged follows from the epoch and the
height, so that the node's past never changes.

    value    the other statement, under the honest proof
    proof    the other statement, under a proof made to fit it, below an honest header
    header   and below a header made to fit that, with the honest commit of another header
    commit   and with a commit made to fit the header, which nobody signed
"""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from parsec_fs.audit.headers import header_hash
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    MapProof,
    ProofOperation,
    decode_operation,
    encode_operation,
    map_leaf_hash,
    proven_root,
)
from parsec_fs.protocol.statements import SignedStatement, Statement
from server.chain import ChainNode

Json = dict[str, Any]
HONEST: Final = ""
LIES: Final = ("value", "proof", "header", "commit")


class LyingNode:
    """`statement` gives what it wants devices to believe of an epoch."""

    def __init__(self, real: ChainNode, statement: Callable[[int], Awaitable[SignedStatement]]):
        self.lie = HONEST
        self._real = real
        self._statement = statement
        self._app_hashes: dict[int, bytes] = {}
        self.app = Starlette(routes=[Route("/", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> Response:
        question = await request.json()
        raw = await self._real.call(question["method"], question.get("params", {}))
        if self.lie and question["method"] in ("abci_query", "commit"):
            raw = await self._forge(question["method"], raw)
        return Response(raw, media_type="application/json")

    async def _forge(self, method: str, raw: bytes) -> bytes:
        document = json.loads(raw)
        if "error" in document:
            return raw
        if method == "abci_query":
            await self._forge_state(document["result"]["response"])
        else:
            self._forge_block(document["result"]["signed_header"])
        return json.dumps(document).encode()

    async def _forge_state(self, response: Json) -> None:
        """The other statement; its proof made to fit, except for the lie `value`."""
        honest = decode(SignedStatement, base64.b64decode(response["value"]))
        epoch = decode(Statement, honest.statement).epoch
        value = encode(await self._statement(epoch))
        response["value"] = base64.b64encode(value).decode()
        if self.lie == "value":
            return
        inner, outer = (_operation(one) for one in response["proofOps"]["ops"])
        first = _fitting(inner, value)
        second = _fitting(outer, proven_root(inner.key, value, first))
        response["proofOps"]["ops"] = [_text(inner.key, first), _text(HEADS_KEY, second)]
        below = proven_root(HEADS_KEY, proven_root(inner.key, value, first), second)
        # The header of the next height carries this state.
        self._app_hashes[int(response["height"]) + 1] = below

    def _forge_block(self, signed: Json) -> None:
        """A header over the forged state; `commit` also forges what the commit is for."""
        height = int(signed["header"]["height"])
        if self.lie not in ("header", "commit") or height not in self._app_hashes:
            return
        signed["header"]["app_hash"] = self._app_hashes[height].hex().upper()
        if self.lie == "commit":
            checked = chain_rpc.parse_signed_header(
                json.dumps({"result": {"signed_header": signed}}).encode()
            )
            signed["commit"]["block_id"]["hash"] = header_hash(checked.header).hex().upper()


def _operation(fields: Json) -> ProofOperation:
    return ProofOperation(
        kind=fields["type"],
        key=base64.b64decode(fields["key"]),
        data=base64.b64decode(fields["data"]),
    )


def _fitting(operation: ProofOperation, value: bytes) -> MapProof:
    """The same place in the map, with another value."""
    honest = decode_operation(operation)
    return MapProof(
        total=honest.total,
        index=honest.index,
        leaf_hash=map_leaf_hash(operation.key, value),
        aunts=honest.aunts,
    )


def _text(key: bytes, proof: MapProof) -> Json:
    operation = encode_operation(key, proof)
    return {
        "type": operation.kind,
        "key": base64.b64encode(operation.key).decode(),
        "data": base64.b64encode(operation.data).decode(),
    }
