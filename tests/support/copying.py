"""A copy onto a mount, watched: which files are fsynced, whether it is still under way.

Data flow: `copier` process -> names of fsynced files -> test decides when to kill whom.
"""

import os
import subprocess
import sys
import threading
from pathlib import Path

from tests.support import copier
from tests.support.product import ROOT, Machine

FAILED = 3
"""Exit code of a copy whose target went away."""


class Copy:
    """A running copy of `source` to the folder `name` of a mount."""

    def __init__(self, source: Path, machine: Machine, name: str) -> None:
        self.source = source
        self.machine = machine
        self.target = machine.path / name
        self.synced: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.copier", str(source), str(self.target)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )
        self._more = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with self._more:
                    self.synced.append(line.decode().rstrip("\n"))
                    self._more.notify_all()

    def wait_synced(self, count: int) -> None:
        """Until that many files are fsynced."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.synced) >= count, 60)

    def under_way(self) -> bool:
        """Has it neither ended nor failed?"""
        return self._process.poll() is None

    def wait(self) -> int:
        """Exit code, once it has ended."""
        code = self._process.wait(120)
        self._reader.join()
        return code

    def torn(self) -> list[str]:
        """Files saved by renaming that show anything but all of their content."""
        files = sorted(path for path in self.source.rglob("*") if path.is_file())
        names = [path.relative_to(self.source) for path in files[copier.SAVED :: copier.SYNC_EVERY]]
        there = [name for name in names if (self.target / name).exists()]
        return [
            str(name)
            for name in there
            if (self.target / name).read_bytes() != (self.source / name).read_bytes()
        ]

    def missing(self) -> list[str]:
        """Fsynced files that are not on the mount as they were written."""
        return [
            name
            for name in self.synced
            if (self.target / name).read_bytes() != (self.source / name).read_bytes()
        ]


def differences(source: Path, target: Path) -> list[str]:
    """Files that differ between two folders, or exist in one only."""
    one, two = _files(source), _files(target)
    changed = [name for name in one.keys() & two.keys() if one[name] != two[name]]
    return sorted(changed + list(one.keys() ^ two.keys()))


def _files(folder: Path) -> dict[str, bytes]:
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found
