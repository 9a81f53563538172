"""The light client: from several untrusted nodes to the head that the validators agreed on.

Data flow: chain nodes -> query, header, commit, validators -> headers.verify, simple_map -> the
           verified head of one server log -> audit of the history behind it.

It never takes a node's word. A node whose answers do not verify is recorded as lying, dropped, and
the others are used; that convicts nobody (rule 30). Every header that verifies is compared with all
other nodes: two different ones that both verify are a fork of the chain (ForkError with P8).
Trust grows only after that comparison, and its state is a value that the caller stores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import trio

from parsec_fs.audit.chain_evidence import encode_chain_fork
from parsec_fs.audit.chain_head import VerifiedChainHead, chain_proof
from parsec_fs.audit.headers import (
    HEADER_CHECKS,
    HeaderChecks,
    TooFarError,
    header_hash,
    verify,
    verify_rival,
)
from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.chain_rpc import Params, QueryAnswer
from parsec_fs.protocol.chain_types import LightBlock, SignedHeader, TrustState
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import (
    DataError,
    ExpiredError,
    ForkError,
    OfflineError,
    ProofError,
    RefusedError,
    StaleError,
    VerificationError,
)
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.simple_map import HEADS_PATH, log_key
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedStatement,
    Statement,
    verify_statement,
)

__all__ = ["ChainNode", "LightClient", "VerifiedChainHead"]

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 10.0
NEXT_HEADER_WAIT_S: Final = 10.0
"""The header that carries a state comes one block after it, about a second later."""
WITNESS_WAIT_S: Final = 3.0
"""A node that is further behind is not compared this time."""
POLL_S: Final = 0.05
CANDIDATE_TIMEOUT_S: Final = 60.0
"""One node's whole case for its head. A lying one could otherwise lead us from header to header, a
patient ten seconds each, while the others wait."""
WITNESS_TIMEOUT_S: Final = 15.0
MAX_HOPS: Final = 64
"""Headers verified on the way to one target; each halves the distance."""


class ChainNode(Protocol):
    """A door to one node's RPC. `name` is for people; it is also the key of reports."""

    @property
    def name(self) -> str:
        """Unique among the nodes of one client."""

    async def call(self, method: str, params: Params) -> bytes:
        """Raw JSON of the answer, also of an error answer. Raises OfflineError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    node: ChainNode
    answer: QueryAnswer


class LightClient:
    """Follows one server log on one chain. `trust` is what the caller must persist."""

    def __init__(
        self,
        nodes: Sequence[ChainNode],
        server: ServerRegistration,
        trust: TrustState,
        *,
        now_ns: Callable[[], int],
        last_block: LightBlock | None = None,
        checks: HeaderChecks = HEADER_CHECKS,
    ) -> None:
        """`last_block` is that of `trust`, if kept: the first half of evidence, should the nodes'
        past turn out to be another."""
        self.trust = trust
        self._last_block = last_block
        self._nodes = tuple(nodes)
        self._server = server
        self._keys = VerifyKey(server.head_key), CoVerifyKey(server.co_key)
        self._now_ns = now_ns
        self._checks = checks
        self._lying: dict[str, str] = {}
        self._late: set[str] = set()

    @property
    def lying(self) -> Mapping[str, str]:
        """Nodes that were caught, with what they did. Others are preferred from then on."""
        return dict(self._lying)

    async def newest_head(self) -> VerifiedChainHead:
        """Verified head, with `trust` moved to its header.

        Raises OfflineError if no node can be used, StaleError if the chain has no (newer) provable
        head, ExpiredError if trust must be renewed, ForkError with P8 if the chain forked,
        ProofError if all that answered lied, SignatureError if the chain accepted a statement
        that the server did not sign.
        """
        failure: Exception = OfflineError("no chain node can be reached")
        for candidate in await self._candidates():
            try:
                return await self._judge(candidate)
            except (OfflineError, RefusedError, StaleError) as error:
                failure = error
            except _NodeError as error:
                self._drop(candidate.node, error)
                failure = ProofError(f"chain node {candidate.node.name}: {error}")
        raise failure

    async def _judge(self, candidate: _Candidate) -> VerifiedChainHead:
        """The candidate's head, in bounded time. A node that claims more than it shows is asked
        last in the next round, so that it cannot delay every one."""
        name = candidate.node.name
        self._late.add(name)
        with trio.move_on_after(CANDIDATE_TIMEOUT_S):
            block = await self._light_block(candidate.node, candidate.answer.height + 1)
            head = await self._accept(candidate, block)
            self._late.discard(name)
            return head
        raise OfflineError(f"chain node {name} does not show its head in time")

    async def _candidates(self) -> list[_Candidate]:
        """Answers of all nodes, newest state first: an old answer is valid but not newest."""
        found: list[_Candidate] = []
        failures: list[Exception] = []

        async def ask(node: ChainNode) -> None:
            try:
                found.append(_Candidate(node=node, answer=await self._query(node)))
            except _NodeError as error:
                self._drop(node, error)
                failures.append(ProofError(f"chain node {node.name}: {error}"))
            except (OfflineError, RefusedError, StaleError) as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for node in self._usable():
                nursery.start_soon(ask, node)
        if not found and failures:
            raise failures[0]
        order = [node.name for node in self._nodes]
        late, self._late = self._late, set()
        return sorted(
            found,
            key=lambda one: (
                one.node.name in late,
                -one.answer.height,
                order.index(one.node.name),
            ),
        )

    async def _accept(self, candidate: _Candidate, block: LightBlock) -> VerifiedChainHead:
        start = self.trust
        await self._check_past(candidate.node, start, block)
        trust = await self._verify(candidate.node, start, block)
        value = self._proven_value(candidate.answer, block)
        confirmed = await self._compare(candidate.node, block, start)
        statement = self._statement(value)
        self.trust, self._last_block = trust, block
        return VerifiedChainHead(
            statement=statement,
            statement_bytes=value,
            header_hash=trust.header_hash,
            header_time_ns=trust.time_ns,
            height=trust.height,
            validator_count=len(trust.validators),
            confirmed_by=(candidate.node.name, *confirmed),
            proof=chain_proof(block, value, candidate.answer.operations),
        )

    async def _verify(self, node: ChainNode, trust: TrustState, block: LightBlock) -> TrustState:
        """From trust to the block, over headers in between where the set changed too much."""
        targets = [block]
        for _ in range(MAX_HOPS):
            target = targets[-1]
            try:
                trust = self._step(trust, target)
                targets.pop()
            except TooFarError as error:
                between = (trust.height + target.header.height) // 2
                if between <= trust.height:
                    raise _NodeError(str(error)) from error
                targets.append(await self._light_block(node, between, wait_s=0))
            if not targets:
                return trust
        raise _NodeError("too many headers in between")

    async def _check_past(self, node: ChainNode, trust: TrustState, block: LightBlock) -> None:
        """The node's past holds the header that we verified before.

        Jumps alone would not show that validators were restored and went another way since.
        """
        if not 0 < trust.height <= block.header.height:
            return
        try:
            signed = await self._signed_header(node, trust.height, wait_s=0)
        except RefusedError:
            return  # Pruned; the audit of the log behind the heads stands on its own.
        if header_hash(signed.header) == trust.header_hash:
            return
        rival = self._judge_rival(trust, await self._light_block(node, trust.height, wait_s=0))
        evidence = (encode_chain_fork(self._last_block, rival),) if self._last_block else ()
        raise ForkError("validators decided another block at a height verified", evidence=evidence)

    def _judge_rival(self, trust: TrustState, unverified: LightBlock) -> LightBlock:
        try:
            return verify_rival(trust, unverified)
        except VerificationError as error:
            raise _NodeError(f"another header at a height verified before: {error}") from error

    def _step(self, trust: TrustState, unverified: LightBlock) -> TrustState:
        if unverified.header.height < trust.height:
            raise StaleError("the chain node is behind what was verified before")
        if unverified.header.height == trust.height:
            return self._same_header(trust, unverified)
        try:
            return verify(trust, unverified, now_ns=self._now_ns(), checks=self._checks)
        except (ExpiredError, TooFarError):
            raise
        except VerificationError as error:
            raise _NodeError(str(error)) from error

    def _same_header(self, trust: TrustState, unverified: LightBlock) -> TrustState:
        """Nothing changed since the last head: the header must be the one verified then."""
        if header_hash(unverified.header) != trust.header_hash:
            raise _NodeError("another header at a height verified before")
        return trust

    def _proven_value(self, unverified: QueryAnswer, block: LightBlock) -> bytes:
        try:
            return self._checks.state_proof(
                unverified.value,
                unverified.operations,
                app_hash=Hash(block.header.app_hash),
                server_log=self._server.server_log,
            )
        except (DataError, VerificationError) as error:
            raise _NodeError(str(error)) from error

    def _statement(self, value: bytes) -> Statement:
        """From here on the chain, not the node, is to blame if something is wrong."""
        return verify_statement(
            decode(SignedStatement, value),
            expected_chain_id=self.trust.chain_id,
            expected_server_log=self._server.server_log,
            head_key=self._keys[0],
            co_key=self._keys[1],
        )

    async def _compare(self, source: ChainNode, block: LightBlock, start: TrustState) -> list[str]:
        """Ask every other node for the same height. Names of those that agree; raises ForkError."""
        agreeing: list[str] = []
        forks: list[LightBlock] = []

        async def ask(node: ChainNode) -> None:
            with trio.move_on_after(WITNESS_TIMEOUT_S):
                await judge(node)

        async def judge(node: ChainNode) -> None:
            try:
                other = await self._conflicting_block(node, block, start)
            except _NodeError as error:
                self._drop(node, error)
                return
            except (OfflineError, RefusedError, StaleError):
                return
            if other is None:
                agreeing.append(node.name)
            else:
                forks.append(other)

        async with trio.open_nursery() as nursery:
            for node in self._usable():
                if node is not source:
                    nursery.start_soon(ask, node)
        if forks:
            evidence = encode_chain_fork(block, forks[0])
            raise ForkError("validators decided two blocks at one height", evidence=(evidence,))
        return sorted(agreeing)

    async def _conflicting_block(
        self, node: ChainNode, block: LightBlock, start: TrustState
    ) -> LightBlock | None:
        """None if the node shows the same header, its block if that verifies as well."""
        height = block.header.height
        other = await self._signed_header(node, height, WITNESS_WAIT_S)
        if header_hash(other.header) == header_hash(block.header):
            return None
        conflicting = await self._light_block(node, height)
        if height == start.height:
            return self._judge_rival(start, conflicting)
        # Judged from the trust before this round: what came after it is what is in question.
        await self._verify(node, start, conflicting)
        return conflicting

    async def _query(self, node: ChainNode) -> QueryAnswer:
        key = log_key(self._server.server_log)
        params = chain_rpc.query_params(HEADS_PATH, key, prove=True)
        answer = await self._ask(node, "abci_query", params, chain_rpc.parse_query)
        if answer.code:
            raise StaleError(f"chain node {node.name} knows no head: {answer.log[:200]}")
        if not 0 <= answer.height < 2**62:
            raise _NodeError("answers with an impossible height")
        return answer

    async def _light_block(
        self, node: ChainNode, height: int, *, wait_s: float = NEXT_HEADER_WAIT_S
    ) -> LightBlock:
        signed = await self._signed_header(node, height, wait_s)
        page = await self._ask(
            node, "validators", chain_rpc.validators_params(height), chain_rpc.parse_validators
        )
        if page.height != height or page.total != len(page.validators):
            raise _NodeError("answers with another validator set than asked for")
        return LightBlock(header=signed.header, commit=signed.commit, validators=page.validators)

    async def _signed_header(self, node: ChainNode, height: int, wait_s: float) -> SignedHeader:
        """Waits for a header that is due any moment. Raises StaleError if it does not come."""
        params = chain_rpc.height_params(height)
        deadline = trio.current_time() + wait_s
        while True:
            try:
                signed = await self._ask(node, "commit", params, chain_rpc.parse_signed_header)
            except RefusedError as error:
                if error.outcome != chain_rpc.OUTCOME_NOT_YET:
                    raise
                if trio.current_time() >= deadline:
                    raise StaleError(f"chain node {node.name} has no header {height}") from error
                await trio.sleep(POLL_S)
                continue
            if signed.header.height != height:
                raise _NodeError("answers with another height than asked for")
            return signed

    async def _ask(
        self, node: ChainNode, method: str, params: Params, parse: Callable[[bytes], T]
    ) -> T:
        with trio.move_on_after(CALL_TIMEOUT_S):
            raw = await node.call(method, params)
            try:
                return parse(raw)
            except DataError as error:
                raise _NodeError(str(error)) from error
        raise OfflineError(f"chain node {node.name} does not answer")

    def _usable(self) -> list[ChainNode]:
        """Nodes that were never caught. If none is left, all: what verifies is true, whoever says
        it, and a node behind a broken proxy must not cost the chain for good."""
        return [node for node in self._nodes if node.name not in self._lying] or list(self._nodes)

    def _drop(self, node: ChainNode, error: Exception) -> None:
        self._lying[node.name] = str(error)


class _NodeError(Exception):
    """One node's answer is wrong; never leaves this module."""
