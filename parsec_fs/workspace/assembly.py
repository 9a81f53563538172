"""Puts the parts of one workspace together: store, keys, contents, tree, replica, sync.

Data flow: the composition root (daemon, tests) gives what is outside -> this -> `Workspace`.

The order of opening: `assemble` opens files and works offline. A device that has never seen all of
the workspace must `bootstrap.open_first()`; then `filesystem.open()` replays the journal over the
store; then `filesystem.run`, `sync.run` and `bootstrap.run` go on in the background.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.identity import Author
from parsec_fs.protocol.errors import VerificationError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.manifests import BlockRef
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.remote.blocks import BlockClient
from parsec_fs.remote.events import EventStream
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.remote.sessions import Signer
from parsec_fs.storage.contents import CACHE_LIMIT, Contents
from parsec_fs.storage.journal import Journal
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.workspace.audit_view import AuditView
from parsec_fs.workspace.bootstrap import Bootstrap
from parsec_fs.workspace.circles import places_above
from parsec_fs.workspace.contest import Contest
from parsec_fs.workspace.digests import Digests
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.mending import Mending
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.payloads import PayloadReader
from parsec_fs.workspace.push import Hook, Pusher
from parsec_fs.workspace.realm_keys import RealmKeys
from parsec_fs.workspace.rekeying import Rekeying
from parsec_fs.workspace.replica import RealmReplica
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from parsec_fs.workspace.reviving import Invalidate
from parsec_fs.workspace.sharing import Sharing
from parsec_fs.workspace.slices import Slices
from parsec_fs.workspace.store_loader import StoreLoader
from parsec_fs.workspace.sync import Sync
from parsec_fs.workspace.takeovers import Takeovers
from parsec_fs.workspace.upload import Uploader


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What keeps a workspace on this device. Tests hand in some that fail on purpose."""

    realm: type[RealmStore] = RealmStore
    journal: type[Journal] = Journal
    contents: type[Contents] = Contents


STORES: Final = Stores()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What a workspace gets from the world."""

    server: ServerClient
    signer: Signer
    org: OrgReplica
    author: Author
    audit: AuditView
    pins: tuple[LogState, ...] = ()
    label: Callable[[], bytes]
    """Names this device and the time in conflict copies."""
    invalidate: Invalidate = lambda changed: None
    """Tells the kernel what to forget."""
    used: Callable[[], bool] = lambda: False
    busy: Callable[[], bool] = lambda: False
    """Requests keep coming: what can wait does (decision 0007)."""
    epoch_s: float = 60.0
    """The server's epoch, as its registration in the trust anchor says."""
    on_failure: Callable[[VerificationError], None] = lambda error: None
    on_pulled: Callable[[], None] = lambda: None
    """The log was pulled: roles may have changed."""
    checks: ReplicaChecks = REPLICA_CHECKS
    stores: Stores = STORES
    hook: Hook = lambda point: None
    root_owner: tuple[int, int] = (0, 0)
    cache_limit: int = CACHE_LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """One workspace on this device."""

    store: RealmStore
    keys: RealmKeys
    loader: StoreLoader
    contents: Contents
    filesystem: Filesystem
    replica: RealmReplica
    bootstrap: Bootstrap
    rekeying: Rekeying
    mending: Mending
    sync: Sync
    sharing: Sharing

    def close(self) -> None:
        """Close the stores; the filesystem closes itself when its `run` ends."""
        self.bootstrap.close()
        self.store.close()


