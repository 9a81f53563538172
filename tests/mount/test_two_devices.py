"""Two devices of one workspace at the same time: they converge quickly, quietly, and completely.

Data flow: alice's mount -> server -> bob's mount, and back, compared by the tools people use.
"""

import mmap
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.product import Machine, Product, poll, product
from tests.support.programs import commit, git, run
from tests.support.requirements import require_fuse, require_program

FILES = 500
CONVERGED_S = 10.0
SEEN_S = 2.0
MOST_REFUSALS = 3
"""Of one batch, in a row: the server took something else first."""


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


def at_once(*actions: Callable[[], None]) -> None:
    """All of them, each in a thread of its own."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()


def assert_identical(one: Path, other: Path) -> None:
    """Names, contents, modes, times, owners, links and attributes, in both directions."""
    assert run("diff", "-r", "--no-dereference", one, other) == ""
    for source, target in ((one, other), (other, one)):
        listed = run("rsync", "-nacHXi", "--delete", f"{source}/", f"{target}/")
        assert listed == ""


def count(machine: Machine) -> int:
    """Entries of the shared folder."""
    return len(os.listdir(machine.path / "shared"))


def refusals_in_a_row(log: str) -> int:
    """The longest run of refusals of one batch, as the daemon counts them."""
    return max((int(one) for one in re.findall(r"refused: .* attempt (\d+)", log)), default=0)


def test_five_hundred_files_each_in_one_folder(
    server: Product, alice: Machine, bob: Machine
) -> None:
    (alice.path / "shared").mkdir()
    alice.wait("logged")
    poll(lambda: (bob.path / "shared").is_dir())

    def create(machine: Machine) -> None:
        for number in range(FILES):
            name = f"{machine.name}-{number:03}"
            (machine.path / "shared" / name).write_bytes(name.encode())

    at_once(lambda: create(alice), lambda: create(bob))
    ended = time.monotonic()
    poll(lambda: count(alice) == count(bob) == 2 * FILES, 60, lambda: (count(alice), count(bob)))
    took = time.monotonic() - ended
    assert took <= CONVERGED_S, f"converged after {took:.1f} s"
    expected = {f"{one.name}-{number:03}" for one in (alice, bob) for number in range(FILES)}
    for machine in (alice, bob):
        folder = machine.path / "shared"
        assert set(os.listdir(folder)) == expected  # nothing lost, no conflict copies
        assert all((folder / name).read_bytes() == name.encode() for name in expected)
        log = server.programs.log(machine.program).read_text()
        assert refusals_in_a_row(log) <= MOST_REFUSALS, log[-3000:]


def test_a_change_of_one_is_seen_by_the_other(alice: Machine, bob: Machine) -> None:
    """Each kind of change, in both directions, within two seconds."""
    sees_changes(alice, bob)
    sees_changes(bob, alice)


def sees_changes(writer: Machine, reader: Machine) -> None:
    """A file's life: made, written, changed, moved, deleted."""
    old, new = f"by-{writer.name}", f"moved-by-{writer.name}"
    here, there = writer.path, reader.path
    seen(lambda: (here / old).write_bytes(b"new"), lambda: reader.read(old) == b"new")
    seen(lambda: (here / old).write_bytes(b"newer"), lambda: reader.read(old) == b"newer")
    seen(lambda: (here / old).chmod(0o750), lambda: (there / old).stat().st_mode & 0o777 == 0o750)
    seen(
        lambda: (here / old).rename(here / new),
        lambda: {old, new} & set(os.listdir(there)) == {new},
    )
    seen((here / new).unlink, lambda: not (there / new).exists())


def seen(change: Callable[[], object], shown: Callable[[], bool]) -> None:
    """The other device shows a change in time."""
    change()
    started = time.monotonic()
    poll(shown, 30)
    took = time.monotonic() - started
    assert took <= SEEN_S, f"seen after {took:.1f} s"


