"""One block that cannot be sent keeps its own file, and what depends on it, and nothing else.

Data flow: a pending block is damaged, refused or finds no room -> push -> what other devices see,
    what the status says -> written anew, deleted, or room again -> everything is there.
"""

import errno
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from parsec_fs.held_files import held_files
from parsec_fs.protocol.errors import LocalError, OfflineError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.limits import BLOCK_SIZE, MIB
from parsec_fs.remote.blocks import PUT_PATH, BlockClient
from parsec_fs.workspace import files
from parsec_fs.workspace.digests import Digests
from parsec_fs.workspace.held import AGAIN_S
from server.blocks.directory import DirectoryStore, write_all
from tests.support.laptops import Laptop, alone, found, in_step, laptop, pair, two_laptops
from tests.support.server import in_process, outside

CONTENT = os.urandom(2 * MIB + 100)


async def damage(one: Laptop, path: str, index: int) -> None:
    """One bit of a block that was sealed and not uploaded."""
    await one.filesystem.settle()
    ref = (one.file(path).blocks or [])[index]
    assert ref is not None
    block = one.filesystem.contents.files.pending_dir / ref.id.hex()
    sealed = bytearray(block.read_bytes())
    sealed[50] ^= 1
    block.write_bytes(sealed)


async def lose(one: Laptop, path: str, index: int) -> None:
    """A block that was sealed and not uploaded is gone."""
    await one.filesystem.settle()
    ref = (one.file(path).blocks or [])[index]
    assert ref is not None
    (one.filesystem.contents.files.pending_dir / ref.id.hex()).unlink()


def digests_of(one: Laptop) -> Digests:
    """Taken as before an upload."""
    filesystem = one.filesystem
    slices = one.workspace.replica.slices
    return Digests(filesystem.tree, filesystem.contents, slices, filesystem.held)


async def push_rest(one: Laptop) -> None:
    """Log everything but what is held back."""
    one.filesystem.flush()
    with trio.fail_after(60):
        while await one.workspace.sync.push_once() or not one.filesystem.held.rests():
            pass


def told(one: Laptop) -> dict[str, str]:
    """Paths that the status names, with the reason."""
    return {entry["path"]: entry["reason"] for entry in held_files(one.filesystem, "/mnt")}


async def test_a_damaged_block_holds_up_its_own_file_only(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("folder")
        one.make("folder/bad", CONTENT)
        one.link("folder/bad", "folder/same")
        await damage(one, "folder/bad", 1)
        one.make("folder/large", CONTENT)
        one.make("small", b"small")
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"folder": None, "folder/large": CONTENT, "small": b"small"}
        (entry,) = held_files(one.filesystem, "/mnt")
        assert entry["path"] in ("folder/bad", "folder/same")
        assert f"rm /mnt/{entry['path']}" in entry["note"]
        assert "do not see it yet" in entry["note"]
        assert one.workspace.sync.progress().pending == 3
        assert "1 file is held back" in one.workspace.sync.progress().trouble
        one.write("small", b"and further changes")
        await push_rest(one)
        await two.pull()
        assert (await two.walk())["small"] == b"and further changes"
        one.write("folder/bad", b"anew" * 10_000)
        shown = await in_step(one, two)
        assert shown["folder/same"] == shown["folder/bad"] == b"anew" * 10_000
        assert not told(one)
        assert one.workspace.sync.progress().trouble == ""


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_lost_block_is_no_hole_for_others(tmp_path: Path, restarts: bool) -> None:
    """Logged, the file would be one that no device can read."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("kept", CONTENT)
        await in_step(one, two)
        one.make("bad", CONTENT)
        await lose(one, "bad", 1)
        if restarts:
            await one.restart()
        one.make("small", b"small")
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"kept": CONTENT, "small": b"small"}
        assert told(one) == {"bad": "damaged"}
        one.write("bad", CONTENT[::-1])
        shown = await in_step(one, two)
        assert shown["bad"] == CONTENT[::-1]
        assert not told(one)


@pytest.mark.parametrize(
    "end",
    [
        lambda one: one.unlink("file"),
        lambda one: one.write("file", b"small"),
        lambda one: (one.make("new", b"new"), one.rename("new", "file")),
    ],
    ids=["deleted", "written", "replaced"],
)
async def test_a_changed_file_stays_what_it_was_elsewhere(
    tmp_path: Path, end: Callable[[Laptop], object]
) -> None:
    """And a name that it gets meanwhile is for the version that others have."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("first", CONTENT)
        await in_step(one, two)
        one.write("first", CONTENT[::-1])
        one.chmod("first", 0o600)
        await damage(one, "first", 0)
        one.rename("first", "file")
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"file": CONTENT}
        assert two.node("file").mode & 0o777 == 0o644
        assert told(one) == {"file": "damaged"}
        end(one)
        shown = await in_step(one, two)
        assert shown == {} or shown["file"] in (b"small", b"new")
        assert not told(one)


