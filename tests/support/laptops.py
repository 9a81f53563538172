"""Whole devices without a kernel mount: identity, replicas, tree, journal, contents, sync.

Data flow: test -> `Laptop` (what a person does, in calls) -> real client code -> real server.

Requests go straight into the application (no sockets, so no events): tests say when to push and
pull. `Wire` counts requests, and can be cut.
"""

import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import trio

from parsec_fs.enrolment import add_device, create_realm, device_content, found_org
from parsec_fs.identity import Author, Identity, UserKeySeed, new_secrets
from parsec_fs.protocol.certificates import STANDARD, Role, sign_certificate
from parsec_fs.protocol.hashing import map_key
from parsec_fs.protocol.ids import NO_HASH, ROOT_OBJECT, LogId, ObjectId, RealmId, UserId
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.manifests import FOLDER, FolderManifest
from parsec_fs.protocol.statements import ServerRegistration
from parsec_fs.remote.server_client import PublicClient, ServerClient
from parsec_fs.remote.sessions import Signer
from parsec_fs.remote.transport import Transport
from parsec_fs.storage.contents import CACHE_LIMIT
from parsec_fs.storage.org_store import OrgStore
from parsec_fs.user_keys import make_user_key, newest_user_key
from parsec_fs.workspace import files, names
from parsec_fs.workspace.assembly import Outside, Workspace, assemble
from parsec_fs.workspace.audit_view import AuditView, Unaudited
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode, FolderNode, Node
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.push import Hook
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from parsec_fs.workspace.sharing import registration
from tests.support.identities import chain_anchor, user_content
from tests.support.permits import token_for
from tests.support.server import BASE_URL, InProcess, ServerProcess, in_process


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a server is."""

    url: str
    line: Callable[[], httpx.AsyncBaseTransport]
    registration: ServerRegistration
    chain_id: bytes


def place_of(server: InProcess) -> Place:
    """A server of this process."""
    return Place(
        url=BASE_URL,
        line=lambda: httpx.ASGITransport(app=server.server.app),
        registration=server.identity.registration,
        chain_id=server.config.chain_id,
    )


async def place_of_process(server: ServerProcess) -> Place:
    """A server behind a real socket."""
    info = await server.info()
    assert info is not None
    return Place(
        url=server.url,
        line=lambda: httpx.AsyncHTTPTransport(trust_env=False),
        registration=info.registration,
        chain_id=info.chain_id,
    )


class Wire(httpx.AsyncBaseTransport):
    """A line to the server. `cut`: nothing gets through; `cut_answers`: requests arrive, answers
    do not; `lost`: nothing gets through to paths that begin so."""

    def __init__(self, place: Place) -> None:
        self._inner = place.line()
        self.paths: list[str] = []
        self.cut = False
        self.cut_answers = False
        self.lost = ""
        self.failures = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        if self.cut or (self.lost and request.url.path.startswith(self.lost)):
            self.failures += 1
            raise httpx.ConnectError("cut")
        self.paths.append(request.url.path)
        answer = await self._inner.handle_async_request(request)
        if self.cut_answers:
            raise httpx.ReadError("cut")
        return answer

    async def aclose(self) -> None:
        """Close the line."""
        await self._inner.aclose()

    def count(self, path: str) -> int:
        """How many requests went to a path."""
        return self.paths.count(path)


async def found(server: InProcess | Place) -> Identity:
    """A new organization on the server; its first device."""
    place = place_of(server) if isinstance(server, InProcess) else server
    request, identity = found_org(
        token=token_for(place.registration),
        name="acme",
        user_name="alice",
        email="alice@acme.example",
        device_label="first",
        chain=chain_anchor(place.chain_id),
        server=place.registration,
        server_url=place.url,
        rpc_urls=("http://chain.test",),
        random=os.urandom,
    )
    async with httpx.AsyncClient(transport=place.line()) as http:
        await PublicClient(Transport(http, place.url)).create_org(request)
    return identity


@dataclass(kw_only=True)
class Laptop:
    """One device, with at most one workspace open."""

    identity: Identity
    author: Author
    client: ServerClient
    org: OrgReplica
    signer: Signer
    wire: Wire
    folder: Path
    name: str
    nursery: trio.Nursery
    hook: Hook = lambda point: None
    audit: AuditView = field(default_factory=Unaudited)
    checks: ReplicaChecks = REPLICA_CHECKS
    cache_limit: int = CACHE_LIMIT
    parts: Workspace | None = None
    running: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    @property
    def workspace(self) -> Workspace:
        """The open workspace."""
        assert self.parts is not None
        return self.parts

    @property
    def filesystem(self) -> Filesystem:
        """Its file system."""
        return self.workspace.filesystem

    async def create_realm(self) -> RealmId:
        """A new realm of this device's user."""
        org = await self.org.pull()
        request, _ = create_realm(name="docs", org=org, seen=self.org.seen(), author=self.author)
        await self.client.create_realm(request)
        await self.org.pull()
        return request.realm

    async def open(self, realm: RealmId) -> Workspace:
        """Open the workspace, pulling first if the device has never seen it."""
        outside = Outside(
            server=self.client,
            signer=self.signer,
            org=self.org,
            author=self.author,
            audit=self.audit,
            pins=self.identity.pins,
            label=lambda: f"{self.name} 2026-01-01 10.00".encode(),
            hook=lambda point: self.hook(point),
            checks=self.checks,
            cache_limit=self.cache_limit,
        )
        self.parts = assemble(self.folder / realm.hex()[:8], realm, outside)
        if self.parts.bootstrap.is_first():
            await self.parts.bootstrap.open_first()
        self.parts.filesystem.open()
        self.running, self.ended = trio.CancelScope(), trio.Event()
        await self.nursery.start(self._run, self.parts.filesystem)
        return self.parts

    async def _run(
        self, filesystem: Filesystem, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with self.running:
            await filesystem.run(task_status=task_status)
        self.ended.set()

    async def restart(self, *, killed: bool = False) -> None:
        """The program ends and starts again: only what is on disk goes on. `killed`: what it had
        not written is lost."""
        parts = self.workspace
        place = self.folder / parts.store.log.hex()[:8]
        copy = place.with_suffix(".killed")
        if killed:
            shutil.copytree(place, copy)
        self.running.cancel()
        await self.ended.wait()
        parts.close()
        if killed:
            shutil.rmtree(place)
            copy.rename(place)
        self.author = replace(self.author, incarnation=os.urandom(16))
        await self.open(RealmId(parts.store.log))

    def crash(self, folder: Path) -> Path:
        """What a sudden end would leave on disk, as a copy that another `laptop` can open."""
        shutil.copytree(self.folder, folder)
        return folder

    # What a person does

    def make(self, path: str, content: bytes = b"") -> ObjectId:
        """A file with content, closed."""
        parent, name = self.parent(path)
        fs = self.filesystem
        node: FileNode = self._call(names.make_file, parent.inode, name, 0o644, (0, 0), fs.clock())
        self._fill(node, content)
        return node.id

    def write(self, path: str, content: bytes) -> None:
        """Replace the content of a file."""
        node = self.file(path)
        self._call(files.truncate, node, 0, self._now())
        self._fill(node, content)

    def append(self, path: str, content: bytes) -> None:
        """Add to the end of a file."""
        node = self.file(path)
        self.filesystem.write(node, node.size, content)
        self.filesystem.released(node)
        self.filesystem.flush()

    def _fill(self, node: FileNode, content: bytes) -> None:
        fs = self.filesystem
        for offset in range(0, len(content), 128 * 1024):
            fs.write(node, offset, content[offset : offset + 128 * 1024])
        fs.released(node)
        fs.flush()

    def mkdir(self, path: str) -> ObjectId:
        """A folder."""
        parent, name = self.parent(path)
        now = self._now()
        node: Node = self._call(names.create, parent.inode, name, 0o040755, owner=(0, 0), now=now)
        return node.id

    def unlink(self, path: str) -> None:
        """Remove a file's name."""
        parent, name = self.parent(path)
        self._call(names.unlink, parent.inode, name, 0, self._now())

    def rmdir(self, path: str) -> None:
        """Remove an empty folder."""
        parent, name = self.parent(path)
        self._call(names.rmdir, parent.inode, name, 0, self._now())

    def rename(self, path: str, new_path: str, *, flags: int = 0) -> None:
        """Move or rename; `flags` as for renameat2."""
        parent, name = self.parent(path)
        new_parent, new_name = self.parent(new_path)
        how = {"flags": flags, "uid": 0, "now": self._now()}
        self._call(names.rename, parent.inode, name, new_parent.inode, new_name, **how)

    def link(self, path: str, new_path: str) -> None:
        """One more name for a file."""
        parent, name = self.parent(new_path)
        self._call(names.link, self.node(path).inode, parent.inode, name, self._now())

    def chmod(self, path: str, mode: int) -> None:
        """Change permission bits."""
        self._call(files.set_attributes, self.node(path), self._now(), mode=mode)

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        tree = self.filesystem.tree
        result = self.filesystem.call(lambda: function(tree, *args, **kwargs))
        self.filesystem.flush()
        return result

    def _now(self) -> int:
        return self.filesystem.clock()

    def parent(self, path: str) -> tuple[FolderNode, bytes]:
        """Folder and name."""
        folder, _, name = path.rpartition("/")
        node = self.node(folder)
        assert isinstance(node, FolderNode)
        return node, name.encode()

    def node(self, path: str) -> Node:
        """The node behind a path."""
        fs = self.filesystem
        node: Node = fs.tree.node(ROOT_INODE)
        for name in filter(None, path.split("/")):
            found = fs.call(fs.tree.lookup, node.inode, name.encode())
            if found is None:
                raise FileNotFoundError(path)
            node = found
        return node

    def file(self, path: str) -> FileNode:
        """The file behind a path."""
        node = self.node(path)
        assert isinstance(node, FileNode)
        return node

    async def read(self, path: str) -> bytes:
        """Content of a file."""
        node, content = self.file(path), b""
        while len(content) < node.size:
            part = self.filesystem.read_now(node, len(content), 1 << 20)
            if part is None:
                part = await self.filesystem.read(node, len(content), 1 << 20)
            content += bytes(part)
        return content

    async def walk(self, path: str = "") -> dict[str, bytes | None]:
        """Every path below, with content (None: a folder)."""
        node = self.node(path)
        assert isinstance(node, FolderNode)
        found: dict[str, bytes | None] = {}
        children = self.filesystem.call(self.filesystem.tree.children, node)
        for name, (_, kind) in sorted(children.items()):
            below = f"{path}/{name.decode()}".lstrip("/")
            if kind == FOLDER:
                found[below] = None
                found |= await self.walk(below)
            else:
                found[below] = await self.read(below)
        return found

    # Synchronisation, one step at a time

    async def push(self) -> None:
        """Log everything that is pending."""
        self.filesystem.flush()
        while await self.workspace.sync.push_once() or self.pending():
            pass

    def pending(self) -> bool:
        """True iff something is not logged."""
        tree = self.filesystem.tree
        return bool(tree.dirty_nodes or tree.dirty_names)

    def contested(self) -> bool:
        """True iff something changed here and elsewhere and is not settled yet."""
        return bool(self.workspace.sync.contest)

    def names_in_store(self) -> dict[str, ObjectId]:
        """Every path of the local store, without the tree; link counts must agree, and folders have
        one place."""
        loader, found = self.workspace.loader, dict[str, ObjectId]()
        links: dict[ObjectId, int] = {}
        folders: set[ObjectId] = set()

        def walk(path: str, id: ObjectId) -> None:
            manifest = loader.load(id)
            assert manifest is not None, f"{path} is named but not there"
            if not isinstance(manifest, FolderManifest):
                return
            assert id not in folders, f"{path} is a second place of a folder"
            folders.add(id)
            for name, (child, _) in loader.load_children(id, manifest).names.items():
                below = f"{path}/{name.decode()}"
                found[below] = child
                links[child] = links.get(child, 0) + 1
                walk(below, child)

        walk("", ROOT_OBJECT)
        assert links == {id: loader.link_count(id) for id in links}
        return found

    async def pull(self) -> None:
        """Take over what others logged."""
        await self.workspace.sync.pull_once()


@asynccontextmanager
async def laptop(
    server: InProcess | Place,
    identity: Identity,
    folder: Path,
    name: str = "laptop",
    *,
    checks: ReplicaChecks = REPLICA_CHECKS,
) -> AsyncIterator[Laptop]:
    """A device whose files lie under `folder`; doing it again is a restart of the program."""
    anchor, secrets = identity.anchor, identity.secrets
    store = OrgStore(folder / "org.db", anchor.org)
    wire = Wire(place_of(server) if isinstance(server, InProcess) else server)
    url = anchor.server_url.decode()
    async with (
        httpx.AsyncClient(transport=wire) as http,
        trio.open_nursery() as nursery,
    ):
        signer = Signer(
            Transport(http, url),
            server_log=anchor.server.server_log,
            org=anchor.org,
            device=secrets.device,
            key=secrets.signing_key(),
        )
        client = ServerClient(
            signer,
            context=anchor.context(),
            head_key=VerifyKey(anchor.server.head_key),
            random=os.urandom,
        )
        device = Laptop(
            identity=identity,
            author=Author(secrets=secrets, incarnation=os.urandom(16), random=os.urandom),
            client=client,
            org=OrgReplica(
                store,
                client,
                genesis=anchor.genesis,
                audit=Unaudited(),
                pins=identity.pins,
                checks=checks,
            ),
            signer=signer,
            wire=wire,
            folder=folder,
            name=name,
            nursery=nursery,
            checks=checks,
        )
        yield device
        nursery.cancel_scope.cancel()
    if device.parts is not None:
        device.parts.close()
    store.close()


async def second_device(first: Laptop) -> Identity:
    """Another device of the same user, added by the first one."""
    own = first.author.secrets
    org = await first.org.pull()
    user_key = newest_user_key(org, own)
    secrets = new_secrets(org=own.org, user=own.user, user_keys=(), random=os.urandom)
    certificate = device_content(secrets, b"second", generation=user_key.generation)
    body = add_device(
        certificate, org=org, seen=first.org.seen(), author=first.author, user_key=user_key
    )
    await first.client.append_certificate(LogId(own.org), body)
    await first.org.pull()
    return Identity(anchor=first.identity.anchor, secrets=secrets, pins=())


async def renew_user_key(device: Laptop) -> None:
    """A new generation of the user's key, made by this device."""
    org = await device.org.pull()
    body = make_user_key(org=org, seen=device.org.seen(), author=device.author)
    await device.client.append_certificate(LogId(device.author.secrets.org), body)
    await device.org.pull()


@asynccontextmanager
async def two_laptops(folder: Path) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """Two devices of one user with the same workspace open, in step."""
    async with in_process(folder / "server") as server, pair(server, folder) as both:
        yield both


@asynccontextmanager
async def pair(server: InProcess | Place, folder: Path) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """As `two_laptops`, at a server that runs already."""
    alice = await found(server)
    async with laptop(server, alice, folder / "one", "one") as one:
        realm = await one.create_realm()
        await one.open(realm)
        await one.push()
        other = await second_device(one)
        async with laptop(server, other, folder / "two", "two") as two:
            await two.open(realm)
            yield one, two


async def in_step(*laptops: Laptop) -> dict[str, bytes | None]:
    """Push and pull until everybody shows the same and nothing is pending; what they show."""
    for _ in range(10):
        for one in laptops:
            await one.push()
        for one in laptops:
            await one.pull()
        if not any(one.pending() or one.contested() for one in laptops):
            break
    shown = [await one.walk() for one in laptops]
    assert all(one == shown[0] for one in shown)
    stored = [one.names_in_store() for one in laptops]
    assert all(one == stored[0] for one in stored)
    return shown[0]


async def second_user(first: Laptop, name: str = "bob", *, profile: int = STANDARD) -> Identity:
    """Another user with one device, added by the first one, an administrator."""
    own = first.author.secrets
    seed = UserKeySeed(generation=1, seed=os.urandom(96))
    secrets = new_secrets(
        org=own.org, user=UserId(os.urandom(16)), user_keys=(seed,), random=os.urandom
    )
    user = user_content(name, secrets, profile=profile)
    for content in (user, device_content(secrets, b"tablet")):
        org = await first.org.pull()
        chain = org.chains.get(own.device, DeviceChain())
        header = first.author.header(org.context, chain, first.org.seen())
        body = first.author.sign(content, header=header)
        await first.client.append_certificate(LogId(own.org), body)
    await first.org.pull()
    return Identity(anchor=first.identity.anchor, secrets=secrets, pins=())


async def give_role(owner: Laptop, user: UserId, role: int) -> None:
    """A role in the workspace that the owner has open, and a new key for all who then have one."""
    await set_role(owner, user, role)
    await owner.workspace.rekeying.rotate()
    await owner.pull()


async def set_role(owner: Laptop, user: UserId, role: int) -> None:
    """Only the role."""
    workspace, author = owner.workspace, owner.author
    await workspace.replica.ready()
    state = workspace.replica.state
    chain = state.chains[author.secrets.device]
    body = sign_certificate(
        Role(user=user, role=role),
        header=author.header(state.context, chain, workspace.replica.seen()),
        replaces=state.map.get(map_key(b"role", user)) or NO_HASH,
        key=author.secrets.signing_key(),
    )
    org = await owner.org.pull()
    registered = registration(body, org=org, seen=owner.org.seen(), author=author)
    await owner.client.append_certificate(owner.org.log, registered)
    await owner.client.append_certificate(workspace.replica.log, body)
    await owner.pull()


@asynccontextmanager
async def alone(folder: Path) -> AsyncIterator[tuple[InProcess, Laptop, RealmId]]:
    """A server, and the only device of its only user, with a workspace."""
    async with (
        in_process(folder / "server") as server,
        laptop(server, await found(server), folder / "one", "one") as one,
    ):
        realm = await one.create_realm()
        await one.open(realm)
        await one.push()
        yield server, one, realm