@pytest.mark.parametrize("how", ["written", "replaced"])
def test_an_open_file_keeps_its_version(how: str, alice: Machine, bob: Machine) -> None:
    """What was opened is read to its end, in a mapping as well; whoever opens it now reads the new
    version. Of the old one only the beginning was read before."""
    old, new = os.urandom(5 << 20), os.urandom(2 << 20)
    name = f"kept-{how}"
    (alice.path / name).write_bytes(old)
    poll(lambda: (bob.path / name).exists() and (bob.path / name).stat().st_size == len(old), 30)
    with (bob.path / name).open("rb", buffering=0) as file:
        assert file.read(10) == old[:10]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            aside = alice.path / (name if how == "written" else "aside")
            aside.write_bytes(new)
            aside.replace(alice.path / name)
            poll(lambda: bob.read(name) == new, 30)
            assert os.fstat(file.fileno()).st_size == len(old)
            assert mapped[:] == old
        assert os.pread(file.fileno(), len(old), 0) == old
    assert bob.read(name) == new


def test_a_folder_that_changes_while_it_is_listed(alice: Machine, bob: Machine) -> None:
    """By a program that reads it in pieces: every name that stays comes once, and none twice."""
    count, long = 1200, "n" * 200
    here, there = alice.path / "listed", bob.path / "listed"
    here.mkdir()
    for number in range(count):
        (here / f"{long}{number}").write_bytes(b"1")
    poll(lambda: there.is_dir() and len(os.listdir(there)) == count, 60)
    with os.scandir(there) as entries:
        found = [next(entries).name]
        for number in range(0, count, 10):
            (here / f"{long}{number}").unlink()
            (here / f"{long}{number + 1}").rename(here / f"moved-{number}")
            (here / "saved").write_bytes(b"22")
            (here / "saved").replace(here / f"{long}{number + 2}")
        last = there / f"{long}{count - 8}"
        poll(lambda: (there / f"moved-{count - 10}").exists() and last.stat().st_size == 2, 60)
        found += [entry.name for entry in entries]
    stay = {f"{long}{number}" for number in range(count) if number % 10 > 1}
    assert len(set(found)) == len(found)
    assert stay <= set(found)
    assert "saved" not in found
    moved = {f"moved-{number}" for number in range(0, count, 10)}
    poll(lambda: set(os.listdir(there)) == stay | moved, 30)


def fill(tree: Path) -> None:
    """Everything that copies keep: times set back, links of both kinds, attributes, modes."""
    for number in range(40):
        folder = tree / f"d{number % 4}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"f{number}"
        file.write_bytes(os.urandom(number * number * 1_500))
        os.utime(file, ns=(10**18, 10**18 + 7 * number))
    (tree / "d0/empty").mkdir()
    (tree / "d1/name \N{SNOWMAN}\n").touch(0o600)
    os.link(tree / "d0/e0/f0", tree / "d1/hard")
    os.link(tree / "d0/e0/f0", tree / "hard")
    (tree / "d2/soft").symlink_to("../d1/hard")
    (tree / "d2/dangling").symlink_to("nowhere")
    os.setxattr(tree / "d1/hard", "user.comment", b"kept")
    os.setxattr(tree / "d3", "user.folder", b"kept as well")
    (tree / "d3/e0").chmod(0o750)
    for folder in sorted((one for one in tree.rglob("*") if one.is_dir()), reverse=True):
        age = len(folder.parts) * 10**15
        os.utime(folder, ns=(10**18, 10**18 + age))
    os.utime(tree, ns=(10**18, 10**18 + 5))