def assemble(directory: Path, realm: RealmId, outside: Outside) -> Workspace:
    """Open everything under `directory`. Sends nothing."""
    author, stores = outside.author, outside.stores
    secrets, random = author.secrets, author.random
    store = stores.realm(directory / "realm.db", realm)
    keys = RealmKeys(store, realm, secrets, outside.checks)
    opener = Opener(keys, realm, secrets, random=random, checks=outside.checks)
    loader = StoreLoader(store, opener)
    blocks = BlockClient(outside.signer, realm)
    contents = _contents(directory / "blocks", realm, outside, blocks)
    filesystem = Filesystem(
        journal=stores.journal(directory / "journal", LocalSealer(secrets.local_key)),
        contents=contents,
        loader=loader,
        random=random,
        root_owner=outside.root_owner,
    )
    in_tree = filesystem.tree.nodes.__contains__
    payloads = PayloadReader(
        store,
        outside.server,
        opener,
        realm=realm,
        device=secrets.device,
        in_memory=in_tree,
        pending=filesystem.tree.is_dirty,
        read_node=contents.read_node,
        checks=outside.checks,
    )
    replica = RealmReplica(
        store,
        outside.server,
        outside.org,
        keys,
        payloads,
        secrets=secrets,
        audit=outside.audit,
        pins=outside.pins,
        checks=outside.checks,
    )
    replica.slices.busy = outside.busy
    mending = Mending(store, opener, read_node=contents.read_node, in_tree=in_tree)
    loader.on_closed = mending.ask
    rekeying = Rekeying(replica, outside.org, keys, outside.server, author=author)
    uploader = _uploader(blocks, filesystem, replica.slices, loader)
    pusher = Pusher(
        replica,
        outside.server,
        loader=loader,
        opener=opener,
        keys=keys,
        rekeying=rekeying,
        uploader=uploader,
        author=author,
        places=lambda id: places_above(filesystem.tree, id),
        hook=outside.hook,
    )
    sync = Sync(
        replica=replica,
        org=outside.org,
        pusher=pusher,
        rekeying=rekeying,
        mending=mending,
        uploader=uploader,
        takeovers=_takeovers(store, loader, filesystem, outside),
        filesystem=filesystem,
        events=EventStream(outside.signer),
        random=random,
        epoch_s=outside.epoch_s,
        used=outside.used,
        on_failure=outside.on_failure,
        on_pulled=outside.on_pulled,
    )
    return Workspace(
        store=store,
        keys=keys,
        loader=loader,
        contents=contents,
        filesystem=filesystem,
        replica=replica,
        bootstrap=_bootstrap(directory, outside, replica, keys, contents),
        rekeying=rekeying,
        mending=mending,
        sync=sync,
        sharing=Sharing(
            replica, outside.org, rekeying, outside.server, author=author, signing=sync.signing
        ),
    )


def _uploader(
    blocks: BlockClient, filesystem: Filesystem, slices: Slices, loader: StoreLoader
) -> Uploader:
    contents, held = filesystem.contents, filesystem.held
    digests = Digests(filesystem.tree, contents, slices, held)
    return Uploader(blocks, contents, slices, held, filesystem.secure, loader.load, digests)


def _takeovers(
    store: RealmStore, loader: StoreLoader, filesystem: Filesystem, outside: Outside
) -> Takeovers:
    contest = Contest(filesystem, label=outside.label, invalidate=outside.invalidate)
    takeovers = Takeovers(store, loader, filesystem, contest, invalidate=outside.invalidate)
    filesystem.memory.past = takeovers
    return takeovers


def _contents(directory: Path, realm: RealmId, outside: Outside, blocks: BlockClient) -> Contents:
    async def fetch(ref: BlockRef) -> bytes:
        return await blocks.get(ref.id)

    return outside.stores.contents(
        directory,
        realm,
        random=outside.author.random,
        fetch=fetch,
        cache_limit=outside.cache_limit,
        open=outside.checks.block,
    )


def _bootstrap(
    directory: Path, outside: Outside, replica: RealmReplica, keys: RealmKeys, contents: Contents
) -> Bootstrap:
    return Bootstrap(
        replica=replica,
        server=outside.server,
        org=outside.org,
        keys=keys,
        author=outside.author,
        read_node=contents.read_node,
        directory=directory,
        checks=outside.checks,
    )
