"""The tree over captures, rejections, restarts and replays, beside an ordinary folder.

Data flow: hypothesis -> operations on the tree and on a real folder -> same names, contents and
    refusals; restart from store and journal -> still the same.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import files, names
from parsec_fs.workspace.nodes import TYPE_FOLDER, FileNode, FolderNode, Node
from tests.support.trees import World, content_of

FOLDERS = st.sampled_from([(), (b"a",), (b"a", b"b"), (b"c",)])
NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
OWNER = (0, 0)


class TreeMachine(RuleBasedStateMachine):
    """Every rule does the same in both worlds and compares the outcome."""

    @initialize()
    def start(self) -> None:
        self.world = World()
        self.real = Path(tempfile.mkdtemp())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.compare()
        self.restart()
        shutil.rmtree(self.real)

    def at(self, folder: tuple[bytes, ...], name: bytes) -> Path:
        return self.real.joinpath(*[os.fsdecode(part) for part in (*folder, name)])

    def inode(self, folder: tuple[bytes, ...]) -> int | None:
        """The folder's inode number, or None if there is no such folder."""
        if not self.at(folder, b"").is_dir() or self.at(folder, b"").is_symlink():
            return None
        return self.world.folder(*folder).inode

    def both(self, real: Callable[[], object], result: object) -> None:
        """The real call refuses exactly when ours did, for the same reason."""
        ours = result if isinstance(result, str) else ""
        try:
            real()
        except OSError as error:
            theirs = errno.errorcode[error.errno or 0]
            # rename(2) may say either for a folder that is not empty.
            theirs = "ENOTEMPTY" if theirs == "EEXIST" and ours == "ENOTEMPTY" else theirs
        else:
            theirs = ""
        assert ours == theirs

    def node(self, folder: tuple[bytes, ...], name: bytes) -> Node | None:
        if self.inode(folder) is None or not os.path.lexists(self.at(folder, name)):
            return None
        return self.world.look(self.world.folder(*folder), name)

    @rule(folder=FOLDERS, name=NAMES)
    def make_folder(self, folder: tuple[bytes, ...], name: bytes) -> None:
        inode = self.inode(folder)
        if inode is None:
            return
        mode = TYPE_FOLDER | 0o755
        result = self.world.call(names.create, inode, name, mode, owner=OWNER, now=self.world.now)
        self.forget(result)
        self.both(self.at(folder, name).mkdir, result)

    @rule(folder=FOLDERS, name=NAMES)
    def make_file(self, folder: tuple[bytes, ...], name: bytes) -> None:
        inode = self.inode(folder)
        if inode is None:
            return
        result = self.world.call(names.make_file, inode, name, 0o644, OWNER, self.world.now)
        self.forget(result)
        self.both(lambda: self.at(folder, name).touch(exist_ok=False), result)

    @rule(folder=FOLDERS, name=NAMES)
    def make_symlink(self, folder: tuple[bytes, ...], name: bytes) -> None:
        inode = self.inode(folder)
        if inode is None:
            return
        result = self.world.call(names.make_symlink, inode, name, b"target", OWNER, self.world.now)
        self.forget(result)
        self.both(lambda: self.at(folder, name).symlink_to("target"), result)

    def forget(self, result: object) -> None:
        """The kernel drops its reference at once: orphans leave memory."""
        if isinstance(result, Node):
            self.world.tree.forget(result.inode, 1)

    @rule(folder=FOLDERS, name=NAMES)
    def unlink(self, folder: tuple[bytes, ...], name: bytes) -> None:
        inode = self.inode(folder)
        if inode is not None:
            result = self.world.call(names.unlink, inode, name, 0, self.world.now)
            self.both(self.at(folder, name).unlink, result)

    @rule(folder=FOLDERS, name=NAMES)
    def rmdir(self, folder: tuple[bytes, ...], name: bytes) -> None:
        inode = self.inode(folder)
        if inode is not None:
            result = self.world.call(names.rmdir, inode, name, 0, self.world.now)
            self.both(self.at(folder, name).rmdir, result)

    @rule(folder=FOLDERS, name=NAMES, to=FOLDERS, new=NAMES)
    def rename(
        self, folder: tuple[bytes, ...], name: bytes, to: tuple[bytes, ...], new: bytes
    ) -> None:
        inode, target = self.inode(folder), self.inode(to)
        if inode is None or target is None:
            return
        below = (*folder, name)
        if to[: len(below)] == below or folder[: len(to) + 1] == (*to, new):
            # The kernel refuses these before it asks (a folder into itself or over its ancestor).
            return
        now = self.world.now
        result = self.world.call(names.rename, inode, name, target, new, flags=0, uid=0, now=now)
        self.both(lambda: os.rename(self.at(folder, name), self.at(to, new)), result)

    @rule(folder=FOLDERS, name=NAMES, to=FOLDERS, new=NAMES)
    def link(
        self, folder: tuple[bytes, ...], name: bytes, to: tuple[bytes, ...], new: bytes
    ) -> None:
        node, target = self.node(folder, name), self.inode(to)
        if not isinstance(node, FileNode) or target is None:
            return
        result = self.world.call(names.link, node.inode, target, new, self.world.now)
        self.forget(result)
        self.both(lambda: os.link(self.at(folder, name), self.at(to, new)), result)

    @rule(
        folder=FOLDERS,
        name=NAMES,
        offset=st.sampled_from([0, 1, 100, 16_380, 20_000, 1_048_570]),
        data=st.binary(min_size=1, max_size=30),
    )
    def write(self, folder: tuple[bytes, ...], name: bytes, offset: int, data: bytes) -> None:
        node = self.node(folder, name)
        if not isinstance(node, FileNode):
            return
        self.world.call(files.write, node, offset, data, self.world.now)
        with open(self.at(folder, name), "r+b") as file:
            file.seek(offset)
            file.write(data)

    @rule(folder=FOLDERS, name=NAMES, size=st.sampled_from([0, 1, 50, 16_384, 30_000]))
    def truncate(self, folder: tuple[bytes, ...], name: bytes, size: int) -> None:
        node = self.node(folder, name)
        if isinstance(node, FileNode):
            self.world.call(files.truncate, node, size, self.world.now)
            os.truncate(self.at(folder, name), size)

    @rule(folder=FOLDERS, name=NAMES, mode=st.integers(0o600, 0o777), data=st.binary(max_size=3))
    def change(self, folder: tuple[bytes, ...], name: bytes, mode: int, data: bytes) -> None:
        node = self.node(folder, name)
        if node is not None:
            self.world.call(files.set_attributes, node, self.world.now, mode=mode)
            self.world.call(files.set_xattr, node, b"user.x", data, self.world.now)

    @rule(
        limit=st.sampled_from([1, 2, 3, 100]),
        accepted=st.booleans(),
        between=st.booleans(),
        held=st.sets(st.integers(0, 7), max_size=3),
    )
    def synchronise(self, limit: int, accepted: bool, between: bool, held: set[int]) -> None:
        """Capture, perhaps with files that have to wait; perhaps change something while it is under
        way; then logged or rejected."""
        self.world.journal_all()
        self.to_inline()
        capture = self.world.capture(limit, self.changed_files(held))
        if between:
            self.make_file((), b"d")
            self.write((), b"d", 0, b"between")
            self.unlink((), b"a")
        if accepted:
            self.world.store.take(capture)
            captures.logged(self.world.tree, capture)
            self.world.records = [r for r in self.world.records if r[0] > capture.position]
        else:
            captures.rejected(self.world.tree, capture)

    def changed_files(self, numbers: set[int]) -> set[ObjectId]:
        nodes = [self.world.tree.nodes.get(id) for id in self.world.tree.dirty_nodes]
        files = [node for node in nodes if isinstance(node, FileNode) and node.nlink]
        return {node.id for number, node in enumerate(files) if number in numbers}

    def to_inline(self) -> None:
        """These worlds have no blocks in the store: large files are cut down before a capture."""
        for node in list(self.world.tree.nodes.values()):
            if isinstance(node, FileNode) and node.blocks is not None and node.nlink:
                content = content_of(self.world, node)[:16_384]
                self.world.call(files.truncate, node, 0, self.world.now)
                self.world.call(files.write, node, 0, content or b"", self.world.now)
                self.world.journal_all()
                for path in self.real.rglob("*"):
                    if not path.is_symlink() and path.is_file() and self.is_node(path, node):
                        os.truncate(path, len(content))

    def is_node(self, path: Path, node: Node) -> bool:
        parts = [os.fsencode(part) for part in path.relative_to(self.real).parts]
        return self.world.look(self.world.folder(*parts[:-1]), parts[-1]) is node

    @rule()
    def trim(self) -> None:
        """Whatever is clean and unused leaves memory."""
        for node in self.world.tree.nodes.values():
            node.lookups = 0
        self.world.tree.trim(list(self.world.tree.nodes.values()))

    @rule()
    def restart(self) -> None:
        """A new process: everything from the store and the journal; nothing visible changes."""
        self.world.journal_all()
        before = self.world.visible()
        self.world = World(self.world.store, self.world.records)
        assert self.world.visible() == before
        self.compare()

    @rule()
    def compare(self) -> None:
        assert self.ours(self.world.folder()) == self.theirs(self.real)

    def ours(self, folder: FolderNode) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in sorted(self.world.call(lambda tree: tree.children(folder))):
            node = self.world.look(folder, name)
            if isinstance(node, FolderNode):
                found[os.fsdecode(name)] = self.ours(node)
            elif isinstance(node, FileNode):
                found[os.fsdecode(name)] = (node.nlink, content_of(self.world, node))
            else:
                found[os.fsdecode(name)] = "symlink"
        return found

    def theirs(self, folder: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        for path in sorted(folder.iterdir()):
            if path.is_symlink():
                found[path.name] = "symlink"
            elif path.is_dir():
                found[path.name] = self.theirs(path)
            else:
                found[path.name] = (path.stat().st_nlink, path.read_bytes())
        return found


TestTree = TreeMachine.TestCase
TestTree.settings = settings(stateful_step_count=40, deadline=None)