async def test_what_was_replaced_stays_until_the_new_one_can_be_sent(tmp_path: Path) -> None:
    """As editors save; and a folder that made way for a file that is held back does not get a
    second place, so it stays where it was too."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("doc", b"old")
        one.mkdir("a")
        one.make("a/in it", b"1")
        before = await in_step(one, two)
        one.make("doc.new", CONTENT)
        await damage(one, "doc.new", 0)
        one.rename("doc.new", "doc")
        one.rename("a", "b")
        one.make("a", CONTENT)
        await damage(one, "a", 2)
        one.make("b/new", b"2")
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {**before, "a/new": b"2"}
        assert told(one) == {"doc": "damaged", "a": "damaged"}
        await one.restart()
        await push_rest(one)
        assert told(one) == {"doc": "damaged", "a": "damaged"}
        one.write("a", b"A")
        one.write("doc", b"D")
        shown = await in_step(one, two)
        assert shown == {"a": b"A", "b": None, "b/in it": b"1", "b/new": b"2", "doc": b"D"}


async def test_what_was_logged_past_it_is_not_replayed(tmp_path: Path) -> None:
    """A change that waits for days must not bring back what others have changed since."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("doc", b"base")
        await in_step(one, two)
        one.make("bad", CONTENT)
        await damage(one, "bad", 2)
        one.write("doc", b"one")
        one.make("gone", b"1")
        await push_rest(one)
        await two.pull()
        two.write("doc", b"two, later")
        two.unlink("gone")
        await two.push()
        await one.pull()
        await one.restart()
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"doc": b"two, later"}
        assert one.file("bad").size == len(CONTENT)
        assert bytes(await one.filesystem.read(one.file("bad"), 0, MIB)) == CONTENT[:MIB]
        assert told(one) == {"bad": "damaged"}


