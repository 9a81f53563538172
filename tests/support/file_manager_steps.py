"""What a file manager must be able to do on a mount, step by step, each checked in the folder.

Data flow: `Visit.steps` -> file manager (tests/support/file_managers) -> alice's mount -> the tree
    that is expected; bob's mount -> what the file manager's window shows.

Used by tests/desktop/test_file_managers.py and scripts/file_managers.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.desktop import WAIT_S, Desktop
from tests.support.file_managers import FileManager
from tests.support.inotify import Watch
from tests.support.product import Machine, Product, poll

MANY = 1_000
STATUS_NAMES = frozenset({".status", ".status.json"})
Tree = dict[str, bytes | None]
"""Path below a folder -> content; None for a folder."""


def tree_of(root: Path) -> Tree:
    """All that lies below a folder, but for the trash. Raises OSError if it changes meanwhile."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".Trash-")]
        below = Path(folder).relative_to(root)
        found |= {str(below / name): None for name in folders}
        found |= {str(below / name): Path(folder, name).read_bytes() for name in files}
    return found


def wait_alike(root: Path, expected: Tree) -> None:
    """Until a folder holds exactly what it should; AssertionError with the first differences."""
    found: Tree = {}

    def alike() -> bool:
        nonlocal found
        with suppress(OSError):
            found = tree_of(root)
            return found == expected
        return False

    def differences() -> list[str]:
        paths = found.keys() | expected.keys()
        return sorted(one for one in paths if found.get(one, b"-") != expected.get(one, b"-"))[:9]

    poll(alike, WAIT_S, differences)


