"""Epochs: cut, sign, store, send until final; one after the other (rule 16).

Data flow: logs -> `cut` (durable) -> maps -> statement (stored before sending) -> chain nodes ->
`/store/heads/key` shows it, and the block after it exists -> final -> the next cut is due an
interval after this one.

- Epoch e+1 is cut only after e is final on the chain, and provable: the application's hash after
  block h stands in header h + 1, so as long as nobody has committed that, devices could not audit
  what the server would count, and would refuse heads that promise more (rule 23).
- The stored bytes of a statement are the only ones that are ever sent for its epoch.
- At the start, and ever after, the chain is asked for this server's newest statement. If the chain
  knows more than the database, this is an old copy of the server: signing on would convict an
  honest server, so it stops (rule 32). Until the chain has answered once nothing is served.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio
import anyio.to_thread

from parsec_fs.protocol import chain_rpc
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import InputError, ParsecFSError, RefusedError
from parsec_fs.protocol.ids import Hash, OrgId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.records import EpochOpening, LogState
from parsec_fs.protocol.simple_map import HEADS_PATH, log_key
from parsec_fs.protocol.statements import (
    SignedStatement,
    Statement,
    sign_statement,
    verify_statement,
)
from server.chain import ChainNode
from server.config import Timing
from server.identity import ServerIdentity
from server.log.epoch_maps import OrgAt, orgs_after
from server.log.epochs import EpochCache, load_org_at, load_orgs
from server.store import epochs
from server.store.database import Database, Exclusive, Transaction
from server.store.epochs import StoredEpoch

log = logging.getLogger(__name__)

STANDBY_S: Final = 1.0
NO_STATEMENT: Final = 21
"""The chain application's code for "no statement of this server yet"."""


class OldCopyError(InputError):
    """The chain knows statements of this server that the database does not (rule 32)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a node shows of this server: how many epochs, in the state after block `height`."""

    epochs: int
    height: int