@pytest.mark.expects_log("cannot seal a block")
async def test_a_damaged_block_that_is_partly_overwritten(tmp_path: Path) -> None:
    """What lies below is lost, so it cannot be sealed; all of it written anew is whole again."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("bad", CONTENT)
        await damage(one, "bad", 1)
        one.filesystem.write(one.file("bad"), MIB + 5, b"some bytes")
        one.filesystem.released(one.file("bad"))
        one.make("other", b"other")
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"other": b"other"}
        assert told(one) == {"bad": "damaged"}
        tree, node = one.filesystem.tree, one.file("bad")
        for size in (MIB + 1000, 2 * MIB):
            one.filesystem.call(files.truncate, tree, node, size, one.filesystem.clock())
        await one.restart()
        one.make("third", b"3")
        await push_rest(one)
        await one.restart()
        node = one.file("bad")
        assert bytes(await one.filesystem.read(node, MIB + 5, 10)) == b"some bytes"
        assert bytes(await one.filesystem.read(node, MIB + 1000, 1000)) == bytes(1000)
        one.filesystem.write(node, MIB, bytes(BLOCK_SIZE))
        one.filesystem.released(one.file("bad"))
        one.filesystem.flush()
        shown = await in_step(one, two)
        assert shown["bad"] == CONTENT[:MIB] + bytes(BLOCK_SIZE)


async def test_a_promise_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    """fsync=logged: of the file, and of its name; for others it waits as ever."""
    async with two_laptops(tmp_path) as (one, _), trio.open_nursery() as nursery:
        await nursery.start(one.workspace.sync.run)
        one.mkdir("folder")
        one.make("folder/bad", CONTENT)
        await damage(one, "folder/bad", 0)
        one.make("good", CONTENT)
        wait, tree = one.workspace.sync.wait_logged, one.filesystem.tree
        with trio.fail_after(60):
            for path in ("folder/bad", "folder"):
                with pytest.raises(LocalError) as caught:
                    await wait(tree.position, one.node(path).id)
                assert caught.value.errno == errno.EIO
            for path in ("good", ""):
                await wait(tree.position, one.node(path).id)
            await wait()
        assert not tree.is_dirty(one.node("good").id)
        nursery.cancel_scope.cancel()


class SmallDisk:
    """A disk with room for blocks of at most that many bytes."""

    room = 1 << 40

    def write(self, descriptor: int, sealed: bytes) -> None:
        """One block."""
        if len(sealed) > self.room:
            raise OSError(errno.ENOSPC, "no room")
        write_all(descriptor, sealed)


@pytest.mark.expects_log("block storage is full")
async def test_a_block_that_finds_no_room(
    tmp_path: Path, mock_clock: trio.testing.MockClock
) -> None:
    """What fits goes on; the others are tried again by themselves."""
    mock_clock.rate = 1.0
    disk = SmallDisk()
    blocks = DirectoryStore(tmp_path / "blocks", write=disk.write)
    pieces = replace(outside(tmp_path / "server"), blocks=blocks)
    async with (
        in_process(tmp_path / "server", pieces=pieces) as server,
        pair(server, tmp_path) as (one, two),
    ):
        disk.room = MIB // 2
        for number in range(10):
            one.make(f"large {number}", CONTENT)
        one.make("fits", CONTENT[: MIB // 4])
        one.make("small", b"small")
        await one.filesystem.settle()
        await push_rest(one)
        await two.pull()
        assert (await two.walk()).keys() == {"small"}, "after eight it is not tried any more"
        assert set(told(one).values()) == {"full"}
        assert "no room for more" in one.workspace.sync.progress().trouble
        with pytest.raises(LocalError) as caught:
            one.filesystem.held.check(one.node("large 7").id)
        assert caught.value.errno == errno.EDQUOT
        one.make("fits too", CONTENT[: MIB // 4])
        await push_rest(one)
        await two.pull()
        assert (await two.walk()).keys() == {"small", "fits too"}
        assert 0 < one.filesystem.held.again_in() <= AGAIN_S
        disk.room = 1 << 40
        assert one.filesystem.dirty_since() is None, "it is not worth to try now"
        mock_clock.jump(AGAIN_S)
        assert one.filesystem.dirty_since() is not None
        assert len(await in_step(one, two)) == 13


async def test_small_blocks_go_together(tmp_path: Path) -> None:
    """A hundred of 20 KiB in two requests; one that is damaged here and one that the server has
    other bytes of cost themselves only."""
    async with two_laptops(tmp_path) as (one, two):
        for number in range(100):
            one.make(f"file {number}", CONTENT[number : number + 20_000])
        await one.filesystem.settle()
        (damaged,), (taken,) = (one.file(f"file {number}").blocks or [] for number in (7, 70))
        assert damaged is not None
        assert taken is not None
        path = one.workspace.contents.files.pending_dir / damaged.id.hex()
        path.write_bytes(bytes(path.stat().st_size))
        client = BlockClient(one.signer, RealmId(one.workspace.store.log))
        await client.put(taken.id, b"other", digest=sha256(b"other"))
        one.wire.paths.clear()
        await push_rest(one)
        puts = [path for path in one.wire.paths if path.startswith("/v1/blocks/")]
        assert puts == [PUT_PATH] * 2
        await two.pull()
        assert len(await two.walk()) == 98
        assert set(told(one).values()) == {"damaged", "refused"}


async def test_a_block_whose_place_is_taken(tmp_path: Path) -> None:
    """The server has other bytes under its id, and says so for ever: the file is stored anew."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("bad", CONTENT)
        await one.filesystem.settle()
        ref = (one.file("bad").blocks or [])[1]
        assert ref is not None
        realm = RealmId(one.workspace.store.log)
        await BlockClient(one.signer, realm).put(
            ref.id, b"other bytes", digest=sha256(b"other bytes")
        )
        one.make("good", CONTENT)
        await push_rest(one)
        await two.pull()
        assert await two.walk() == {"good": CONTENT}
        (entry,) = held_files(one.filesystem, "/my mount")
        assert "refuses a part of it (EXISTS)" in entry["note"]
        assert "cp -a '/my mount/bad' '/my mount/bad.new'" in entry["note"]
        one.make("bad.new", CONTENT)
        one.rename("bad.new", "bad")
        assert await in_step(one, two) == {"good": CONTENT, "bad": CONTENT}


@pytest.mark.expects_log("new data is refused")
async def test_a_full_cache_while_the_server_is_away(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "one") as one:
            one.cache_limit = 4 * MIB
            await one.open(await one.create_realm())
            await one.push()
            one.wire.cut = True
            with pytest.raises(LocalError) as caught:
                one.make("large", CONTENT * 3)
            assert caught.value.errno == errno.EDQUOT
            with pytest.raises(OfflineError):
                await one.push()
            one.filesystem.room.measure()
            assert "more room at once" in one.filesystem.room.problem()
            assert 3 * MIB < one.file("large").size <= 4 * MIB
            one.wire.cut = False
            one.filesystem.released(one.file("large"))
            await one.push()
            one.filesystem.room.measure()
            assert one.filesystem.room.problem() == ""
            one.make("next", CONTENT)
            await one.push()
            assert (await one.walk())["next"] == CONTENT


