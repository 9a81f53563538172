"""What the tree is made of: one mutable node per object in memory.

Data flow: mount/operations -> workspace/tree -> this -> journal records, captured manifests.

The only mutable values of the core (decisions.md 4, hop 2): slots, no copies, no I/O. A node is in
memory if the kernel knows it, if it has changes that are not logged, or because it was used lately;
everything else is behind `Missing`, which the shell answers by loading and asking again.
"""

from collections.abc import Callable
from typing import Any, Final

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.limits import BLOCK_SIZE
from parsec_fs.protocol.manifests import FILE, FOLDER, SPECIAL, SYMLINK, BlockRef

Entry = tuple[ObjectId, int]
"""What a name stands for: object id and kind (FILE, FOLDER, SYMLINK or SPECIAL)."""

ROOT_INODE: Final = 1

NODE: Final = "node"
CHILDREN: Final = "children"
CONTENT: Final = "content"

TYPE_BITS: Final = 0o170000
TYPE_FOLDER: Final = 0o040000
TYPE_FILE: Final = 0o100000
TYPE_SYMLINK: Final = 0o120000

_KINDS: Final = {TYPE_FOLDER: FOLDER, TYPE_FILE: FILE, TYPE_SYMLINK: SYMLINK}


class Missing(Exception):  # noqa: N818 - a question to the shell, not an error
    """Something is not in memory: load it and repeat the call. Raised before any change is made."""

    def __init__(self, what: str, id: ObjectId, parent: "FolderNode | None" = None) -> None:
        super().__init__(what)
        self.what = what
        self.id = id
        self.parent = parent


class Node:
    """One object: what stat shows, and its place in memory.

    `nlink` counts names (for folders: 2 + subfolders); a file whose nlink is 0 is an orphan.
    `lookups` is the kernel's reference count. `created` iff the local store does not have it.
    `cookie` and `fresh` belong to the mount: kept attributes, and whether they are up to date.
    """

    __slots__ = (
        "id",
        "inode",
        "kind",
        "entry",
        "mode",
        "uid",
        "gid",
        "rdev",
        "size",
        "atime_ns",
        "mtime_ns",
        "ctime_ns",
        "birth_ns",
        "xattrs",
        "nlink",
        "lookups",
        "opens",
        "created",
        "cookie",
        "fresh",
    )

    def __init__(
        self, id: ObjectId, inode: int, mode: int, uid: int, gid: int, rdev: int, now: int
    ) -> None:
        self.id = id
        self.inode = inode
        self.kind = _KINDS.get(mode & TYPE_BITS, SPECIAL)
        self.entry: Entry = (id, self.kind)
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.size = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.birth_ns = now
        self.xattrs: dict[bytes, bytes] | None = None
        self.nlink = 0
        self.lookups = 0
        self.opens = 0
        self.created = True
        self.cookie: Any = None
        self.fresh = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id.hex()})"


class SymlinkNode(Node):
    """A symbolic link."""

    __slots__ = ("target",)
    target: bytes


class FolderNode(Node):
    """A folder. `children` is None until it was loaded; `pending` counts unlogged name changes."""

    __slots__ = ("children", "page_bits", "page_key", "parent", "pending")

    def __init__(
        self, id: ObjectId, inode: int, mode: int, uid: int, gid: int, rdev: int, now: int
    ) -> None:
        super().__init__(id, inode, mode, uid, gid, rdev, now)
        self.children: dict[bytes, Entry] | None = {}
        self.parent: FolderNode | None = None
        self.page_key = b""
        self.page_bits = 0
        self.pending = 0
        self.nlink = 2


class Buffer:
    """Content of one block in memory, newer than its sealed form.

    `known` are the ranges of `data` that are valid; outside them the sealed block (or a hole)
    shows through. `fresh` are the ranges that are not in the journal yet. Both are sorted lists of
    [start, stop) pairs. `sealing` iff a worker is sealing exactly this data, which then is frozen.
    """

    __slots__ = ("data", "fresh", "known", "sealing")

    def __init__(self) -> None:
        self.data: bytes | bytearray = bytearray()
        self.known: list[list[int]] = []
        self.fresh: list[list[int]] = []
        self.sealing = False


class FileNode(Node):
    """A regular file, in one of two forms.

    Inline (`blocks` is None): `content` is a prefix of the file, the rest up to `size` is a hole;
    None iff the content is not in memory (`spilled`: position of its journal record, or 0 if the
    local store has it). Blocks: `blocks[i]` is the sealed block or None for a hole, `cuts[i]` says
    that only so many of its bytes count (the rest was truncated away: zeros), `buffers[i]` lies
    over it. `unjournaled` iff data, size or times are newer than the journal.
    """

    __slots__ = (
        "blocks",
        "buffers",
        "content",
        "cuts",
        "deferred",
        "journaled_size",
        "spilled",
        "stale_pages",
        "unjournaled",
        "writers",
    )

    def __init__(
        self, id: ObjectId, inode: int, mode: int, uid: int, gid: int, rdev: int, now: int
    ) -> None:
        super().__init__(id, inode, mode, uid, gid, rdev, now)
        self.content: bytes | bytearray | None = b""
        self.spilled = 0
        self.blocks: list[BlockRef | None] | None = None
        self.cuts: dict[int, int] = {}
        self.buffers: dict[int, Buffer] = {}
        self.journaled_size = 0
        self.unjournaled = False
        self.deferred = False
        self.writers = 0
        self.stale_pages = False

    def allocated(self) -> int:
        """Bytes that are not holes, as st_blocks shows them."""
        if self.blocks is None:
            return min(self.size, 16384) if self.content is None else len(self.content)
        count = sum(1 for ref in self.blocks if ref is not None)
        count += sum(1 for i in self.buffers if i >= len(self.blocks) or self.blocks[i] is None)
        return min(count * BLOCK_SIZE, self.size)


MakeNode = Callable[[ObjectId, int, int, int, int, int, int], Node]

CLASSES: Final[dict[int, MakeNode]] = {
    FILE: FileNode,
    FOLDER: FolderNode,
    SYMLINK: SymlinkNode,
    SPECIAL: Node,
}


def new_node(id: ObjectId, inode: int, mode: int, uid: int, gid: int, rdev: int, now: int) -> Node:
    """A node of the class that its mode asks for; all times are `now`."""
    kind = _KINDS.get(mode & TYPE_BITS, SPECIAL)
    return CLASSES[kind](id, inode, mode, uid, gid, rdev, now)
