"""The two suites that others wrote: pjdfstest (POSIX names and attributes) and fsx (content).

Data flow: programs in .tools/bin (scripts/install-posix-suites) on a folder -> `Verdict`, or the
    output of fsx if it found a difference.

Used by tests/mount/test_posix_suites.py and scripts/posix-suites.
"""

import grp
import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.requirements import require_program

REMEDY = "scripts/install-posix-suites"
SUITE_TIMEOUT_S = 120

# Files are truncated, extended, mapped, written and read through every call that fsx knows and this
# kernel lets FUSE carry. Holes are not punched: pyfuse3 has no fallocate.
_WEIGHTS = """
[weights]
close_open = 1
invalidate = 1
mapread = 3
mapwrite = 3
read = 5
write = 5
truncate = 2
fsync = {fsync}
fdatasync = {fsync}
posix_fallocate = 1
sendfile = 2
posix_fadvise = 1
copy_file_range = 2
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What fsx does: files of up to `length` bytes, operations of up to `longest`."""

    name: str
    length: int
    longest: int
    fsync: float = 0.02

    def configuration(self) -> str:
        """fsx.toml."""
        sizes = f"flen = {self.length}\n[opsize]\nmin = 1\nmax = {self.longest}\n"
        return sizes + _WEIGHTS.format(fsync=self.fsync)


PROFILES = (
    # Around 16 KiB content moves between the manifest and blocks.
    Profile(name="small", length=40_000, longest=12_000),
    Profile(name="blocks", length=4 << 20, longest=128 << 10),
    Profile(name="sparse", length=48 << 20, longest=24 << 10),
    Profile(name="synced", length=3 << 20, longest=64 << 10, fsync=0.3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What pjdfstest said: names of tests, with reasons where they failed or were skipped."""

    passed: tuple[str, ...]
    failed: dict[str, str]
    skipped: dict[str, str]

    def __str__(self) -> str:
        counts = (
            f"{len(self.passed)} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"
        )
        lines = [counts]
        lines += [f"  FAILED {name}: {why}" for name, why in sorted(self.failed.items())]
        reasons: dict[str, list[str]] = {}
        for name, why in sorted(self.skipped.items()):
            reasons.setdefault(why, []).append(name)
        lines += [f"  skipped, {why}: {', '.join(names)}" for why, names in reasons.items()]
        return "\n".join(lines)


def accounts() -> list[tuple[str, str]]:
    """Two unprivileged accounts that every machine has, each with the group it belongs to."""
    groups = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    found = [
        (user.pw_name, groups[user.pw_gid])
        for user in pwd.getpwall()
        if user.pw_uid != 0 and user.pw_gid != 0 and user.pw_gid in groups
    ]
    distinct = {group: (user, group) for user, group in reversed(found)}
    chosen = sorted(distinct.values(), key=lambda entry: entry[0] not in ("nobody", "daemon"))
    assert len(chosen) >= 2, "this machine has fewer than two unprivileged accounts"
    return chosen[:2]


def configuration() -> str:
    """pjdfstest.toml: every feature that Linux has."""
    features = ("posix_fallocate", "rename_ctime", "stat_st_birthtime", "utime_now", "utimensat")
    entries = ", ".join(f'["{user}", "{group}"]' for user, group in accounts())
    return (
        "[features]\n"
        + "".join(f"{feature} = {{}}\n" for feature in features)
        + "[settings]\nnaptime = 0.01\nallow_remount = false\n"
        + f"[dummy_auth]\nentries = [{entries}]\n"
    )


def start_pjdfstest(folder: Path, work: Path) -> "subprocess.Popen[str]":
    """The suite, started in a folder. `work` keeps its files; if it lies on another file system,
    the tests that need two are run."""
    program = require_program("pjdfstest", REMEDY)
    settings = work / "pjdfstest.toml"
    settings.write_text(configuration())
    another = ["-s", str(work)] if work.stat().st_dev != folder.stat().st_dev else []
    return subprocess.Popen(
        [program, "-c", settings, "-p", folder, *another],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "RUST_BACKTRACE": "0"},
    )


def verdict_of(suite: "subprocess.Popen[str]") -> Verdict:
    """What a started suite says, once it has ended."""
    try:
        output, _ = suite.communicate(timeout=SUITE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        suite.kill()
        suite.wait()
        raise
    return parse(output)


def parse(output: str) -> Verdict:
    """The output of pjdfstest. AssertionError if its own summary says something else."""
    passed: list[str] = []
    others: dict[str, dict[str, str]] = {"FAILED": {}, "skipped": {}}
    for name, result, reason in _results(output):
        if result == "ok":
            passed.append(name)
        else:
            others[result][name] = reason
    verdict = Verdict(passed=tuple(passed), failed=others["FAILED"], skipped=others["skipped"])
    summary = re.search(r"Summary: (\d+) failed, (\d+) skipped, (\d+) passed", output)
    assert summary is not None, f"pjdfstest did not end as it should: {output[-2000:]}"
    counted = (len(verdict.failed), len(verdict.skipped), len(verdict.passed))
    assert counted == tuple(map(int, summary.groups())), output
    return verdict


def _results(output: str) -> Iterator[tuple[str, str, str]]:
    """(name, result, reason) of every test."""
    lines = output.splitlines()
    for number, line in enumerate(lines):
        found = re.fullmatch(r"(\w+(?:::\w+)+) +(ok|skipped|FAILED)", line.strip())
        if found:
            reason = lines[number + 1].strip() if number + 1 < len(lines) else ""
            yield found[1], found[2], reason


def start_fsx(
    path: Path, profile: Profile, *, seed: int, operations: int, work: Path
) -> "subprocess.Popen[str]":
    """fsx on one file, started. It leaves the file; `work` takes what it keeps of a failure."""
    program = require_program("fsx", REMEDY)
    settings = work / f"fsx-{profile.name}.toml"
    settings.write_text(profile.configuration())
    return subprocess.Popen(
        [
            *(program, "-q", "-f", settings, "-N", str(operations), "-S", str(seed)),
            *("-P", work, path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def check_fsx(fsx: "subprocess.Popen[str]", what: str) -> None:
    """AssertionError with all that fsx said, unless it ended well."""
    output, _ = fsx.communicate(timeout=SUITE_TIMEOUT_S)
    assert fsx.returncode == 0, f"fsx, {what}: {output}"
    assert "All operations completed A-OK!" in output, f"fsx, {what}: {output}"
