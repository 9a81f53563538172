"""The file systems that `scripts/bench_mount` measures side by side.

Data flow: scripts/bench_mount -> start -> a mounted folder -> rows -> stop.

All keep their data below one backing folder, so all pay for the same disk. Keys and passwords are
throw-away. A peer whose program is not installed is left out, and named as left out.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEADLINE_S = 30.0


class Peer:
    """One file system: `start` mounts an empty one and returns the folder to work in."""

    name = ""
    typed = b""
    """What the program reads from its standard input."""

    def __init__(self, backing: Path) -> None:
        self.backing = backing / self.name
        self.mountpoint = backing / f"{self.name}.mnt"
        self.process: subprocess.Popen[bytes] | None = None

    def available(self) -> bool:
        """True iff its program is installed."""
        return True

    def command(self) -> list[str]:
        """The program that serves the mount in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is needed before mounting."""

    def start(self) -> Path:
        """Mount; raises RuntimeError if that does not work in time."""
        self.backing.mkdir(parents=True)
        self.mountpoint.mkdir()
        self.prepare()
        self.process = subprocess.Popen(
            self.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            stdin.write(self.typed)
        deadline = time.monotonic() + DEADLINE_S
        while not os.path.ismount(self.mountpoint):
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError(f"{self.name} did not mount")
            time.sleep(0.02)
        return self.mountpoint

    def pid(self) -> int:
        """The process that serves the mount."""
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """Unmount, end the program, remove everything."""
        if os.path.ismount(self.mountpoint):
            subprocess.run(["fusermount3", "-u", str(self.mountpoint)], check=False, timeout=30)
        if self.process is not None:
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        subprocess.run(
            ["fusermount3", "-uz", str(self.mountpoint)], capture_output=True, check=False
        )
        shutil.rmtree(self.backing, ignore_errors=True)
        shutil.rmtree(self.mountpoint, ignore_errors=True)


class Local(Peer):
    """This project's mount alone, with journal and contents but no server: for profiles."""

    name = "local"

    def command(self) -> list[str]:
        module = [_python(), "-m", "tests.support.local_daemon"]
        return [*module, str(self.backing), str(self.mountpoint)]


class Other(Local):
    """The mount alone of another checkout, such as the version before a change."""

    name = "other"

    def __init__(self, backing: Path, checkout: Path) -> None:
        super().__init__(backing)
        self.checkout = checkout.resolve()

    def command(self) -> list[str]:
        return ["env", "-C", str(self.checkout), *super().command()]


class Attached(Peer):
    """A folder that is mounted already, by whatever program: a full workspace with its server."""

    name = "attached"

    def __init__(self, backing: Path, folder: Path) -> None:
        super().__init__(backing)
        self.folder = folder / f"bench-{os.getpid()}"

    def start(self) -> Path:
        self.folder.mkdir()
        return self.folder

    def stop(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Floor(Peer):
    """The measuring stick: pyfuse3 with the same loop and a file system that does nothing else."""

    name = "floor"

    def __init__(self, backing: Path, program: Path) -> None:
        super().__init__(backing)
        self.program = program

    def available(self) -> bool:
        return self.program.is_file()

    def command(self) -> list[str]:
        return [_python(), str(self.program), str(self.mountpoint)]


class Gocryptfs(Peer):
    """gocryptfs, as it comes (cheap password hashing: that only touches mounting)."""

    name = "gocryptfs"

    def available(self) -> bool:
        return shutil.which("gocryptfs") is not None

    def prepare(self) -> None:
        self.password = self.backing.with_suffix(".password")
        self.password.write_text("throw-away\n")
        options = ["-q", "-passfile", str(self.password), "-scryptn", "10"]
        subprocess.run(["gocryptfs", "-init", *options, str(self.backing)], check=True)

    def command(self) -> list[str]:
        options = ["-q", "-fg", "-allow_other", "-passfile", str(self.password)]
        return ["gocryptfs", *options, str(self.backing), str(self.mountpoint)]

    def stop(self) -> None:
        super().stop()
        self.password.unlink(missing_ok=True)


class Securefs(Peer):
    """securefs, its default format."""

    name = "securefs"

    def available(self) -> bool:
        return shutil.which("securefs") is not None

    def prepare(self) -> None:
        options = ["--pass", "throw-away", "--pbkdf", "pkcs5-pbkdf2-hmac-sha256", "-r", "1"]
        _quietly("securefs", "create", *options, str(self.backing))

    def command(self) -> list[str]:
        return [
            *("securefs", "mount", "--pass", "throw-away"),
            *(str(self.backing), str(self.mountpoint)),
        ]


class Cryfs(Peer):
    """CryFS, as it comes."""

    name = "cryfs"
    typed = b"throw-away\n"

    def available(self) -> bool:
        return shutil.which("cryfs") is not None

    def command(self) -> list[str]:
        quiet = ["CRYFS_FRONTEND=noninteractive", "CRYFS_NO_UPDATE_CHECK=true"]
        return ["env", *quiet, "cryfs", "-f", str(self.backing), str(self.mountpoint)]


class JuiceFS(Peer):
    """JuiceFS, encrypted: names and tree in SQLite, data in a folder, a cache beside it."""

    name = "juicefs"

    def available(self) -> bool:
        return shutil.which("juicefs") is not None and shutil.which("openssl") is not None

    def prepare(self) -> None:
        key, objects = self.backing / "key.pem", self.backing / "objects"
        self.meta = f"sqlite3://{self.backing / 'meta.db'}"
        _quietly("openssl", "genrsa", "-out", str(key), "2048")
        where = ["--storage", "file", "--bucket", f"{objects}/"]
        sealed = ["--encrypt-rsa-key", str(key), "--encrypt-algo", "aes256gcm-rsa"]
        _quietly("juicefs", "format", *where, *sealed, self.meta, "bench")

    def command(self) -> list[str]:
        options = ["--cache-dir", str(self.backing / "cache"), "--no-usage-report"]
        return ["juicefs", "mount", *options, self.meta, str(self.mountpoint)]


class Plain(Peer):
    """The backing file system itself, without encryption."""

    name = "backing"

    def start(self) -> Path:
        self.backing.mkdir(parents=True)
        return self.backing


def _quietly(*command: str) -> None:
    """A command whose words nobody needs."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _python() -> str:
    own = ROOT / ".venv" / "bin" / "python"
    return str(own) if own.exists() else sys.executable
