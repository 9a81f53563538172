"""A capture becomes signed commits in the outbox, and the outbox becomes leaves of the log.

Data flow: capture -> manifest_build -> closures -> seal -> sign -> outbox (durable) -> server
    -> replica (replays the own leaves, takes them out of the outbox) -> capture is logged.

Rules 3, 10, 15, 20, 21: manifests are sealed only now, under the newest key; the exact bytes are on
disk before the first one leaves, and only these bytes are sent again; one batch is in flight; the
server's word that a commit is in the log counts only once its leaf was replayed here up to the
signed head; a refusal is final and covers every later record.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from parsec_fs.identity import Author
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commits import (
    DELETED,
    ObjectRecord,
    Precondition,
    commit_hash,
    signed_body,
)
from parsec_fs.protocol.errors import ForkError, LocalError, ProofError
from parsec_fs.protocol.hashing import object_record_hash, payload_hash
from parsec_fs.protocol.ids import NO_HASH, Hash, ObjectId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.limits import BATCH_MAX_SIZE, MIB
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.manifests import (
    Attributes,
    FileManifest,
    PageManifest,
    SpecialManifest,
    encode_manifest,
)
from parsec_fs.protocol.records import ObjectState, Refusal
from parsec_fs.remote.server_client import CommitFate, ServerClient
from parsec_fs.storage.realm_writer import OutboxEntry
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.capture import Capture
from parsec_fs.workspace.closures import closures, pack
from parsec_fs.workspace.manifest_build import Build, Builder, NewVersion, Places
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.rekeying import Rekeying
from parsec_fs.workspace.replica import RealmReplica
from parsec_fs.workspace.store_loader import StoreLoader
from parsec_fs.workspace.upload import Uploader, blocks_root

_ROOM: Final = BATCH_MAX_SIZE - MIB
_MOST_COMMITS: Final = 1000
_MOST_PAYLOADS: Final = 20_000

_UNREADABLE: Final = SpecialManifest(
    attributes=Attributes(
        mode=0,
        uid=0,
        gid=0,
        rdev=0,
        atime_ns=0,
        mtime_ns=0,
        ctime_ns=0,
        birth_ns=0,
        xattrs=(),
    )
)

Hook = Callable[[str], None]
"""Called at the points where a crash must be harmless: after_outbox, after_send, after_store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedVersion:
    """A new version ready for a commit. `flat` are nested references as this device keeps them."""

    record: ObjectRecord
    sealed: bytes
    flat: bytes | None


class StoreNow:
    """The local store as `manifest_build` asks it."""

    def __init__(self, replica: RealmReplica, loader: StoreLoader) -> None:
        self._store = replica.store
        self._loader = loader

    def state(self, id: ObjectId) -> ObjectState | None:
        """Version and last write of an object."""
        return self._store.state(id)

    def load(self, id: ObjectId) -> NodeManifest | None:
        """Manifest of an object; None if it is deleted. A damaged one is like nothing of ours, so
        that it is replaced."""
        try:
            return self._loader.load(id)
        except LocalError:
            return _UNREADABLE

    def page(self, id: ObjectId, folder: ObjectId) -> PageManifest | None:
        """A page of a folder."""
        return self._loader.page(id, folder)

    def links(self, id: ObjectId) -> int:
        """How many names an object has."""
        return self._loader.link_count(id)


