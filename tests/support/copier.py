"""Copies a folder as a program would, and says what it has fsynced.

usage: python -m tests.support.copier SOURCE TARGET

Data flow: source -> target (on a mount that may die) -> names of fsynced files on stdout.

Every third file is fsynced; its name is printed after fsync returned. The one after it is saved as
editors do: a new file, fsync, rename, fsync of the folder. The others are replaced in place, and
nothing is promised. Exit code 3: the target failed.
"""

import os
import sys
from pathlib import Path

CHUNK = 64 * 1024
SYNC_EVERY = 3
SAVED = 1
"""Number, of every three files, of the one that is saved by renaming."""
BESIDE = ".being-saved"


def copy(source: Path, target: Path) -> None:
    """Raises OSError when the target goes away."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for number, path in enumerate(files):
        name = path.relative_to(source)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if number % SYNC_EVERY == SAVED:
            _save(target / name, path.read_bytes())
            print(name, flush=True)
            continue
        descriptor = os.open(target / name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
        try:
            _fill(descriptor, path.read_bytes())
            if number % SYNC_EVERY == 0:
                os.fsync(descriptor)
                print(name, flush=True)
        finally:
            os.close(descriptor)


def _save(path: Path, data: bytes) -> None:
    """Whoever looks, before or after a crash, finds nothing or all of it."""
    beside = path.with_name(path.name + BESIDE)
    descriptor = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    try:
        _fill(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _fill(descriptor: int, data: bytes) -> None:
    for start in range(0, len(data), CHUNK):
        os.write(descriptor, data[start : start + CHUNK])


if __name__ == "__main__":
    try:
        copy(Path(sys.argv[1]), Path(sys.argv[2]))
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(3)