class Visit:
    """One file manager on alice's mount, and what must lie there after each step."""

    def __init__(self, manager: FileManager, alice: Machine, bob: Machine, *, watch: Watch) -> None:
        self.manager = manager
        self.desktop = manager.desktop
        self.here, self.there = alice.path, bob.path
        self.outside = self.desktop.home / "outside"
        self.tree: Tree = {}
        self.watch = watch
        self.steps: dict[str, Callable[[], None]] = {
            "names and sizes": self.names_and_sizes,
            "thumbnail": self.thumbnail,
            "copy 1,000 files in": self.copy_in,
            "copy 1,000 files out": self.copy_out,
            "rename": self.rename,
            "new folder": self.new_folder,
            "trash and restore": self.trash_and_restore,
            "trash and empty": self.trash_and_empty,
            "save from an editor": self.edit,
            "changes of another device": self.changes_of_another_device,
            "status files left alone": self.status_left_alone,
            "both devices alike": self.both_alike,
        }

    def start(self) -> None:
        """Files to work with, and the file manager without a window."""
        photo = self.here / "pictures/photo.png"
        photo.parent.mkdir()
        self.desktop.run("convert", "-size", "320x240", "plasma:red-blue", photo)
        (self.here / "letters").mkdir()
        (self.here / "letters/letter.txt").write_bytes(b"dear bob\n")
        (self.here / "letters/numbers.bin").write_bytes(bytes(12_345))
        self.tree = tree_of(self.here)
        (self.outside / "many").mkdir(parents=True)
        (self.outside / "back").mkdir()
        for number in range(MANY):
            (self.outside / f"many/{number:04}.txt").write_text(f"number {number}\n" * (number % 9))
        self.manager.start()

    def agree(self) -> None:
        """The mount holds what it should, or comes to hold it."""
        wait_alike(self.here, self.tree)

    def done(self) -> None:
        """After a step: nothing open, nothing else changed."""
        self.manager.close()
        self.agree()

    def picture(self, name: str) -> None:
        """Of the screen, if pictures are kept."""
        self.desktop.picture(f"{self.manager.program}-{name}")

    def trashed(self) -> set[str]:
        """What lies in the trash on the mount: files that have a note of where they came from."""
        trash = self.here / f".Trash-{os.getuid()}"
        with suppress(FileNotFoundError):
            notes = {name.removesuffix(".trashinfo") for name in os.listdir(trash / "info")}
            return notes & set(os.listdir(trash / "files"))
        return set()

    def wait_trashed(self, *names: str) -> None:
        """Until exactly this lies in the trash on the mount."""
        poll(lambda: self.trashed() == set(names), WAIT_S, self.trashed)

    def names_and_sizes(self) -> None:
        """Of folders and of files."""
        self.manager.open(self.here, "letters", "pictures")
        self.manager.close()
        files = ("letter.txt", "9 bytes", "numbers.bin", self.manager.size(12_345))
        self.manager.open(self.here / "letters", *files)
        self.picture("names-and-sizes")
        self.done()

    def thumbnail(self) -> None:
        """Made of a picture that lies on the mount, as its own text says."""
        photo = self.here / "pictures/photo.png"
        name = hashlib.md5(photo.as_uri().encode(), usedforsecurity=False).hexdigest()
        made = self.desktop.home / f".cache/thumbnails/{self.manager.thumbnails}/{name}.png"
        self.manager.open(photo.parent, photo.name)
        key, view = self.manager.icon_view
        self.desktop.keys(key)
        self.manager.see(view)
        expected = f"{photo.as_uri()} {int(photo.stat().st_mtime)}"
        poll(lambda: self._noted(made) == expected, WAIT_S, lambda: (self._noted(made), expected))
        self.picture("thumbnail")
        self.desktop.keys(self.manager.usual_view)
        self.done()

    def _noted(self, thumbnail: Path) -> str:
        """Of which file a thumbnail is, and when that changed; "" while it is being written."""
        asked = ("identify", "-format", "%[Thumb::URI] %[Thumb::MTime]", thumbnail)
        done = self.desktop.try_run(*asked) if thumbnail.exists() else None
        if done is None or done.returncode:
            return ""
        uri, _, changed = done.stdout.partition(" ")
        return f"{uri} {changed.partition('.')[0]}"

    def copy_in(self) -> None:
        """A folder of many files, from this machine's disk."""
        self.manager.copy(self.outside / "many", self.here / "letters")
        self.tree["letters/many"] = None
        copied = tree_of(self.outside / "many")
        self.tree |= {f"letters/many/{name}": content for name, content in copied.items()}
        self.agree()
        self.manager.see("many", "letter.txt")
        self.picture("copied-in")
        self.done()

    def copy_out(self) -> None:
        """The same folder, from the mount to this machine's disk."""
        self.manager.copy(self.here / "letters/many", self.outside / "back")
        wait_alike(self.outside / "back/many", tree_of(self.outside / "many"))
        self.done()

    def rename(self) -> None:
        """A file."""
        self.manager.rename(self.here / "letters/letter.txt", "renamed.txt")
        self.tree["letters/renamed.txt"] = self.tree.pop("letters/letter.txt")
        self.agree()
        self.manager.see("renamed.txt", without=("letter.txt",))
        self.done()

    def new_folder(self) -> None:
        """In the workspace's root."""
        self.manager.new_folder(self.here, "made")
        self.tree["made"] = None
        self.agree()
        self.manager.see("made")
        self.done()

    def trash_and_restore(self) -> None:
        """Deleted into a trash that lies on the mount, then back where it was."""
        self.manager.delete(self.here / "letters/renamed.txt")
        content = self.tree.pop("letters/renamed.txt")
        self.agree()
        self.wait_trashed("renamed.txt")
        self.manager.restore("renamed.txt")
        self.tree["letters/renamed.txt"] = content
        self.agree()
        self.wait_trashed()
        self.done()

    def trash_and_empty(self) -> None:
        """Deleted, shown in the trash, then gone for good."""
        self.manager.delete(self.here / "letters/numbers.bin")
        del self.tree["letters/numbers.bin"]
        self.wait_trashed("numbers.bin")
        self.done()
        self.manager.open("trash:///", "numbers.bin")
        self.picture("trash")
        self.manager.empty_trash()
        self.wait_trashed()
        self.manager.see("Trash", without=("numbers.bin",))
        self.done()

    def edit(self) -> None:
        """A text editor of the same desktop opens, changes and saves a file."""
        self.desktop.start("mousepad", "mousepad", self.here / "letters/renamed.txt")
        self.desktop.focus("renamed.txt")
        self.desktop.wait_read("mousepad", "Edit")
        self.desktop.wait_typing("mousepad")
        self.desktop.keys("ctrl+End")
        self.desktop.type("from alice")
        self.desktop.keys("ctrl+s")
        self.tree["letters/renamed.txt"] = b"dear bob\nfrom alice"
        self.agree()
        self.picture("editor")
        self.desktop.keys("ctrl+q")
        self.desktop.wait_closed("mousepad")

    def changes_of_another_device(self) -> None:
        """A window that is open shows them, and no key is pressed in it."""
        wait_alike(self.there, self.tree)
        mine, theirs = self.here / "letters", self.there / "letters"
        self.manager.open(mine, "renamed.txt")
        (theirs / "from-bob.txt").write_bytes(b"b" * 1234)
        self.manager.see("from-bob.txt", self.manager.size(1234))
        self.picture("from-another-device")
        (theirs / "from-bob.txt").rename(theirs / "to-alice.txt")
        self.manager.see("to-alice.txt", without=("from-bob.txt",))
        (theirs / "to-alice.txt").unlink()
        self.manager.see("renamed.txt", without=("to-alice.txt",))
        self.done()

    def status_left_alone(self) -> None:
        """Nobody opened what the mount offers without listing it: the kernel would have told."""
        opened = {one.removeprefix("OPEN ") for one in self.watch.events() if "OPEN " in one}
        assert "letters/" in opened, opened
        assert not opened & STATUS_NAMES, opened
        assert not STATUS_NAMES & set(os.listdir(self.here))
        (self.here / ".status.json").read_bytes()  # and now that it is opened, the kernel tells
        poll(lambda: "OPEN .status.json" in self.watch.events(), WAIT_S)

    def both_alike(self) -> None:
        """The other device has the same tree."""
        self.agree()
        wait_alike(self.there, self.tree)


@contextmanager
def visit(
    manager: type[FileManager], server: Product, screenshots: Path | None = None
) -> Iterator[Visit]:
    """Two devices and a desktop that sees the mount of the first; both daemons must end well."""
    alice = server.first_device("alice").mount()
    bob = server.next_device(alice, "bob").mount()
    with (
        Desktop(
            server.root / "desktop",
            server.programs,
            visible=[alice.path],
            screenshots=screenshots,
        ) as desktop,
        Watch(alice.path, opened=True) as watch,
    ):
        prepared = Visit(manager(desktop), alice, bob, watch=watch)
        prepared.start()
        yield prepared
    for machine in (alice, bob):
        assert "unexpected error" not in machine.log_tail()
        machine.unmount()
