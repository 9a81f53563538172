"""A desktop of its own that nobody sees: X server, window manager, session bus, keyboard, eyes.

Data flow: keys (xdotool) -> applications on a private X server -> what they show
    (tests/support/shown), and pictures of the screen.

It has a home folder and an XDG_RUNTIME_DIR of its own, and everything in it ends with it: what the
session bus started when the bus ends, the bus when its standard input is closed, which it is also
when this process is killed. It sees the system's programs and the given folders, nothing else of
this machine: a file manager shows one trash for all that is mounted, and empties all of it.
"""

import glob
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

from tests.support.product import Programs, poll
from tests.support.requirements import require_program

WAIT_S = 60.0
SYSTEM_PYTHON = "/usr/bin/python3"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/var/lib/dbus")
PACKAGES = {
    "Xvfb": "xvfb",
    "bwrap": "bubblewrap",
    "openbox": "openbox",
    "dbus-run-session": "dbus",
    "xdotool": "xdotool",
    "import": "imagemagick",
    "gio": "libglib2.0-bin",
}
"""Programs of the desktop, and the Debian packages that bring them."""

SERVICES = {
    "gvfsd-trash": "gvfs gvfs-daemons",
    "tumblerd": "tumbler",
    "at-spi-bus-launcher": "at-spi2-core",
}
"""What the session bus starts, and the same."""
SERVICE_FOLDERS = ("/usr/libexec", "/usr/lib/gvfs", "/usr/lib/*/tumbler-1", "/usr/lib/tumbler-1")


