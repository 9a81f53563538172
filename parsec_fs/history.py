"""What a daemon says of the past: versions of a file, what an audit verified, proofs.

Data flow: realm store, auditor, chain head -> this -> control socket -> log, verify, proof.
"""

from collections.abc import Iterator
from typing import Any, Final

from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.chain_head import VerifiedChainHead
from parsec_fs.audit.light_client import LightClient
from parsec_fs.audit.proof import ObjectProof, encode_proof
from parsec_fs.audit.report import audit_report
from parsec_fs.audit.trusted_state import REALM
from parsec_fs.facts import WorkspaceFacts
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import InputError, StaleError
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import ROOT_OBJECT, ObjectId
from parsec_fs.protocol.records import LeafHeader
from parsec_fs.workspace.assembly import Workspace
from parsec_fs.workspace.nodes import FolderNode

Json = dict[str, Any]
_MOST_VERSIONS: Final = 1000
_MOST_PENDING: Final = 1000


class RememberedHeads:
    """The light client, with the head that it verified last: proofs begin with it."""

    def __init__(self, client: LightClient) -> None:
        self._client = client
        self.last: VerifiedChainHead | None = None

    @property
    def trust(self) -> TrustState:
        """Trust in the chain after the last answer."""
        return self._client.trust

    @property
    def lying(self) -> dict[str, str]:
        """Nodes that were caught, with what they did."""
        return dict(self._client.lying)

    async def newest_head(self) -> VerifiedChainHead:
        """See `LightClient`."""
        self.last = await self._client.newest_head()
        return self.last


class History:
    """Of one mounted workspace."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        auditor: Auditor,
        facts: WorkspaceFacts,
        heads: RememberedHeads,
    ) -> None:
        self._workspace = workspace
        self._auditor = auditor
        self._facts = facts
        self._heads = heads

    def _object(self, inode: int) -> ObjectId:
        node = self._workspace.filesystem.tree.inodes.get(inode)
        if node is None:
            raise InputError("no such file in this workspace")
        return node.id

    def versions(self, inode: int) -> list[Json]:
        """Logged versions of an object, newest first."""
        id = self._object(inode)
        found = []
        for version, index in self._workspace.store.operations(id):
            leaf = self._workspace.store.leaf(index)
            if leaf is None:
                continue
            header = decode(LeafHeader, leaf.header)
            found.append(
                {
                    "version": version,
                    "time_ms": header.time_ms,
                    "by": self._facts.person(leaf.author) if leaf.author else "",
                    "author": self._facts.people_of(leaf.author) if leaf.author else None,
                    "record": index,
                    "state": self._facts.record_word(index),
                }
            )
            if len(found) == _MOST_VERSIONS:
                break
        return found

    def pending(self) -> list[Json]:
        """Names in memory whose newest change is not audited, at most a thousand, with its word."""
        tree = self._workspace.filesystem.tree
        root = tree.nodes[ROOT_OBJECT]
        waiting = self._waiting()
        found: list[Json] = []
        if isinstance(root, FolderNode):
            for path, id in _walk(root, tree.nodes):
                if id in waiting or tree.is_dirty(id):
                    found.append({"path": path, "state": self._facts.state_word(id)})
                if len(found) == _MOST_PENDING:
                    break
        return found

    def _waiting(self) -> frozenset[ObjectId]:
        """Objects with a logged change that is not audited."""
        audited = self._facts.audited_size()
        if audited >= self._workspace.replica.size():
            return frozenset()
        return self._workspace.store.written_since(audited)

    def report(self) -> Json:
        """What the last audit verified, one tick per kind of check, and the same as text."""
        report = audit_report(
            self._facts.title,
            self._auditor.state,
            self._auditor.client_state(),
            records=self._workspace.replica.size(),
            lying=self._heads.lying,
        )
        return {**report.json(), "text": report.text()}

    async def proof(self, inode: int, label: bytes) -> bytes:
        """Proof file of an object's newest version. Raises StaleError if it is not audited yet,
        or if the workspace changed since the epoch that would prove it."""
        id = self._object(inode)
        await self._auditor.audit_once()
        anchored, head = self._auditor.state, self._heads.last
        state = self._workspace.store.state(id)
        if state is None or not self._facts.is_audited(id):
            raise StaleError("this version is not covered by a checkpoint yet")
        key = map_key(b"object", id)
        state_map = self._workspace.replica.state.map
        current = state_map.root() == anchored.anchored[REALM].map_root
        if head is None or head.statement.epoch != anchored.epochs - 1 or not current:
            raise StaleError("the workspace is changing; wait for the next checkpoint")
        return encode_proof(
            ObjectProof(
                label=label,
                chain=head.proof,
                anchored=anchored.openings[REALM],
                object=id,
                state=state,
                opening=state_map.open(key),
            )
        )


def _walk(root: FolderNode, nodes: Any) -> Iterator[tuple[str, ObjectId]]:
    """Everything in memory, with its path; what is not in memory has no change that is local."""
    stack = [("", root)]
    while stack:
        place, folder = stack.pop()
        for name, entry in (folder.children or {}).items():
            path = f"{place}{plain_name(name)}"
            yield path, entry[0]
            child = nodes.get(entry[0])
            if isinstance(child, FolderNode):
                stack.append((path + "/", child))
