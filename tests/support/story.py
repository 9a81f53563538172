"""A story told by people at their computers, printed as a walkthrough in Markdown and checked.

Data flow: chapters of scripts/story_people -> `Story` -> terminals of `Computer`s -> Markdown.

A computer is a home folder with its own state, mount and agent; everything else is the machine that
this runs on. Daemons leave their terminals, so this process adopts what loses its parent: at the
end exactly the processes are ended that the story has started, whatever happened.
"""

import ctypes
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.product import ROOT, Product, lazy_unmount, poll, product
from tests.support.terminals import Terminal, TerminalError

Json = dict[str, Any]
Answer = str | Callable[[str], str]
"""What is typed, or how that follows from what stands on the screen."""

SLOWEST_S = 90.0
"""Nothing takes that long, whatever else the machine does."""
_PR_SET_CHILD_SUBREAPER = 36


class StoryError(Exception):
    """Something went otherwise than the story says."""


@dataclass(frozen=True, kw_only=True)
class Computer:
    """`person` at `device`: a home folder, in which ~/Acme is where the workspace is mounted."""

    person: str
    device: str
    home: Path
    places: dict[str, str] = field(default_factory=dict)
    """Environment: addresses and ids that people were told."""

    @property
    def folder(self) -> Path:
        """Where the workspace is mounted."""
        return self.home / "Acme"

    @property
    def state(self) -> Path:
        """The device's own folder."""
        return self.home / ".local/share/parsec-fs"

    def environment(self) -> dict[str, str]:
        """Of a login session on this computer."""
        session = self.home / ".session"
        session.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            "HOME": str(self.home),
            "USER": self.person,
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "XDG_RUNTIME_DIR": str(session),
            **self.places,
        }

    def status(self) -> Json:
        """`.status.json` of the mount."""
        document: Json = json.loads((self.folder / ".status.json").read_bytes())
        return document

    def signal(self, number: signal.Signals) -> None:
        """To the daemon, of which nothing is asked while it is stopped."""
        (lock,) = self.state.glob("device/workspaces/*/daemon.pid")
        os.kill(json.loads(lock.read_text())["pid"], number)

    def read(self, name: str) -> str | None:
        """A file of the workspace; None if it is not there."""
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return None

    def names(self) -> set[str]:
        """Every path in the workspace."""
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}

    def holds(self, *words: bytes) -> bool:
        """Does any file of this computer contain one of these words?"""
        files = [one for one in self.home.rglob("*") if one.is_file()]
        return any(word in file.read_bytes() for file in files for word in words)

    def refusal(self, action: Callable[[], object]) -> int:
        """errno of a system call, 0 if it succeeds."""
        try:
            action()
        except OSError as error:
            return error.errno or 0
        return 0

    def lost(self) -> None:
        """Daemon, mount and all files of it: gone."""
        self.signal(signal.SIGKILL)
        lazy_unmount(self.folder)
        shutil.rmtree(self.home)


class Story:
    """What has happened so far, printed as it happens."""

    def __init__(self, home: Path, server: Product) -> None:
        self.server = server
        self.computers: list[Computer] = []
        self._home = home
        self._chapter = ""
        self._in_block = False
        self._chapters = 0

    def computer(self, person: str, device: str) -> Computer:
        """A computer that nobody has used."""
        places = {"SERVER": self.server.server_url, "CHAIN": self.server.node.rpc_url}
        home = self._home / f"{person}-{device}"
        home.mkdir(parents=True)
        self.computers.append(Computer(person=person, device=device, home=home, places=places))
        return self.computers[-1]

    # What is told

    def chapter(self, title: str, text: str) -> None:
        """A heading, and what happens now."""
        self._chapters += 1
        self._chapter = title
        self.tell(f"## {self._chapters}. {title}\n\n{text}")

    def tell(self, text: str) -> None:
        """A paragraph of its own."""
        if self._in_block:
            print("```")
            self._in_block = False
        print(f"\n{text}", flush=True)

    def show(self, who: Computer, command: str, text: str) -> None:
        """A command as it was typed, and what stood on the screen."""
        if not self._in_block:
            print("\n```console")
            self._in_block = True
        shown = text.replace(str(who.home), "~")
        print(f"{who.person}@{who.device}$ {command}")
        print(shown + "\n" if shown else "", end="", flush=True)

    # What is done

    def run(
        self,
        who: Computer,
        command: str,
        *,
        says: Sequence[str] = (),
        answers: Sequence[tuple[str, Answer]] = (),
    ) -> str:
        """Type a command, answer what it asks (pattern, answer), look for what it must say; what
        it showed. Raises StoryError."""
        with self._typed(who, command) as terminal:
            for question, answer in answers:
                terminal.expect(question, SLOWEST_S)
                terminal.type(answer if isinstance(answer, str) else answer(terminal.text))
        self._check(who, terminal, says)
        return terminal.text

    @contextmanager
    def both(self, *typed: tuple[Computer, str], says: Sequence[str]) -> Iterator[list[Terminal]]:
        """Two people, each with a command that waits for the other; `says`: what each of the two
        must show in the end."""
        with self._typed(*typed[0]) as one, self._typed(*typed[1]) as other:
            yield [one, other]
        for (who, _), terminal, said in zip(typed, (one, other), says, strict=True):
            self._check(who, terminal, [said])

    @contextmanager
    def _typed(self, who: Computer, command: str) -> Iterator[Terminal]:
        terminal = Terminal(command, environment=who.environment(), folder=who.home)
        try:
            yield terminal
            code = terminal.end(SLOWEST_S)
        except TerminalError as error:
            raise StoryError(f"{who.person}@{who.device}$ {command}\n{error}") from error
        finally:
            terminal.kill()
        if code:
            raise StoryError(
                f"{who.person}@{who.device}$ {command}\nexit code {code}\n{terminal.text}"
            )

    def _check(self, who: Computer, terminal: Terminal, says: Sequence[str]) -> None:
        self.show(who, terminal.command, terminal.text)
        for one in says:
            if not re.search(one, terminal.text.replace(str(who.home), "~"), re.MULTILINE):
                raise StoryError(f"the last command does not say {one!r}")

    def holds(
        self,
        claim: str,
        probe: Callable[[], object],
        what: Callable[[], object] = lambda: "",
    ) -> None:
        """Wait until a claim is true, and print it. Raises StoryError."""
        try:
            poll(lambda: bool(probe()), SLOWEST_S, what)
        except AssertionError as error:
            raise StoryError(f"this did not come true: {claim}\n{error}") from error
        self.tell(f"✔ {claim}")

    def failed(self, error: Exception) -> str:
        """Where it went wrong, for people."""
        return f'in chapter {self._chapters}, "{self._chapter}":\n{error}'


@contextmanager
def told(home: Path, *, keep: bool) -> Iterator[Story]:
    """Servers run, nobody has a device yet. In the end nothing runs, and nothing is left in `home`
    unless it is kept."""
    _adopt_orphans()
    story = None
    try:
        with product(root=home / "servers", keep=keep) as server:
            story = Story(home, server)
            yield story
    finally:
        for one in story.computers if story else ():
            lazy_unmount(one.folder)
        _end_children()
        if not keep:
            for path in home.iterdir():
                shutil.rmtree(path)


def _adopt_orphans() -> None:
    """From now on this process is the parent of every descendant whose parent has ended."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def _end_children() -> None:
    """Daemons and agents, until none is left: the end of one may hand us another."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(one) for one in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