class Pusher:
    """Signs for one device and realm. One push at a time."""

    def __init__(
        self,
        replica: RealmReplica,
        client: ServerClient,
        *,
        loader: StoreLoader,
        opener: Opener,
        keys: RealmKeys,
        rekeying: Rekeying,
        uploader: Uploader,
        author: Author,
        places: Places,
        hook: Hook = lambda point: None,
    ) -> None:
        self._replica = replica
        self._places = places
        self._store = replica.store
        self._client = client
        self._view = StoreNow(replica, loader)
        self._opener = opener
        self._keys = keys
        self._rekeying = rekeying
        self._uploader = uploader
        self._author = author
        self._key: SigningKey = author.secrets.signing_key()
        self._hook = hook
        self.build = Build()

    async def post(self, capture: Capture, *, separate: bool) -> bool:
        """Build, seal, sign and put into the outbox. False: the store says all of it already."""
        self._replica.check_may_sign()
        self._rekeying.check()
        slices = self._replica.slices
        builder = Builder(capture, self._view, self._places)
        for _ in builder.steps():
            await slices.pause()
        self.build = builder.build
        if not builder.build:
            async with self._store.writing() as write:
                write.journal_position(capture.position)
            return False
        groups = closures(builder.build)
        sealed: dict[ObjectId, SealedVersion] = {}
        for version in (one for group in groups for unit in group.units for one in unit):
            sealed[version.id] = self._seal(version)
            await slices.pause()
        commits = pack(groups, lambda one: len(sealed[one.id].sealed), separate=separate)
        above = {page.id: one.above for one in builder.build.folders for page in one.pages}
        await self._sign_and_store(commits, sealed, above, capture.position)
        self._hook("after_outbox")
        return True

    def _seal(self, version: NewVersion) -> SealedVersion:
        manifest, root, flat, sealed = version.manifest, NO_HASH, None, b""
        if isinstance(manifest, FileManifest):
            root = blocks_root(manifest)
            nested = self._uploader.nested(version.id, manifest)
            if nested.depth:
                flat = self._opener.seal_flat(manifest.refs, version.id)
            manifest = nested
        if manifest is not None:
            data = encode_manifest(manifest)
            sealed = self._opener.seal(data, version.id, version.version)
        record = ObjectRecord(
            object=version.id,
            version=version.version,
            base=Hash(version.base),
            payload=payload_hash(sealed) if sealed else NO_HASH,
            payload_size=len(sealed),
            blocks_root=root,
            flags=0 if sealed else DELETED,
        )
        return SealedVersion(record=record, sealed=sealed, flat=flat)

    async def _sign_and_store(
        self,
        commits: list[tuple[NewVersion, ...]],
        sealed: dict[ObjectId, SealedVersion],
        above: dict[ObjectId, tuple[ObjectId, ...]],
        position: int,
    ) -> None:
        state = self._replica.state
        written: dict[ObjectId, Precondition] = {}
        chain = state.chains.get(self._author.secrets.device, DeviceChain())
        seen = self._replica.seen()
        async with self._store.writing() as write:
            for number, versions in enumerate(commits):
                members = sorted((sealed[one.id] for one in versions), key=_object_of)
                held = {id for one in versions for id in above.get(one.id, ())}
                held -= {one.id for one in versions}
                body = signed_body(
                    tuple([one.record for one in members]),
                    header=self._author.header(state.context, chain, seen),
                    key_index=self._keys.newest().index,
                    preconditions=self._unchanged(held, written),
                    key=self._key,
                )
                name = commit_hash(body)
                written |= {one.record.object: _after(name, one.record) for one in members}
                last = number == len(commits) - 1
                entry = OutboxEntry(
                    sequence=chain.sequence,
                    record=name,
                    body=encode_trusted(body),
                    position=position if last else None,
                )
                write.post(entry)
                for one in [one for one in members if one.sealed]:
                    write.post_payload(one.record.payload, chain.sequence, one.sealed, one.flat)
                    await self._replica.slices.pause()
                chain = DeviceChain(sequence=chain.sequence + 1, last=name)

    def _unchanged(
        self, ids: set[ObjectId], written: dict[ObjectId, Precondition]
    ) -> tuple[Precondition, ...]:
        """These objects are as they are now, or as an earlier commit of this push leaves them."""
        found = []
        for id in sorted(ids):
            state = self._store.state(id)
            if id in written:
                found.append(written[id])
            elif state is not None:
                found.append(Precondition(object=id, version=state.version, write=state.write))
        return tuple(found)

    async def deliver(self) -> Refusal | None:
        """Send the outbox until it is empty, or to the first refusal, which empties it. When this
        returns every accepted commit is stored here and its head is kept.
        Raises OfflineError, VerificationError; then the outbox stays for the next time."""
        while batch := self._next_batch():
            entries, payloads = batch
            known = self._replica.size()
            report = await self._client.commit(
                self._replica.realm, [(one.body, one.record) for one in entries], payloads
            )
            self._hook("after_send")
            head = (report.head.head, report.head.raw)
            await self._replica.reach(head, known_size=known)
            self._hook("after_store")
            refused = self._check_fates(entries, report.fates, head[0].size)
            if refused is not None:
                entry, fate = refused
                await self._withdraw(entry, fate)
                return fate.refusal
        return None

    async def _withdraw(self, entry: OutboxEntry, fate: CommitFate) -> None:
        """Keep the signed refusal: if the commit shows up after all, it convicts (P6)."""
        assert fate.raw is not None
        async with self._store.writing() as write:
            write.withdraw(entry.sequence)
            write.refused(entry.record, encode_trusted(fate.raw))

    def _next_batch(self) -> tuple[list[OutboxEntry], list[bytes]] | None:
        entries: list[OutboxEntry] = []
        payloads: list[bytes] = []
        size = 0
        for entry in self._store.outbox.entries():
            own = [sealed for _, sealed in self._store.outbox.payloads(entry.sequence)]
            size += len(entry.body) + sum(map(len, own)) + 16 * len(own)
            full = size > _ROOM or len(payloads) + len(own) > _MOST_PAYLOADS
            if entries and (full or len(entries) == _MOST_COMMITS):
                break
            entries.append(entry)
            payloads += own
        return (entries, payloads) if entries else None

    def _check_fates(
        self, entries: list[OutboxEntry], fates: tuple[CommitFate, ...], size: int
    ) -> tuple[OutboxEntry, CommitFate] | None:
        """The first refusal. Raises ProofError if a commit is not where the server says, ForkError
        if it is in the log although it was refused."""
        for entry, fate in zip(entries, fates, strict=True):
            if fate.index is None:
                if not self._store.outbox.has(entry.record):
                    raise ForkError("refused, but in the log", evidence=(entry.body,))
                return entry, fate
            leaf = self._store.leaf(fate.index)
            if leaf is None or leaf.record != entry.record or fate.index >= size:
                raise ProofError("a commit is not where the server says", evidence=(entry.body,))
        return None


def _after(commit: Hash, record: ObjectRecord) -> Precondition:
    """The state of an object once this commit is in the log."""
    write = object_record_hash(commit, encode_trusted(record))
    return Precondition(object=record.object, version=record.version, write=write)


def _object_of(one: SealedVersion) -> ObjectId:
    return one.record.object
