"""The parts that tell watchers, each without a mount: repeater, notifier, and when nobody is told.

Data flow: requests to the repeater -> a plain folder -> inotify; notifications -> a kernel that
    makes them wait -> who waits for it.
"""

import errno
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pyfuse3
import pytest
import trio

from parsec_fs.mount.attributes import Attributes
from parsec_fs.mount.control import LocalFacts
from parsec_fs.mount.notify import Notifier
from parsec_fs.mount.operations import Operations
from parsec_fs.mount.repeater import Repeater
from parsec_fs.mount.stage import Step
from parsec_fs.mount.watchers import Watchers
from parsec_fs.workspace.gate import Gate
from parsec_fs.workspace.nodes import ROOT_INODE
from parsec_fs.workspace.remote_changes import Invalidation
from tests.support.inotify import Watch
from tests.support.local_daemon import open_filesystem


def repeater_of(folder: Path) -> Repeater:
    """One that takes the device of a folder for the mount's."""
    repeater = Repeater()
    repeater.device = folder.stat().st_dev
    return repeater


def done(repeater: Repeater, act: str, path: Path) -> int:
    """Asked to repeat something at a path; the errno."""
    parent = {"path": str(path.parent), "inode": path.parent.stat().st_ino}
    answer = repeater.answer({"do": act, "mode": 0o100644, "name": path.name, **parent})
    return int(answer["errno"])


def test_each_act_looks_like_the_change_that_it_repeats(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "closed").touch(0)
    repeater = repeater_of(tmp_path)
    with Watch(tmp_path) as watch:
        for act, name in (
            ("content", "file"),
            ("attributes", "file"),
            ("attributes", "link"),
            ("content", "link"),
            ("file", "new"),
        ):
            assert done(repeater, act, tmp_path / name) == 0
        assert watch.events() == [
            *("MODIFY file", "CLOSE_WRITE file", "ATTRIB file", "ATTRIB link", "MODIFY link"),
            *("CREATE new", "MODIFY new", "CLOSE_WRITE new"),
        ]
    assert done(repeater, "file", tmp_path / "file") == errno.EEXIST
    assert (tmp_path / "file").read_bytes() == b"kept"


@pytest.mark.parametrize("act", ["content", "attributes"])
def test_what_lies_on_another_device_is_not_touched(act: str) -> None:
    """Something was mounted over the name meanwhile."""
    assert done(repeater_of(Path("/")), act, Path("/proc")) == errno.ESTALE


def test_another_folder_in_the_place_of_the_expected_one_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    request = {"do": "attributes", "path": str(tmp_path), "inode": 1, "name": "file"}
    assert repeater_of(tmp_path).answer(request)["errno"] == errno.ESTALE


def test_names_are_settled_when_the_kernel_knows_them() -> None:
    told, go_on = list[bytes](), threading.Event()

    def entry(inode: int, name: bytes) -> None:
        assert go_on.wait(60)
        told.append(name)

    notifier = Notifier(lambda inode, attr_only: None, entry)
    try:
        notifier.send([Invalidation(1, b"a"), Invalidation(2), Invalidation(1, b"b")])
        notifier.settle(0.01)
        assert told == [], "a kernel that waits holds nobody up for longer than was asked for"
        go_on.set()
        notifier.settle(60)
        assert sorted(told) == [b"a", b"b"]
    finally:
        notifier.close()


async def test_nobody_is_told_on_a_read_only_mount(tmp_path: Path) -> None:
    filesystem = open_filesystem(tmp_path)
    filesystem.tree.inodes[ROOT_INODE].lookups = 1
    operations = Operations(filesystem, Gate(), LocalFacts(filesystem.tree), Attributes(None))
    notifier = Notifier(lambda inode, attr_only: None, lambda inode, name: None)
    place = os.fspath(tmp_path)
    try:
        watchers = Watchers(filesystem, operations.stage, notifier, place, read_only=True)
        watchers.tell([Invalidation(ROOT_INODE, b"new")])
        with trio.fail_after(60):
            await watchers.run()
        assert operations.stage.pid is None
    finally:
        notifier.close()


async def test_requests_of_the_repeater_are_nobodys_use(tmp_path: Path) -> None:
    """And it opens nothing but a file whose content is repeated."""
    filesystem = open_filesystem(tmp_path)
    operations = Operations(filesystem, Gate(), LocalFacts(filesystem.tree), Attributes(None))
    stage, own = operations.stage, list[None]()
    stage.pid, stage.on_own = 7, lambda: own.append(None)
    repeater, other = (SimpleNamespace(uid=0, gid=0, pid=pid, umask=0) for pid in (7, 8))
    for caller, count in ((other, 0), (repeater, 2)):
        await operations.lookup(ROOT_INODE, b"name", caller)
        await operations.getattr(ROOT_INODE, caller)
        assert len(own) == count
    for request in (
        operations.open(ROOT_INODE, os.O_WRONLY, repeater),
        operations.unlink(ROOT_INODE, b"name", repeater),
    ):
        with pytest.raises(pyfuse3.FUSEError) as refused:
            await request
        assert refused.value.errno == errno.EPERM
    assert len(own) == 4
    stage.begin(Step("content", (ROOT_INODE, b"name")))
    await operations.release((await operations.open(ROOT_INODE, os.O_WRONLY, repeater)).fh)
    assert len(own) == 6