def test_a_conflict_is_listed_and_settled(alice: Machine, bob: Machine) -> None:
    """The copy is named as merging names it; settling it reaches the other device."""
    folder = alice.path / "conflicts"
    folder.mkdir()
    copy = folder / "report (conflict, alice on alice 2026-08-02 10.12).odt"
    (folder / "report.odt").write_bytes(b"of bob")
    copy.write_bytes(b"of alice")
    (found,) = alice.cli("conflicts")["conflicts"]
    assert found["path"] == f"conflicts/{copy.name}"
    assert (found["original"], found["when"]) == ("conflicts/report.odt", "2026-08-02 10:12")
    assert (found["name"], found["device"], found["whose"]) == ("alice", "alice", "mine")
    assert alice.cli("status")["workspaces"][0]["conflicts"] == 1
    code, error = alice.run("conflicts", "resolve", str(folder / "report.odt"), "--keep", "mine")
    assert (code, error["exit"]) == (10, 10)
    alice.wait("logged")
    poll(lambda: (bob.path / "conflicts" / copy.name).exists())
    assert bob.cli("status")["workspaces"][0]["conflicts"] == 1
    settled = bob.cli(
        "conflicts", "resolve", str(bob.path / "conflicts" / copy.name), "--keep", "theirs"
    )
    assert settled["kept"] == str(bob.path / "conflicts/report.odt")
    bob.wait("logged")
    poll(lambda: [one.name for one in folder.iterdir()] == ["report.odt"])
    assert (folder / "report.odt").read_bytes() == b"of alice"
    assert alice.cli("conflicts") == {"conflicts": []}
    assert alice.cli("status")["workspaces"][0]["conflicts"] == 0


def test_programs_go_on_where_another_device_left(alice: Machine, bob: Machine) -> None:
    """A repository and databases made on one device are whole on the other, which adds to them."""
    require_program("git", "install git")
    require_program("sqlite3", "install sqlite3")
    work, there = alice.path / "work", bob.path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    for number in range(10):
        commit(work, "file", f"version {number}\n")
    git(work, "gc", "-q", "--prune=now")
    rows = "with recursive c(n) as (select 0 union all select n + 1 from c where n < 199) "
    rows += "insert into t select n, hex(randomblob(900)) from c; delete from t where n = 5"
    for mode in ("wal", "delete"):
        made = f"pragma journal_mode={mode}; create table t(n, text); {rows}"
        assert run("sqlite3", work / mode, made) == f"{mode}\n"
    head = git(work, "rev-parse", "HEAD")
    poll(lambda: (there / "delete").exists() and same(work, there), CONVERGED_S * 3)
    git(there, "fsck", "--full", "--strict", "--no-progress")
    assert (git(there, "rev-parse", "HEAD"), git(there, "status", "--porcelain")) == (
        head,
        "?? delete\n?? wal\n",
    )
    commit(there, "file", "version 10\n")
    for mode in ("wal", "delete"):
        assert run("sqlite3", there / mode, "pragma integrity_check") == "ok\n"
        more = "insert into t values(200, 'more'); select count(*) from t"
        assert run("sqlite3", there / mode, more) == "200\n"
    poll(lambda: same(work, there), CONVERGED_S * 3)
    git(work, "fsck", "--full", "--strict", "--no-progress")
    assert git(work, "log", "-1", "--format=%s").strip() == "file: 'version 10\\n'"
    assert run("sqlite3", work / "wal", "select text from t where n = 200") == "more\n"


def same(one: Path, other: Path) -> bool:
    """The same names and content, as far as files do not come and go while they are compared."""
    done = subprocess.run(["diff", "-r", one, other], capture_output=True, timeout=120, check=False)
    return done.returncode == 0


def test_a_copied_tree_is_identical_on_both(tmp_path: Path, alice: Machine, bob: Machine) -> None:
    require_program("rsync", "install rsync")
    tree = tmp_path / "tree"
    fill(tree)
    assert_tree_arrives(tree, alice, bob, "copied")
    # Over what is there already, and from the other side: times of folders go back again.
    (bob.path / "copied/d2/e1/added").write_bytes(b"moves the folder's time forward")
    bob.wait("logged")
    poll(lambda: (alice.path / "copied/d2/e1/added").exists())
    (bob.path / "copied/d2/e1/added").unlink()
    assert_tree_arrives(tree, bob, alice, "copied")


def assert_tree_arrives(tree: Path, writer: Machine, reader: Machine, name: str) -> None:
    """`cp -a` on one device; identical there, on the other, and between the two."""
    target = writer.path / name
    target.mkdir(exist_ok=True)
    run("cp", "-a", f"{tree}/.", target)
    assert_identical(tree, target)
    writer.wait("logged", timeout_s=60)
    size = writer.status()["changes"]["logged"]
    poll(lambda: reader.status()["changes"]["logged"] >= size, 30)
    assert_identical(target, reader.path / name)
    assert_identical(tree, reader.path / name)
