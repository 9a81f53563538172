"""One short method per request of the kernel: translate, call, translate.

Data flow: mount/loop -> this -> workspace names, files, filesystem -> answers.

Rules guarded here:
- a handler raises FUSEError and nothing else: anything unexpected is logged and answered EIO (an
  exception that escapes would end the whole mount);
- common requests do not await: they are plain functions, made handlers by `answers` (reading) and
  `changes` (refused while the gate is closed) or `grows` (and without room); what may have to wait
  is marked `waits`;
- what the tree misses is loaded and the request repeated; nothing was changed before;
- a frozen mount shows only what was verified before.
"""

import errno
import os
from collections.abc import Sequence
from typing import Any, Final

import pyfuse3
import trio
from pyfuse3 import FUSEError

from parsec_fs.mount import control, readahead, truncation
from parsec_fs.mount.attributes import CACHE_S, Attributes
from parsec_fs.mount.guards import answers, changes, failure, grows, waits
from parsec_fs.mount.handles import Handle
from parsec_fs.mount.stage import Stage
from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import NAME_MAX_SIZE
from parsec_fs.workspace import files, names
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.nodes import (
    ROOT_INODE,
    Entry,
    FileNode,
    FolderNode,
    Missing,
    Node,
    SymlinkNode,
)
from parsec_fs.workspace.tree import FIRST_INODE

CAPABILITY: Final = b"security.capability"
POSIX_ACL: Final = b"system.posix_acl_"
DAY_NS: Final = 86_400 * 10**9