async def test_what_was_in_a_folder_stays_until_its_place_can_be_taken(tmp_path: Path) -> None:
    """A file is made where a folder was, and cannot be sent: the folder is still there for others,
    with all that was moved out of it, or deleted."""
    async with two_laptops(tmp_path) as (one, two):
        one.mkdir("D")
        one.mkdir("D/sub")
        one.make("D/sub/precious", b"p")
        one.make("D/gone", b"g")
        await in_step(one, two)
        one.rename("D/sub", "sub")
        one.unlink("D/gone")
        one.rmdir("D")
        one.make("D", CONTENT)
        await damage(one, "D", 1)
        await push_rest(one)
        await two.pull()
        assert await one.read("sub/precious") == b"p"
        assert set(two.names_in_store()) == {"/D", "/D/gone", "/D/sub", "/D/sub/precious"}
        await one.restart()
        await push_rest(one)
        assert await one.read("sub/precious") == b"p"
        one.write("D", b"now small")
        assert await in_step(one, two) == {"D": b"now small", "sub": None, "sub/precious": b"p"}


async def test_a_damaged_copy_of_what_is_stored_holds_nothing(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        one.make("f", CONTENT)
        await in_step(one, two)
        blocks = one.filesystem.contents.files
        ref = (one.file("f").blocks or [])[0]
        assert ref is not None
        copy = blocks.cached(ref)
        copy.write_bytes(bytes(copy.stat().st_size))
        one.filesystem.contents.opened.clear()
        one.chmod("f", 0o600)
        one.append("f", b"more")
        assert await one.read("f") == CONTENT + b"more"
        assert told(one) == {}
        assert await in_step(one, two) == {"f": CONTENT + b"more"}
        assert two.file("f").mode & 0o777 == 0o600


@pytest.mark.allows_log("cut|cannot be reached")
async def test_what_waits_is_not_recorded_again_for_nothing(tmp_path: Path) -> None:
    """Without the server, attempts that come to nothing must not fill the journal."""
    async with two_laptops(tmp_path) as (one, _):
        one.make("bad", CONTENT)
        await damage(one, "bad", 0)
        await push_rest(one)
        one.make("other", b"o")
        one.filesystem.flush()
        one.wire.cut = True
        sizes = []
        for _ in range(3):
            one.workspace.replica.verified_at = -1e9
            with pytest.raises(OfflineError):
                await one.workspace.sync.push_once()
            one.filesystem.flush()
            sizes.append(one.filesystem.journal.size())
        assert sizes[0] == sizes[1] == sizes[2]


async def test_a_logged_manifest_that_does_not_open_stops_nothing_else(tmp_path: Path) -> None:
    """A contributor logged rubbish for a file that is changed here, whose blocks are evicted."""
    async with two_laptops(tmp_path) as (one, two):
        file = one.make("file", CONTENT)
        await in_step(one, two)
        one.chmod("file", 0o600)
        one.make("important", b"work")
        for block in one.filesystem.contents.files.cache_dir.iterdir():
            block.unlink()
        await one.restart()
        (database,) = one.folder.glob("*/realm.db")
        with closing(sqlite3.connect(database)) as store, store:
            spoilt = "UPDATE objects SET kind = 0, sealed = x'0102' WHERE id = ?"
            assert store.execute(spoilt, (bytes(file),)).rowcount == 1
        with trio.fail_after(60):
            await one.push()
        await two.pull()
        assert (await two.walk())["important"] == b"work"


async def test_what_is_not_here_is_stored_only_if_it_comes_back(tmp_path: Path) -> None:
    """The search for lost blocks believes no answer, but the bytes that a reference means; and
    what it fetched stays here."""
    async with alone(tmp_path) as (_, one, _):
        one.make("sent", CONTENT)
        one.make("lost", CONTENT)
        await one.filesystem.settle()
        await digests_of(one).take()
        refs = {path: list(one.file(path).blocks or []) for path in ("sent", "lost")}
        files = one.filesystem.contents.files
        for path in refs:
            for ref in refs[path]:
                assert ref is not None
                sealed = files.read(ref) if path == "sent" else b"something else"
                client = BlockClient(one.signer, one.workspace.contents.realm)
                await client.put(ref.id, sealed, digest=sha256(sealed))
                (files.pending_dir / ref.id.hex()).unlink()
        one.filesystem.flush()
        await one.restart()
        await push_rest(one)
        assert told(one) == {"lost": "damaged"}
        cached = set(one.filesystem.contents.files.cache_dir.iterdir())
        assert cached == {files.cached(ref) for ref in refs["sent"] if ref is not None}