def require_desktop(*programs: str) -> None:
    """Everything that a desktop and these programs need; else pytest.skip with Debian's names."""
    remedy = "install {}, or run: DESKTOP=true scripts/setup"
    for program in (*PACKAGES, *programs):
        require_program(program, remedy.format(PACKAGES.get(program, program)))
    for service, packages in SERVICES.items():
        if not any(glob.glob(f"{folder}/{service}") for folder in SERVICE_FOLDERS):
            pytest.skip(f"{service} is missing: {remedy.format(packages)}")
    bindings = "import gi; gi.require_version('Atspi', '2.0'); from gi.repository import Atspi"
    if subprocess.run([SYSTEM_PYTHON, "-c", bindings], capture_output=True).returncode:
        pytest.skip(remedy.format("python3-gi gir1.2-atspi-2.0 at-spi2-core"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What can be read in a window."""

    title: str
    active: bool
    texts: tuple[str, ...]
    typing: bool
    """Does what is typed go into a text field of it?"""

    def reads(self, *texts: str) -> bool:
        """Is each of these to be found, alone or within a longer one?"""
        return all(any(text in one for one in self.texts) for text in texts)


class Desktop:
    """A running desktop below `root`, which sees the folders `visible`. Pictures go to
    `screenshots`, if that is given."""

    def __init__(
        self,
        root: Path,
        programs: Programs,
        *,
        visible: Sequence[Path],
        screenshots: Path | None = None,
    ) -> None:
        self.home = root / "home"
        self.screenshots = screenshots
        self._runtime = root / "run"
        self._temporary = root / "tmp"
        self._visible = visible
        self._programs = programs
        self._bus: subprocess.Popen[str] | None = None
        self.environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self._runtime),
            "GSETTINGS_BACKEND": "keyfile",
            "GTK_A11Y": "atspi",
            "GSK_RENDERER": "cairo",
        }

    def __enter__(self) -> "Desktop":
        self.home.mkdir(parents=True)
        self._runtime.mkdir(mode=0o700)
        self._temporary.mkdir()
        try:
            self._start_screen()
            self._start_bus()
            self._start_window_manager()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.picture("failed")
        self._close()

    def _start_screen(self) -> None:
        reading, writing = os.pipe()
        size = ["-screen", "0", "1024x720x24", "-nolisten", "tcp"]
        with os.fdopen(reading) as pipe:
            try:
                command = ["Xvfb", "-displayfd", str(writing), *size]
                self._programs.start("screen", command, pass_fds=[writing])
            finally:
                os.close(writing)
            number = pipe.readline().strip()
        assert number, self._programs.log("screen").read_text()
        self.environment["DISPLAY"] = f":{number}"

    def _start_bus(self) -> None:
        says = 'echo "$DBUS_SESSION_BUS_ADDRESS"; exec cat >/dev/null'
        with self._programs.log("bus").open("ab") as log:
            self._bus = subprocess.Popen(
                self._inside("dbus-run-session", "--", "sh", "-c", says),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        assert self._bus.stdout is not None
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = self._bus.stdout.readline().strip()

    def _start_window_manager(self) -> None:
        """Until it manages: a window that it does not know yet cannot be given the keyboard."""
        self.start("openbox", "openbox")
        asked = ["xdotool", "get_num_desktops"]

        def manages() -> bool:
            asking = subprocess.run(asked, env=self.environment, capture_output=True)
            return asking.returncode == 0

        poll(manages, WAIT_S, self._programs.log("openbox").read_text)

    def _close(self) -> None:
        if self._bus is not None:
            self._bus.communicate(timeout=WAIT_S)
        self._programs.kill("openbox")
        self._programs.kill("screen")

    # Programs

    def _inside(self, *command: str | Path) -> list[str]:
        """A command with eyes for nothing but this desktop."""
        words = ["bwrap", "--die-with-parent", "--dev-bind", "/dev", "/dev"]
        words += ["--bind", "/proc", "/proc", "--bind", str(self._temporary), "/tmp"]
        for folder in (*SYSTEM, str(Path(__file__).parent)):
            words += ["--ro-bind-try", folder, folder]
        for own in (self.home, self._runtime, *self._visible):
            words += ["--bind", str(own), str(own)]
        return [*words, "--chdir", str(self.home), "--", *map(str, command)]

    def start(self, name: str, *command: str | Path) -> None:
        """A program of the desktop that goes on running."""
        variables = [f"{key}={value}" for key, value in self.environment.items()]
        self._programs.start(name, ["env", "-i", *variables, *self._inside(*command)])

    def run(self, *command: str | Path) -> str:
        """Output of a program of the desktop that ends by itself and succeeds."""
        return self._run(self._inside(*command))

    def try_run(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """The same of one that may fail."""
        return self._done(self._inside(*command))

    def _run(self, command: Sequence[str]) -> str:
        done = self._done(command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def _done(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )

    # Eyes

    def windows(self, application: str) -> list[Window]:
        """All windows of an application."""
        shown = json.loads(self._look(application))
        return [Window(**{**one, "texts": tuple(one["texts"])}) for one in shown]

    def wait_read(
        self, application: str, *texts: str, without: Sequence[str] = (), focused: bool = True
    ) -> None:
        """Until the window that has the focus, or any, shows these texts and none of the others."""

        def reads() -> bool:
            return any(
                (one.active or not focused)
                and one.reads(*texts)
                and not any(map(one.reads, without))
                for one in self.windows(application)
            )

        poll(reads, WAIT_S, lambda: (texts, without, self.windows(application)))

    def wait_typing(self, application: str) -> None:
        """Until a text field has the cursor: what is typed before is lost, or a command."""
        poll(
            lambda: any(one.typing for one in self.windows(application)),
            WAIT_S,
            lambda: self.windows(application),
        )

    def wait_closed(self, application: str) -> None:
        """Until an application has no window."""
        poll(lambda: not self.windows(application), WAIT_S, lambda: self.windows(application))

    def press(self, application: str, button: str) -> None:
        """A button, by its name, as soon as it can be seen."""
        poll(
            lambda: json.loads(self._look(application, "--press", button)),
            WAIT_S,
            lambda: (button, self.windows(application)),
        )

    def _look(self, *arguments: str) -> str:
        program = Path(__file__).with_name("shown.py")
        return self.run(SYSTEM_PYTHON, "-W", "ignore", program, *arguments)

    def picture(self, name: str) -> None:
        """The screen, as `screenshots/NAME.png`."""
        if self.screenshots is not None:
            self.screenshots.mkdir(parents=True, exist_ok=True)
            file = self.screenshots.resolve() / f"{name}.png"
            self._run(["import", "-window", "root", str(file)])

    # Hands

    def focus(self, title: str) -> None:
        """Wait for a window whose title matches, and give it the keyboard."""
        search = ["xdotool", "search", "--onlyvisible", "--name", title]
        self._run([*search[:2], "--sync", *search[2:]])
        self._run([*search[:2], "--limit", "1", *search[2:], "windowactivate", "--sync"])

    def keys(self, *keys: str) -> None:
        """To the window that has the focus: `ctrl+c`, `F2`, `Return`."""
        self._run(["xdotool", "key", "--clearmodifiers", *keys])

    def type(self, text: str) -> None:
        """Text, instead of what is selected where the cursor is."""
        self._run(["xdotool", "type", "--delay", "20", text])
