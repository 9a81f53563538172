"""A directory of 100,000 entries: listed whole, consistent while it changes, there after a crash.

Data flow: system calls -> kernel (readdirplus) -> mount -> names.
"""

import os
import shutil
from pathlib import Path

from tests.support.mounts import Daemon

ENTRIES = 100_000


def sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_a_directory_of_100_000_entries(fresh: Daemon) -> None:
    folder = fresh.path / "large"
    folder.mkdir()
    names = [f"{number:06}-{'n' * (number % 200)}" for number in range(ENTRIES)]
    for name in names:
        os.mknod(folder / name)
    assert sorted(os.listdir(folder)) == names
    assert not (folder / "missing").exists()
    assert (folder / names[-1]).stat().st_nlink == 1

    # Every other name goes while it is listed: what stays is seen once, nothing is seen twice.
    seen = []
    with os.scandir(folder) as entries:
        for entry in entries:
            seen.append(entry.name)
            if len(seen) == 1:
                for name in names[::2]:
                    os.unlink(folder / name)
                (folder / "late").mkdir()
    assert len(seen) == len(set(seen))
    assert set(names[1::2]) <= set(seen) <= {*names, "late"}

    sync(folder)
    fresh.kill()
    fresh.start()
    assert sorted(os.listdir(folder)) == [*names[1::2], "late"]
    assert folder.stat().st_nlink == 3
    folder.rename(fresh.path / "moved")
    shutil.rmtree(fresh.path / "moved")
    fresh.unmount()
    fresh.start()
    assert os.listdir(fresh.path) == []