class Publisher:
    """The only one who cuts epochs. Everything it depends on is handed in."""

    def __init__(
        self,
        *,
        database: Database,
        cache: EpochCache,
        nodes: Sequence[ChainNode],
        identity: ServerIdentity,
        chain_id: bytes,
        timing: Timing,
        wall_ms: Callable[[], int],
        random: Callable[[int], bytes],
    ) -> None:
        self._database = database
        self._cache = cache
        self._nodes = nodes
        self._identity = identity
        self._chain_id = chain_id
        self._timing = timing
        self._wall_ms = wall_ms
        self._random = random
        self._confirmed = False
        self._troubled: set[str] = set()

    @property
    def confirmed(self) -> bool:
        """True once the chain has shown that it knows nothing which the database does not."""
        return self._confirmed

    async def run(self) -> None:
        """Publish epoch after epoch. Raises OldCopyError."""
        await self.confirm()
        right = await self._exclusive()
        try:
            await self._publish_for_ever(right)
        finally:
            right.close()

    async def _exclusive(self) -> Exclusive:
        """Wait to be the only publisher of this database; others serve, and stand ready."""
        while True:
            right = await anyio.to_thread.run_sync(self._database.try_exclusive)
            if right is not None:
                return right
            await anyio.sleep(STANDBY_S)

    async def _publish_for_ever(self, right: Exclusive) -> None:
        wait_ms = await self._until_due_ms()
        while True:
            await anyio.sleep(wait_ms / 1000)
            started = anyio.current_time()
            await anyio.to_thread.run_sync(right.check)
            await self.publish_next()
            elapsed_ms = 1000 * (anyio.current_time() - started)
            wait_ms = max(0.0, self._identity.registration.epoch_ms - elapsed_ms)

    async def _until_due_ms(self) -> float:
        """After a start: an epoch after the last statement, so that a server which is restarted
        again and again does not run ahead of the clock."""
        newest = await self._database.read(epochs.newest)
        if newest is None or not newest.final:
            return 0
        epoch_ms = self._identity.registration.epoch_ms
        return min(epoch_ms, max(0, newest.time_ms + epoch_ms - self._wall_ms()))

    async def confirm(self) -> None:
        """Wait for the chain's word on what it knows. Raises OldCopyError."""
        while True:
            answered = [await self._up_to_date(node) for node in self._nodes]
            if any(answered):
                self._confirmed = True
                return
            await anyio.sleep(self._timing.poll_s)

    async def _up_to_date(self, node: ChainNode) -> bool:
        """A node that has all blocks agrees with the database. Raises OldCopyError."""
        if await self._settled(node) is None:
            return False
        try:
            status = chain_rpc.parse_status(await node.call("status", {}))
        except ParsecFSError as error:
            self._in_trouble(node, error)
            return False
        return status.chain_id == self._chain_id and not status.catching_up

    async def publish_next(self) -> StoredEpoch:
        """Finish the epoch that is under way, or cut the next one; returns when it is final."""
        stored = await self._database.read(epochs.newest)
        if stored is None or stored.final:
            stored = await self.cut_and_sign(stored)
        await self._send_until_final(stored)
        await self._database.write(lambda tx: epochs.mark_final(tx, stored.epoch))
        return stored

    async def cut_and_sign(self, previous: StoredEpoch | None) -> StoredEpoch:
        """The next epoch, durable with its statement. A cut that a crash left without a statement
        is taken up again: its states are stored, only what is salted and signed is new."""
        epoch = 0 if previous is None else previous.epoch + 1
        await self._database.write(lambda tx: epochs.cut(tx, epoch))
        changed, orgs, org_at = await self._states(epoch)
        after = [org.after(changed[org.org]) for org in org_at]
        roots = {org.org: org.map.root() for org in after}
        orgs = orgs_after(orgs, roots)
        stored = self._sign(epoch, orgs.root(), previous)
        await self._database.write(lambda tx: epochs.add_epoch(tx, stored, roots))
        self._cache.keep(epoch + 1, orgs, after)
        return stored

    async def _states(
        self, epoch: int
    ) -> tuple[dict[OrgId, list[LogState]], PrefixMap, list[OrgAt]]:
        known_orgs = self._cache.orgs.get(epoch)
        known = dict(self._cache.org_at)

        def read(
            transaction: Transaction,
        ) -> tuple[dict[OrgId, list[LogState]], PrefixMap, list[OrgAt]]:
            changed = epochs.changed_logs(transaction, epoch, epoch + 1).get(epoch, {})
            orgs = known_orgs or load_orgs(transaction, epoch)
            before = [
                known.get((org, epoch)) or load_org_at(transaction, org, epoch) for org in changed
            ]
            return changed, orgs, before

        return await self._database.read(read)

    def _sign(self, epoch: int, map_root: Hash, previous: StoredEpoch | None) -> StoredEpoch:
        opening = EpochOpening(epoch=epoch, map_root=map_root, salt=self._random(32))
        leaf = opening_leaf(opening)
        tree = (Frontier() if previous is None else previous.tree).append(leaf)
        half = (self._identity.registration.epoch_ms + 1) // 2
        earliest = 0 if previous is None else previous.time_ms + half
        statement = Statement(
            chain_id=self._chain_id,
            server_log=self._identity.server_log,
            epoch=epoch,
            epoch_leaf=leaf,
            root=tree.root(),
            time_ms=max(self._wall_ms(), earliest),
        )
        return StoredEpoch(
            opening=opening,
            tree=tree,
            time_ms=statement.time_ms,
            statement=sign_statement(
                statement, *self._identity.statement_keys, changes=self._identity.changes
            ),
            final=False,
        )

    async def _send_until_final(self, stored: StoredEpoch) -> None:
        while True:
            for node in self._nodes:
                await self._send(node, stored)
            looks = max(1, round(self._timing.resend_s / self._timing.poll_s))
            for _ in range(looks):
                if await self._is_final(stored):
                    return
                await anyio.sleep(self._timing.poll_s)
            log.warning("epoch %d is not final yet; its statement is sent again", stored.epoch)

    async def _is_final(self, stored: StoredEpoch) -> bool:
        for node in self._nodes:
            settled = await self._settled(node)
            if settled is None or settled.epochs <= stored.epoch:
                continue
            if await self._is_provable(node, settled.height):
                return True
        return False

    async def _is_provable(self, node: ChainNode, height: int) -> bool:
        """Is the header that carries the state after this block committed? A node stores a block
        together with the votes that commit it."""
        try:
            status = chain_rpc.parse_status(await node.call("status", {}))
        except ParsecFSError as error:
            self._in_trouble(node, error)
            return False
        return status.latest_height > height

    async def _send(self, node: ChainNode, stored: StoredEpoch) -> None:
        params = chain_rpc.broadcast_params(encode(stored.statement))
        try:
            answer = chain_rpc.parse_broadcast(await node.call("broadcast_tx_sync", params))
        except RefusedError as error:
            if error.outcome != chain_rpc.OUTCOME_DUPLICATE:
                log.warning("%s refused epoch %d: %s", node.name, stored.epoch, error)
        except ParsecFSError as error:
            self._in_trouble(node, error)
        else:
            if answer.code:
                log.info("%s on epoch %d: %s", node.name, stored.epoch, answer.log)

    async def _settled(self, node: ChainNode) -> Settled | None:
        """What this node's newest state holds of us; None if it has no usable answer.

        Raises OldCopyError if it shows one that the database does not have."""
        query = chain_rpc.query_params(HEADS_PATH, log_key(self._identity.server_log), prove=False)
        try:
            answer = chain_rpc.parse_query(await node.call("abci_query", query))
            if answer.code:
                self._troubled.discard(node.name)
                nothing = Settled(epochs=0, height=answer.height)
                return nothing if answer.code == NO_STATEMENT else None
            signed = decode(SignedStatement, answer.value)
            statement = self._verified(signed)
        except ParsecFSError as error:
            self._in_trouble(node, error)
            return None
        self._troubled.discard(node.name)
        # Read after the node's answer: what is stored before it is sent is in there by now.
        newest = await self._database.read(epochs.newest)
        known = -1 if newest is None else newest.epoch
        if statement.epoch > known or (
            newest is not None and statement.epoch == known and signed != newest.statement
        ):
            raise OldCopyError(
                f"the chain holds epoch {statement.epoch} of this server, but the database ends "
                f"with epoch {known}: it is an older copy. Restore the newest one; an old copy "
                "cannot go on without contradicting what was promised"
            )
        self._check_keys(signed)
        return Settled(epochs=statement.epoch + 1, height=answer.height)

    def _check_keys(self, signed: SignedStatement) -> None:
        """What we sign next would be refused for ever by validators who know a newer pair."""
        if self._identity.changes[: len(signed.changes)] != signed.changes:
            raise OldCopyError(
                f"the chain knows {len(signed.changes)} changes of this server's keys, and the key "
                "files here are older or others: bring the files of `parsec-server change-keys`"
            )

    def _in_trouble(self, node: ChainNode, error: ParsecFSError) -> None:
        """Say it once, not at every look, until the node answers again."""
        if node.name not in self._troubled:
            self._troubled.add(node.name)
            log.warning("%s: %s", node.name, error)

    def _verified(self, signed: SignedStatement) -> Statement:
        """Only this server can have signed it: a node cannot make it up."""
        return verify_statement(
            signed,
            expected_chain_id=self._chain_id,
            expected_server_log=self._identity.server_log,
            head_key=self._identity.head_key.verify_key,
            co_key=self._identity.co_key.verify_key,
        )
