"""What the repeater's own requests are answered: they look like changes, and change nothing.

Data flow: mount/watchers (a step) -> this <- mount/guards, operations (requests of the repeater)
    -> answers that fit the tree as it is already.

Rules guarded here:
- no request of the repeater ever changes the tree, whatever it asks: what does not fit the step
  that is on is refused;
- an answer that says what the tree does not say (a name that is gone, or not yet there) is for the
  repeater alone and for no longer than its request: the kernel holds the folder's lock meanwhile,
  and may not keep the answer;
- a folder that is said to be gone is never the real one: the kernel would close that for good.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pyfuse3
from pyfuse3 import FUSEError

from parsec_fs.mount.attributes import Attributes
from parsec_fs.protocol.manifests import FILE, FOLDER, SPECIAL, SYMLINK
from parsec_fs.workspace.nodes import (
    TYPE_FILE,
    TYPE_FOLDER,
    TYPE_SYMLINK,
    Entry,
    FolderNode,
    Node,
)
from parsec_fs.workspace.tree import Tree

MAKE: Final = {FILE: "file", FOLDER: "folder", SYMLINK: "symlink", SPECIAL: "special"}
"""What a new name of a kind is repeated as."""

_MADE_BY: Final = {"file": "create", "folder": "mkdir", "symlink": "symlink", "special": "mknod"}
_MODES: Final = {FILE: TYPE_FILE, FOLDER: TYPE_FOLDER, SYMLINK: TYPE_SYMLINK, SPECIAL: 0o010000}

Place = tuple[int, bytes]
"""A folder's inode number and a name in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change to repeat: one of `MAKE`'s, "remove", "move", "content", "attributes", "meet".

    `entry` is what the name at `place` stands for, or stood for; `target` is where it moved.
    """

    act: str
    place: Place
    entry: Entry | None = None
    target: Place | None = None


class Stage:
    """The step that is on, if any. `pid` is the repeater's while there is one."""

    def __init__(
        self, tree: Tree, attributes: Attributes, handle: Callable[[], pyfuse3.FileInfo]
    ) -> None:
        self._tree = tree
        self._attributes = attributes
        self._handle = handle
        self.pid: int | None = None
        self.on_own: Callable[[], None] = lambda: None
        """Called with each request of the repeater: it is nobody's use of the mount."""
        self._step: Step | None = None
        self._met = False

    def begin(self, step: Step) -> None:
        """Answer as this step needs it from now on."""
        self._step, self._met = step, False

    def end(self) -> bool:
        """The step is over; True iff its request came."""
        self._step = None
        return self._met

    # Names

    def lookup(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes | None:
        """A name as it was before the step, or None: the tree's own answer. Raises FUSEError."""
        step = self._step
        if step is None:
            return None
        if step.act == "meet" and (parent, name) == step.place:
            self._met = True
            raise FUSEError(errno.ENOENT)
        if (parent, name) == (step.target or step.place) and step.act in (*_MADE_BY, "move"):
            raise FUSEError(errno.ENOENT)
        if (parent, name) == step.place and step.act in ("remove", "move"):
            return self._past(step)
        return None

    def _past(self, step: Step) -> pyfuse3.EntryAttributes:
        """What the name stood for: the object itself if that is in memory and not at risk."""
        assert step.entry is not None
        node = self._tree.nodes.get(step.entry[0])
        attrs = pyfuse3.EntryAttributes()
        if node is None or not self._is_safe(node, step):
            attrs.st_ino = pyfuse3.InodeT(self._tree.inode_for(self._tree.new_id()))
            attrs.st_mode = pyfuse3.ModeT(_MODES[step.entry[1]] | 0o700)
            attrs.st_uid, attrs.st_gid = os.getuid(), os.getgid()
            attrs.st_nlink = 1
        else:
            attrs.__setstate__(self._attributes.of(node).__getstate__())
            node.lookups += 1
        attrs.entry_timeout = 0
        return attrs

    @staticmethod
    def _is_safe(node: Node, step: Step) -> bool:
        """May the kernel be told of this very node that its name goes?"""
        if step.act == "remove":
            return node.kind != FOLDER and node.nlink == 0
        return type(node) is not FolderNode or node.children is not None

    # Changes

    def open(self) -> pyfuse3.FileInfo:
        """A file that the repeater opens, to write nothing. Raises FUSEError unless it should."""
        self.on_own()
        if self._step is None or self._step.act != "content":
            raise FUSEError(errno.EPERM)
        return self._handle()

    def answer(self, request: str, *args: Any) -> Any:
        """A changing request of the repeater. Raises FUSEError unless it is the step's."""
        step = self._step
        if step is not None and request == "setattr":
            self._met = self._met or step.act in ("content", "attributes")
            return self._attributes.of(self._tree.node(args[0]))
        fits = getattr(self, f"_fits_{step.act}", None) if step else None
        result = fits(step, request, args) if fits else None
        if result is None:
            raise FUSEError(errno.EPERM)
        self._met = True
        return result[0]

    def _fits_new(self, step: Step, request: str, args: Any) -> tuple[Any] | None:
        node = self._now(step.place)
        if request != _MADE_BY[step.act] or args[:2] != step.place or node is None:
            return None
        if node.entry != step.entry:
            return None
        attrs = self._attributes.of(node)
        node.lookups += 1
        return ((self._handle(), attrs),) if request == "create" else (attrs,)

    _fits_file = _fits_folder = _fits_symlink = _fits_special = _fits_new

    def _fits_remove(self, step: Step, request: str, args: Any) -> tuple[None] | None:
        node = self._now(step.place)
        gone = node is None or node.entry != step.entry
        return (
            (None,) if request in ("unlink", "rmdir") and args[:2] == step.place and gone else None
        )

    def _fits_move(self, step: Step, request: str, args: Any) -> tuple[None] | None:
        if request != "rename" or (args[:2], args[2:4]) != (step.place, step.target):
            return None
        assert step.target is not None
        node = self._now(step.target)
        return (None,) if node is not None and node.entry == step.entry else None

    def _now(self, place: Place) -> Node | None:
        return self._tree.lookup(*place)
