"""The folder to mount on: empty, ours, and not the rest of a daemon that died.

Data flow: path as typed -> checked, cleaned, created -> absolute path.

A dead mount is left in place until the next mount: an empty folder in its place would look like
the truth to whoever synchronises or deletes by it.
"""

import errno
import os
import subprocess
from pathlib import Path
from typing import Final

from parsec_fs.cli.exit_codes import CommandError, ExitCode

FUSE_DEVICE: Final = Path("/dev/fuse")
FUSE_SETTINGS: Final = Path("/etc/fuse.conf")
_TYPE: Final = "fuse.parsec"


def prepare(path: Path) -> Path:
    """Absolute path of an empty folder. Raises CommandError."""
    path = Path(os.path.abspath(path))
    if os.path.islink(path):
        path = Path(os.path.realpath(path))
    check_fuse()
    clear_dead_mount(path)
    if mount_type(path) is not None:
        raise CommandError(ExitCode.BUSY, f"{path} is a mountpoint already")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise CommandError(
                ExitCode.NOT_EMPTY, f"{path} is not empty; choose another folder or empty it"
            )
    except OSError as error:
        raise CommandError(ExitCode.NOT_EMPTY, f"{path}: {error.strerror}") from error
    return path


def check_fuse() -> None:
    """Can this machine mount at all? Raises CommandError."""
    if not FUSE_DEVICE.exists():
        raise CommandError(
            ExitCode.FAILED,
            "this machine has no /dev/fuse, so nothing can be mounted. Load it: modprobe fuse; "
            "in a container, start that with: --device /dev/fuse --cap-add SYS_ADMIN",
        )
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise CommandError(
            ExitCode.NOT_ALLOWED,
            "you may not use /dev/fuse on this machine; let its owner type: chmod 0666 /dev/fuse",
        )


def check_allow_other(*, is_root: bool, settings: Path = FUSE_SETTINGS) -> None:
    """May this user let others into a mount? Root decides, once for the machine. CommandError."""
    if is_root:
        return
    lines = settings.read_text().splitlines() if settings.exists() else []
    if "user_allow_other" not in [line.strip() for line in lines]:
        raise CommandError(
            ExitCode.NOT_ALLOWED,
            f"--allow-other needs a line `user_allow_other` in {settings}, which root can add",
        )


def is_dead(path: Path) -> bool:
    """Is this a mount whose daemon is gone?"""
    try:
        os.statvfs(path)  # stat may be answered from the kernel's cache
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def clear_dead_mount(path: Path) -> bool:
    """Take away a dead mount of ours; True if there was one."""
    if not is_dead(path) or mount_type(path) != _TYPE:
        return False
    subprocess.run(["fusermount3", "-uz", "--", str(path)], capture_output=True, timeout=30)
    if is_dead(path):
        raise CommandError(
            ExitCode.BUSY, f"{path} is a dead mount; remove it: fusermount3 -uz {path}"
        )
    return True


def real_place(path: Path) -> Path:
    """The absolute path of a mount as the kernel's table has it. Links above it are followed; the
    last name is not looked at, because a daemon that hangs would have to answer that."""
    return Path(os.path.realpath(path.parent), path.name)


def mount_type(path: Path) -> str | None:
    """Type of the file system mounted exactly at `path`, from the kernel's table."""
    found, place = None, str(real_place(path))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if _unescaped(before.split()[4]) == place:
            found = after.split()[0]
    return found


def _unescaped(text: str) -> str:
    for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, letter)
    return text
