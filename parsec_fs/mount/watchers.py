"""What other devices changed, told to programs here that watch a folder (inotify, fanotify).

Data flow: invalidations -> `Watchers.tell` -> steps -> repeater (a process), its requests staged.

inotify knows what system calls do, not what a FUSE daemon says: a file manager would show another
device's changes only after a refresh. So each change is repeated in the mount by a process of ours,
whose requests are answered by what is true already (mount/stage); only what somebody watches.
Rules guarded here:
- nothing here makes a request wait: the kernel is told in threads, the repeater is a process;
- without a proof that the repeater's requests are known as its own there is none: it looks for a
  name that nobody else knows, and the request must carry its process number;
- that number is forgotten before it can be given to another process;
- the kernel knows what changed before it is repeated: paths would else lead to old places;
- whatever fails costs events, never the mount.
"""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import trio

from parsec_fs.mount import repeater
from parsec_fs.mount.notify import Notifier
from parsec_fs.mount.stage import Place, Stage, Step
from parsec_fs.mount.steps import Changed, path_of, steps
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import FOLDER
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.nodes import ROOT_INODE, TYPE_FILE, TYPE_FOLDER, FolderNode, Node
from parsec_fs.workspace.overlay import is_deleted_here
from parsec_fs.workspace.places import is_placed, load_places
from parsec_fs.workspace.remote_changes import Invalidation
from parsec_fs.workspace.slices import Slices

log = logging.getLogger(__name__)

TRIES: Final = 4
"""Of one step: another program may look at the name between two of our calls."""

IN_VAIN: Final = frozenset((errno.EROFS, errno.EACCES, errno.ENAMETOOLONG))
"""Another try of the same step would fail in the same way."""

STARTS: Final = 3
"""Of the repeater, should it end by itself; counted anew after each round that it served."""

SETTLE_S: Final = 1.0
"""Longest wait until the kernel knows of the names; it may have to wait for a slow read."""

REST: Final = 10
"""Looking through the machine's processes takes at most one part of this many of the time."""

ANSWER_S: Final = 30.0

Json = dict[str, Any]


class _RepeaterGone(Exception):  # noqa: N818 - a state, not a mistake
    """The process has ended, or does not answer."""


