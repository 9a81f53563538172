"""A mounted workspace in a child process: start, unmount, kill, and always clean up."""

import contextlib
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
ROOT = Path(__file__).resolve().parents[2]


class Daemon:
    """A daemon over a state folder, mounted at `path`; can be killed and started again."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.state = folder / "state"
        self.path = folder / "mnt"
        self.log = folder / "daemon.log"
        self.path.mkdir(parents=True, exist_ok=True)
        self.arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Daemon":
        """Start and wait until it is mounted."""
        module = [sys.executable, "-m", "tests.support.local_daemon"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*module, str(self.state), str(self.path), *self.arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        if self.said() != b"mounted":
            self.clean_up()
            raise AssertionError(f"did not mount: {self.log.read_text()}")
        return self

    def said(self) -> bytes:
        """The next line that the daemon prints; b"" if it says nothing or has ended."""
        assert self.process is not None
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_TIMEOUT_S)
        return self.process.stdout.readline().strip() if ready else b""

    def invalidate(self) -> None:
        """Have the kernel told to forget all names and pages, as after remote changes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        assert self.said() == b"sent", self.log.read_text()

    def unmount(self) -> None:
        """As a user does; the daemon must then end by itself, without an error."""
        assert self.process is not None
        subprocess.run(["fusermount3", "-u", str(self.path)], check=True, timeout=STOP_TIMEOUT_S)
        assert self._ended() == 0, self.log.read_text()

    def terminate(self) -> None:
        """SIGTERM; the daemon unmounts and ends."""
        assert self.process is not None
        self.process.terminate()
        assert self._ended() == 0, self.log.read_text()

    def kill(self) -> None:
        """SIGKILL, then the dead mount is taken away."""
        assert self.process is not None
        self.process.kill()
        self._ended()
        _lazy_unmount(self.path)

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(STOP_TIMEOUT_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code

    def clean_up(self) -> None:
        """Whatever happened: no process and no mount stays behind."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(5)
            if self.process.poll() is None:
                self.process.kill()
            self._ended()
        _lazy_unmount(self.path)


def _lazy_unmount(path: Path) -> None:
    """Also of a mount whose daemon is dead; not being mounted is fine."""
    subprocess.run(["fusermount3", "-uz", str(path)], capture_output=True, timeout=30)


@contextlib.contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Daemon]:
    """A started daemon, cleaned up at the end."""
    daemon = Daemon(folder, *arguments)
    try:
        yield daemon.start()
    finally:
        daemon.clean_up()
