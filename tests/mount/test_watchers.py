"""Programs that watch a folder (inotify) are told of what another device changed in it.

Data flow: alice's mount -> server -> bob's mount -> inotify of this process.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.inotify import Watch
from tests.support.product import Machine, Product, poll, product
from tests.support.requirements import require_fuse

TOLD_S = 60.0
MANY = 300


@pytest.fixture(scope="module")
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


@pytest.fixture(scope="module")
def alice(server: Product) -> Machine:
    return server.first_device("alice").mount()


@pytest.fixture(scope="module")
def bob(server: Product, alice: Machine) -> Machine:
    return server.next_device(alice, "bob").mount()


@pytest.fixture
def shared(alice: Machine, bob: Machine, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """One folder, as alice and as bob see it."""
    name = str(request.node.name)
    (alice.path / name).mkdir()
    poll(lambda: (bob.path / name).is_dir(), TOLD_S)
    return alice.path / name, bob.path / name


def told(watch: Watch, *expected: str) -> None:
    """These events come, in this order; others may lie between."""

    def came() -> bool:
        events = iter(watch.events())
        return all(one in events for one in expected)

    poll(came, TOLD_S, lambda: (expected, watch.events()))


def test_the_life_of_a_file(shared: tuple[Path, Path]) -> None:
    here, there = shared
    with Watch(there) as watch:
        (here / "file").write_bytes(b"new")
        told(watch, "CREATE file", "MODIFY file", "CLOSE_WRITE file")
        assert (there / "file").read_bytes() == b"new"
        (here / "file").write_bytes(b"newer")
        told(watch, "CLOSE_WRITE file", "MODIFY file", "CLOSE_WRITE file")
        assert (there / "file").read_bytes() == b"newer"
        (here / "file").chmod(0o600)
        told(watch, "CLOSE_WRITE file", "ATTRIB file")
        (here / "file").rename(here / "moved")
        told(watch, "MOVED file moved")
        assert os.listdir(there) == ["moved"]
        (here / "temporary").write_bytes(b"saved as editors do")
        (here / "temporary").replace(here / "moved")
        poll(lambda: (there / "moved").read_bytes() == b"saved as editors do", TOLD_S)
        told(watch, "MOVED file moved", "MOVED .moved.replaced moved")
        (here / "moved").unlink()
        told(watch, "MOVED file moved", "DELETE moved")
        assert os.listdir(there) == []


def test_folders_links_and_fifos(shared: tuple[Path, Path]) -> None:
    here, there = shared
    (here / "kept").mkdir()
    (here / "kept/inside").write_bytes(b"x")
    poll((there / "kept/inside").exists, TOLD_S)
    with Watch(there, there / "kept", there / "kept/inside") as watch:
        (here / "folder").mkdir()
        (here / "link").symlink_to("folder")
        os.mkfifo(here / "fifo")
        for event in ("CREATE folder/", "CREATE link", "CREATE fifo"):
            told(watch, event)
        (here / "kept/inside").rename(here / "outside")
        told(watch, "MOVED inside outside")
        (here / "kept").rename(here / "folder/kept")
        told(watch, "MOVED_FROM kept/")
        (here / "outside").unlink()
        told(watch, "DELETE outside")
        told(watch, "DELETE_SELF")
        (here / "folder/kept").rmdir()
        (here / "folder").rmdir()
        told(watch, "DELETE folder/")
    assert sorted(os.listdir(there)) == ["fifo", "link"]
    assert os.readlink(there / "link") == "folder"


def test_a_watched_folder_that_moves_lives_on(shared: tuple[Path, Path]) -> None:
    """It is told of, wherever it goes, also to where nobody here has looked yet; so is what happens
    in it and below it afterwards; and it is written to here meanwhile."""
    here, there = shared
    for name in ("a", "a/below", "known", "unknown", "unknown/deep"):
        (here / name).mkdir()
    (here / "a/below/file").write_bytes(b"x")
    poll((there / "a/below/file").exists, TOLD_S)
    poll((there / "known").is_dir, TOLD_S)
    old = "a"
    with Watch(there) as above, Watch(there / "a") as moving, Watch(there / "a/below") as below:
        for number, new in enumerate(("b", "known/b", "known/a", "unknown/deep/a", "c", "b")):
            (here / old).rename(here / new)
            (here / new / f"theirs-{number}").write_bytes(b"there")
            (here / new / f"below/theirs-{number}").write_bytes(b"there")
            told(moving, f"CREATE theirs-{number}", f"CLOSE_WRITE theirs-{number}")
            told(below, f"CREATE theirs-{number}", f"CLOSE_WRITE theirs-{number}")
            (there / new / f"ours-{number}").write_bytes(b"here")
            old = new
        told(above, "MOVED a/ b/", "MOVED_FROM b/", "MOVED_TO c/", "MOVED c/ b/")
        assert moving.events().count("MOVE_SELF") >= 4
        assert "DELETE_SELF" not in moving.events() + below.events()
    names = {"below", *(f"{who}-{number}" for number in range(6) for who in ("ours", "theirs"))}
    poll(lambda: set(os.listdir(here / "b")) == names, TOLD_S)
    assert set(os.listdir(there / "b")) == names


def test_both_change_a_watched_folder(shared: tuple[Path, Path]) -> None:
    """Many files at once, from both sides, one reader looking at everything meanwhile: no event of
    the other's files is lost, and nothing is done that nobody did."""
    here, there = shared
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for name in os.listdir(there):
                (there / name).exists()

    def write(folder: Path, who: str) -> None:
        for number in range(MANY):
            (folder / f"{who}-{number}").write_bytes(b"x")

    with Watch(there) as watch:
        threads = at_once(look, lambda: write(here, "alice"), lambda: write(there, "bob"))
        expected = {f"CREATE alice-{number}" for number in range(MANY)}
        poll(lambda: expected <= set(watch.events()), 120, lambda: len(watch.seen))
        stop.set()
        join(threads)
        events = watch.events()
        assert not [event for event in events if event.startswith(("DELETE", "MOVED"))]
        assert all(events.count(event) == 1 for event in expected)
    poll(lambda: len(os.listdir(here)) == len(os.listdir(there)) == 2 * MANY, TOLD_S)