class Operations(pyfuse3.Operations):
    """Requests of one mount."""

    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(
        self,
        filesystem: Filesystem,
        gate: Gate,
        facts: control.Facts,
        attributes: Attributes,
    ) -> None:
        super().__init__()
        self.filesystem = filesystem
        self.tree = filesystem.tree
        self.clock = filesystem.clock
        self.gate = gate
        self.facts = facts
        self.attributes = attributes
        self.stage = Stage(self.tree, attributes, self._empty_handle)
        self.handles: dict[int, Handle] = {}
        self.last_handle = 0
        self.unexpected = 0
        self.initialised = trio.Event()
        self._info = pyfuse3.FileInfo()

    def load(self, missing: Missing) -> None:
        """Load what the tree asked for, so that the request can be repeated."""
        try:
            self.filesystem.load(missing)
        except Exception as error:
            raise failure(self, error, "load") from None

    def init(self) -> None:
        """The kernel has asked for the first time."""
        self.initialised.set()

    # Names

    @answers
    def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        if ctx.pid == self.stage.pid:
            self.stage.on_own()
            past = self.stage.lookup(parent, name)
            if past is not None:
                return past
        node = self.tree.lookup(parent, name)
        if node is None:
            if parent == ROOT_INODE and name in control.STATUS_INODES:
                return self._status_attributes(control.STATUS_INODES[name])
            return self.attributes.absent
        attrs = self.attributes.of(node)
        node.lookups += 1
        return attrs

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            self.tree.forget(inode, count)

    @grows
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        owner = (ctx.uid, ctx.gid)
        now = self.clock()
        node = names.create(self.tree, parent, name, mode, owner=owner, now=now, rdev=rdev)
        return self.attributes.of(node)

    @grows
    def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        owner = (ctx.uid, ctx.gid)
        node = names.create(self.tree, parent, name, mode, owner=owner, now=self.clock())
        return self.attributes.of(node)

    @grows
    def symlink(self, parent: int, name: bytes, target: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        owner = (ctx.uid, ctx.gid)
        node = names.make_symlink(self.tree, parent, name, target, owner, self.clock())
        return self.attributes.of(node)

    @grows
    def link(
        self, inode: int, new_parent: int, new_name: bytes, ctx: Any
    ) -> pyfuse3.EntryAttributes:
        node = names.link(self.tree, inode, new_parent, new_name, self.clock())
        return self.attributes.of(node)

    @changes
    def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        names.unlink(self.tree, parent, name, ctx.uid, self.clock())

    @changes
    def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        names.rmdir(self.tree, parent, name, ctx.uid, self.clock())

    @changes
    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int, ctx: Any
    ) -> None:
        now = self.clock()
        names.rename(
            self.tree, parent, name, new_parent, new_name, flags=flags, uid=ctx.uid, now=now
        )

    @answers
    def readlink(self, inode: int, ctx: Any) -> bytes:
        node = self.tree.node(inode)
        if type(node) is not SymlinkNode:
            raise FUSEError(errno.EINVAL)
        if self.gate.frozen and not self.gate.is_readable(node.id):
            raise FUSEError(errno.EIO)
        return node.target

    # Attributes

    @answers
    def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        if ctx.pid == self.stage.pid:
            self.stage.on_own()
        if 1 < inode < FIRST_INODE:
            return self._status_attributes(inode)
        return self.attributes.of(self.tree.node(inode))

    @changes
    def setattr(
        self,
        inode: int,
        new: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: Any,
    ) -> pyfuse3.EntryAttributes:
        if 1 < inode < FIRST_INODE:
            raise FUSEError(errno.EPERM)
        node = self.tree.node(inode)
        now = self.clock()
        if fields.update_size:
            if type(node) is not FileNode:
                raise FUSEError(errno.EISDIR)
            files.truncate(self.tree, node, new.st_size, now)
        values: dict[str, int] = {}
        if fields.update_mode:
            values["mode"] = new.st_mode
        if fields.update_uid:
            values["uid"] = new.st_uid
        if fields.update_gid:
            values["gid"] = new.st_gid
        if fields.update_atime:
            values["atime_ns"] = new.st_atime_ns
        if fields.update_mtime:
            values["mtime_ns"] = new.st_mtime_ns
        if values or not fields.update_size:
            # Nothing named is chown(-1, -1): it changes ctime all the same.
            files.set_attributes(self.tree, node, now, **values)
        return self.attributes.of(node)

    @answers
    def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        if name == CAPABILITY:
            raise FUSEError(errno.ENODATA)
        if name.startswith(POSIX_ACL):
            raise FUSEError(errno.EOPNOTSUPP)
        if 1 < inode < FIRST_INODE:
            raise FUSEError(errno.ENODATA)
        node = self.tree.node(inode)
        if name.startswith(control.XATTR_PREFIX):
            return control.virtual_xattr(self.facts, node.id, name)
        value = (node.xattrs or {}).get(name)
        if value is None:
            raise FUSEError(errno.ENODATA)
        return value

    @grows
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any) -> None:
        control.check_settable(name)
        files.set_xattr(self.tree, self.tree.node(inode), name, value, self.clock())

    @changes
    def removexattr(self, inode: int, name: bytes, ctx: Any) -> None:
        control.check_settable(name)
        files.remove_xattr(self.tree, self.tree.node(inode), name, self.clock())

    @answers
    def listxattr(self, inode: int, ctx: Any) -> list[bytes]:
        return (
            list(self.tree.node(inode).xattrs or ()) if inode >= FIRST_INODE or inode == 1 else []
        )

    # Files

    def _new_handle(self, node: Node | None, flags: int) -> pyfuse3.FileInfo:
        handle = Handle(node, flags)
        self.last_handle += 1
        self.handles[self.last_handle] = handle
        # One FileInfo for all answers: pyfuse3 copies it before anything else runs.
        info = self._info
        info.fh = pyfuse3.FileHandleT(self.last_handle)
        info.keep_cache, info.direct_io = True, False
        if node is not None:
            node.opens += 1
            if type(node) is FileNode:
                node.writers += handle.writable
                if node.stale_pages and node.opens == 1:
                    info.keep_cache = node.stale_pages = False
        return info

    def _empty_handle(self) -> pyfuse3.FileInfo:
        return self._new_handle(None, os.O_RDONLY)

    @grows
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: Any
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        owner = (ctx.uid, ctx.gid)
        node: Node | None
        try:
            node = names.make_file(self.tree, parent, name, mode, owner, self.clock())
        except LocalError as error:
            # Another device made the file a moment ago, and the kernel does not know yet.
            if error.errno != errno.EEXIST or flags & os.O_EXCL:
                raise
            node = self.tree.lookup(parent, name)
            if type(node) is not FileNode:
                raise
            if flags & os.O_TRUNC:
                truncation.on_open(self.tree, node, ctx, self.clock())
            node.lookups += 1
        return self._new_handle(node, flags), self.attributes.of(node)

    @answers
    def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        if 1 < inode < FIRST_INODE:
            return self._open_status(inode, flags)
        if ctx.pid == self.stage.pid:
            return self.stage.open()
        node = self.tree.node(inode)
        if self.gate.refusal and flags & (os.O_ACCMODE | os.O_TRUNC) != os.O_RDONLY:
            raise FUSEError(self.gate.refusal)
        if self.gate.frozen and not self.gate.is_readable(node.id):
            raise FUSEError(errno.EIO)
        if flags & os.O_TRUNC and type(node) is FileNode:
            truncation.check_not_running(node, flags, self.handles.values())
            truncation.on_open(self.tree, node, ctx, self.clock())
        elif type(node) is FileNode and flags & os.O_ACCMODE == os.O_RDONLY:
            readahead.opened(self.filesystem.contents, node)
        return self._new_handle(node, flags)

    @waits  # any buffer will do: pyfuse3 copies it
    async def read(  # type: ignore[override]
        self, fh: int, offset: int, size: int
    ) -> bytes | memoryview:
        handle = self.handles[fh]
        node = handle.node
        if type(node) is not FileNode:
            return handle.data[offset : offset + size]
        if self.gate.frozen and not self.gate.is_readable(node.id):
            raise FUSEError(errno.EIO)
        now = self.clock()
        if node.atime_ns <= node.mtime_ns or now - node.atime_ns > DAY_NS:
            # relatime, in memory: it is logged with the next change of the file.
            node.atime_ns, node.fresh = now, False
        if node.blocks is not None:
            readahead.read_ahead(self.filesystem.contents, handle, node.blocks, offset, size)
        data = self.filesystem.read_now(node, offset, size)
        return await self.filesystem.read(node, offset, size) if data is None else data

    @waits
    async def write(self, fh: int, offset: int, data: bytes) -> int:
        if self.gate.refusal:
            raise FUSEError(self.gate.refusal)
        node = self.handles[fh].node
        assert type(node) is FileNode
        if self.filesystem.write(node, offset, data):
            await self.filesystem.relieve()
        return len(data)

    async def flush(self, fh: int) -> None:
        # The kernel then stops sending it: one request less per close (decisions.md 6).
        raise FUSEError(errno.ENOSYS)

    @answers
    def release(self, fh: int) -> None:
        handle = self.handles.pop(fh)
        node = handle.node
        if node is None:
            if not handle.data:
                self.stage.on_own()  # one of `_empty_handle`: a release does not say whose it is
            return
        node.opens -= 1
        if type(node) is FileNode and handle.writable:
            node.writers -= 1
            self.filesystem.released(node)
        if node.nlink == 0 and node.lookups <= 0 and node.opens == 0:
            self.tree.drop(node)

    @waits
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._synced(self.handles[fh].node)

    @waits
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._synced(self.handles[fh].node)

    async def _synced(self, node: Node | None) -> None:
        position = await self.filesystem.fsync(node if type(node) is FileNode else None)
        await self.gate.fsync_wait(position, None if node is None else node.id)

    # Folders

    @answers
    def opendir(self, inode: int, ctx: Any) -> int:
        node = self.tree.folder(inode)
        self.last_handle += 1
        self.handles[self.last_handle] = Handle(node, os.O_RDONLY)
        node.opens += 1
        return self.last_handle

    @answers
    def readdir(self, fh: int, start: int, token: Any) -> None:
        handle = self.handles[fh]
        folder = handle.node
        assert type(folder) is FolderNode
        if start == 0:
            # A listing is a snapshot: names removed while it is read do not shift the others. What
            # a name stands for is looked up when it is told: it may have been replaced.
            handle.listing = list(self.tree.children(folder))
        self._list(handle, folder, start, token)

    def _list(self, handle: Handle, folder: FolderNode, start: int, token: Any) -> None:
        of, nodes, reply = self.attributes.of, self.tree.nodes, pyfuse3.readdir_reply
        children = self.tree.children(folder)
        if start == 0:
            reply(token, b".", of(folder), 1)
        if start <= 1:
            reply(token, b"..", of(folder.parent or folder), 2)
            start = 2
        listing = handle.listing
        for position in range(start - 2, len(listing)):
            name = listing[position]
            entry = children.get(name)
            if entry is None:
                continue
            node = nodes.get(entry[0])
            if node is None or not node.fresh:
                node = self._listed(folder, entry)
            if not reply(token, name, of(node), position + 3):
                return
            node.lookups += 1

    def _listed(self, folder: FolderNode, entry: Entry) -> Node:
        """A child with all that stat shows; repeating the request would count others twice."""

        def shown() -> Node:
            node = self.tree.child(folder, entry)
            self.attributes.of(node)
            return node

        return self.filesystem.call(shown)

    @answers
    def releasedir(self, fh: int) -> None:
        node = self.handles.pop(fh).node
        assert node is not None
        node.opens -= 1
        if node.nlink == 0 and node.lookups <= 0 and node.opens == 0:
            self.tree.drop(node)

    # The mount itself

    @answers
    def statfs(self, ctx: Any) -> pyfuse3.StatvfsData:
        found = os.statvfs(self.filesystem.journal.directory)
        answer = pyfuse3.StatvfsData()
        answer.f_bsize, answer.f_frsize = found.f_bsize, found.f_frsize
        answer.f_blocks, answer.f_bfree = found.f_blocks, found.f_bfree
        answer.f_bavail, answer.f_files = found.f_bavail, found.f_files
        answer.f_ffree, answer.f_favail = found.f_ffree, found.f_favail
        answer.f_namemax = NAME_MAX_SIZE
        return answer

    def _status_attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        attrs = pyfuse3.EntryAttributes()
        attrs.st_ino = pyfuse3.InodeT(inode)
        attrs.st_mode = pyfuse3.ModeT(0o100444)
        attrs.st_size = len(control.status_content(self.facts, inode))
        attrs.st_atime_ns = attrs.st_mtime_ns = attrs.st_ctime_ns = self.clock()
        attrs.entry_timeout = CACHE_S
        attrs.attr_timeout = 0
        return attrs

    def _open_status(self, inode: int, flags: int) -> pyfuse3.FileInfo:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise FUSEError(errno.EACCES)
        info = self._new_handle(None, os.O_RDONLY)
        self.handles[info.fh].data = control.status_content(self.facts, inode)
        info.keep_cache, info.direct_io = False, True
        return info