class Watchers:
    """Tells those who watch. One task; no lock: it looks at the tree between two awaits only."""

    def __init__(
        self,
        filesystem: Filesystem,
        stage: Stage,
        notifier: Notifier,
        mountpoint: str,
        *,
        read_only: bool = False,
    ) -> None:
        self._filesystem = filesystem
        self._tree = filesystem.tree
        self._stage = stage
        self._notifier = notifier
        self._mountpoint = os.fsencode(os.path.abspath(mountpoint))
        self._changed = Changed()
        self._news = trio.Event()
        self._over = read_only  # the kernel refuses to repeat anything there
        self._starts_left = STARTS
        self._slices = Slices()
        self._sought: set[ObjectId] = set()
        self._process: trio.Process | None = None
        self._rest_of_line = b""

    def tell(self, items: Iterable[Invalidation]) -> None:
        """The tree shows something new, and the kernel is being told; returns at once."""
        if self._over:
            return  # nobody would ever empty what is kept for watchers
        self._changed.add(self._tree, items)
        if self._changed.names or self._changed.inodes:
            self._news.set()

    async def run(self) -> None:
        """Until cancelled; not at all on a read-only mount."""
        if self._over:
            return
        try:
            while self._starts_left:
                self._starts_left -= 1
                try:
                    await self._serve()
                except _RepeaterGone:
                    await self._end()
            log.warning("event=no-watchers: other devices' changes show after a refresh")
        except Exception:
            log.exception("event=no-watchers")
        finally:
            self._over, self._changed = True, Changed()
            await self._end()

    async def _serve(self) -> None:
        while True:
            await self._news.wait()
            if self._process is None:
                await self._start()
            # Who looks at a folder after this and watches it sees these changes there.
            changed, self._changed = self._changed, Changed()
            self._news = trio.Event()
            began = time.monotonic()
            try:
                watched = set((await self._ask({"do": "look"}))["inodes"])
            except _RepeaterGone:
                changed.go_on(self._changed)
                self._changed = changed
                self._news.set()
                raise
            took = time.monotonic() - began
            if watched:
                await self._find(watched)
                await self._in_thread(self._notifier.settle, SETTLE_S)
                await self._tell_all(changed, watched)
            self._starts_left = STARTS
            await trio.sleep(took * REST)

    async def _tell_all(self, changed: Changed, watched: set[int]) -> None:
        for step in steps(self._tree, changed, watched):
            if step is None:
                await self._slices.pause()
            elif await self._perform(step):
                changed.told(step)
            else:
                self._changed.retell(step, changed)

    async def _find(self, watched: set[int]) -> None:
        """Watched folders that another device moved to where nobody here has looked yet."""
        folders = [self._tree.inodes.get(inode) for inode in watched]
        lost = {one.id for one in folders if one is not None and self._is_lost(one)}
        for _ in load_places(self._filesystem.memory, lost - self._sought):
            await self._slices.pause()
        self._sought = lost  # what is nowhere is not looked for again and again

    def _is_lost(self, node: Node) -> bool:
        return (
            type(node) is FolderNode
            and not is_deleted_here(self._tree, node.id)
            and (not is_placed(node))
        )

    @staticmethod
    async def _in_thread(function: Callable[..., None], *args: object) -> None:
        await trio.to_thread.run_sync(function, *args, abandon_on_cancel=True)

    # One step

    async def _perform(self, step: Step) -> bool:
        """True iff watchers were told."""
        for _ in range(TRIES):
            request = await self._request(step)
            if request is None:
                return False
            await self._forget(step)
            self._stage.begin(step)
            try:
                answer = await self._ask(request)
            finally:
                met = self._stage.end()
            if met:
                return True
            if answer["errno"] in IN_VAIN:
                break
        log.info("event=not-told act=%s errno=%s", step.act, answer["errno"])
        return False

    async def _request(self, step: Step) -> Json | None:
        """For the repeater; None if the tree has changed so that there is nothing to tell."""
        mode = TYPE_FOLDER if step.entry is not None and step.entry[1] == FOLDER else TYPE_FILE
        if step.act == "special":
            mode = self._mode(step.place)
        request: Json = {"do": step.act, "mode": mode, **await self._where(step.place)}
        if step.target is not None:
            target = await self._where(step.target)
            request |= {f"new_{key}": one for key, one in target.items()}
        return request if all(one is not None for one in request.values()) else None

    async def _where(self, place: Place) -> Json:
        below = await self._slices.run(path_of(self._tree, place[0]))
        path = None if below is None else os.fsdecode(os.path.join(self._mountpoint, below))
        return {"path": path, "inode": place[0], "name": os.fsdecode(place[1])}

    def _mode(self, place: Place) -> int:
        node = self._filesystem.call(self._tree.lookup, *place)
        return TYPE_FILE if node is None else node.mode

    async def _forget(self, step: Step) -> None:
        """What others have looked up meanwhile, so that the kernel asks the stage."""
        items = [Invalidation(*place) for place in (step.place, step.target) if place is not None]
        if step.act in ("content", "attributes"):
            node = self._tree.nodes.get(step.entry[0]) if step.entry is not None else None
            attributes_only = node is None or node.opens > 0 or step.act == "attributes"
            items = [] if node is None else [Invalidation(node.inode, None, attributes_only)]
        for item in items:
            await self._in_thread(self._notifier.deliver, item)

    # The process

    async def _start(self) -> None:
        command = [sys.executable, "-I", "-S", repeater.__file__]
        # A session of its own: Ctrl-C on a foreground mount is for the daemon alone.
        self._process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        self._rest_of_line = b""
        self._stage.pid = self._process.pid
        name = b".parsec-%s" % os.urandom(16).hex().encode()
        self._stage.begin(Step("meet", (ROOT_INODE, name)))
        try:
            path = os.fsdecode(self._mountpoint)
            await self._ask({"do": "meet", "path": path, "name": name.decode()})
        finally:
            met = self._stage.end()
        if not met:
            raise _RepeaterGone("its requests do not carry its process number")

    async def _ask(self, request: Json) -> Json:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            with trio.fail_after(ANSWER_S):
                await self._process.stdin.send_all(json.dumps(request).encode() + b"\n")
                answer: Json = json.loads(await self._line())
        except (trio.TooSlowError, trio.BrokenResourceError) as error:
            raise _RepeaterGone("it does not answer") from error
        return answer

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        data = self._rest_of_line
        while b"\n" not in data:
            more = await self._process.stdout.receive_some()
            if not more:
                raise _RepeaterGone("it has ended")
            data += more
        line, _, self._rest_of_line = data.partition(b"\n")
        return line

    async def _end(self) -> None:
        """Killed. Its number is forgotten in the step that reaps it, not before: a call of it that
        is under way would count as somebody's, and be done. If it cannot be reaped, it keeps it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with trio.move_on_after(1, shield=True):
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    await stream.aclose()
            await process.wait()
            self._stage.pid = None