def at_once(*actions: Callable[[], None]) -> list[threading.Thread]:
    """All of them, each in a thread of its own."""
    threads = [threading.Thread(target=action, daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    """All ended."""
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def repeaters(machine: Machine) -> list[int]:
    """Process numbers of what repeats changes in a mount."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            above = Path(f"/proc/{parent}/cmdline").read_bytes()
        except OSError:
            continue
        ours = os.fsencode(machine.path) in above.split(b"\0")
        if ours and any(word.endswith(b"mount/repeater.py") for word in words):
            found.append(int(folder.name))
    return found


def test_the_repeater_is_replaced_and_leaves_nothing(
    server: Product, alice: Machine, bob: Machine, shared: tuple[Path, Path]
) -> None:
    here, there = shared
    with Watch(there) as watch:
        (here / "first").touch()
        told(watch, "CREATE first")
        (old,) = repeaters(bob)
        os.kill(old, signal.SIGKILL)
        poll(lambda: old not in repeaters(bob), TOLD_S)
        # What is told to nobody may be lost once; the next one finds another repeater.
        (here / "second").touch()
        poll((there / "second").exists, TOLD_S)
        (here / "third").touch()
        poll((there / "third").exists, TOLD_S)

        def fresh() -> bool:
            (here / "again").touch()
            (here / "again").unlink()
            return bool(repeaters(bob)) and "CREATE third" in watch.events()

        poll(fresh, TOLD_S, lambda: (watch.events(), bob.log_tail()))
    # SIGKILL of the daemon under a watched folder with changes coming in: nothing stays.
    with Watch(there):
        for number in range(50):
            (here / f"more-{number}").touch()
        poll((there / "more-0").exists, TOLD_S)
        numbers = repeaters(bob)
        server.programs.kill(bob.program)
        subprocess.run(["fusermount3", "-uz", bob.path], check=True, timeout=30)
        poll(lambda: not any(Path(f"/proc/{one}").exists() for one in numbers), TOLD_S)
    bob.mount()
    poll(lambda: len(os.listdir(there)) >= 53, TOLD_S)
