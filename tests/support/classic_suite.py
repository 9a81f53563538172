"""The classic pjdfstest, a folder of shell scripts that print TAP: its verdict, group by group.

Data flow: scripts of a tree built elsewhere, on a folder -> `parse` -> `Group`s -> a table.

The tree is github.com/pjd/pjdfstest, built by whoever runs this (autoreconf -ifs, configure, make);
nothing of it is kept here. A group is a folder of its `tests`. Used by scripts/posix-suites.
"""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SCRIPT_TIMEOUT_S = 300
LINE_MAX = 200
"""Characters kept of what a failed check said; some name a path of 4,095 bytes."""

AT_ONCE = 4
"""Groups at a time: the scripts mostly wait for the clock to move on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What one group came to: numbers of checks, and what each failed one said."""

    name: str
    passed: int
    failures: tuple[str, ...]

    @property
    def failed(self) -> int:
        """Checks that failed or never came."""
        return len(self.failures)


def parse(script: str, output: str) -> tuple[int, tuple[str, ...]]:
    """Checks that passed, and a line for each that did not, of one script's TAP output.

    What was planned and never came has failed; so has a script without a plan. A check that its
    authors marked as TODO counts as passed, as for prove(1).
    """
    plan = re.search(r"^1\.\.(\d+)", output, re.MULTILINE)
    if plan is None:
        return 0, (f"{script}: printed no plan",)
    missing = set(range(1, int(plan[1]) + 1))
    failures = []
    for line in output.splitlines():
        found = re.match(r"(not )?ok (\d+)(.*)", line)
        if found is None:
            continue
        missing.discard(int(found[2]))
        if found[1] and "# TODO" not in found[3]:
            failures.append(f"{script}: {line[:LINE_MAX]}")
    passed = int(plan[1]) - len(missing) - len(failures)
    failures += [f"{script}: check {number} never came" for number in sorted(missing)]
    return passed, tuple(failures)


def check_built(tree: Path) -> None:
    """Raises FileNotFoundError with the commands to type unless the tree is there and built."""
    if not (tree / "pjdfstest").is_file() or not (tree / "tests" / "misc.sh").is_file():
        raise FileNotFoundError(
            f"{tree} is no built tree of pjdfstest. Outside of this checkout:\n"
            "  git clone https://github.com/pjd/pjdfstest && cd pjdfstest\n"
            "  autoreconf -ifs && ./configure && make pjdfstest\n"
            "(Debian: autoconf automake make gcc)"
        )


def run_script(script: Path, folder: Path) -> tuple[int, tuple[str, ...]]:
    """One script in a folder of its own."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", script],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        timeout=SCRIPT_TIMEOUT_S,
    )
    return parse(f"{script.parent.name}/{script.name}", done.stdout)


def run_group(tests: Path, name: str, folder: Path) -> Group:
    """All scripts of a group, one after the other."""
    results = [
        run_script(script, folder / name / script.stem)
        for script in sorted((tests / name).glob("**/*.t"))
    ]
    failures = tuple(line for _, lines in results for line in lines)
    return Group(name=name, passed=sum(passed for passed, _ in results), failures=failures)


def run_classic(tree: Path, folder: Path) -> list[Group]:
    """The whole suite in a folder that every account can reach; a few groups at once."""
    check_built(tree)
    tests = tree.absolute() / "tests"
    names = sorted(path.name for path in tests.iterdir() if path.is_dir())
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda name: run_group(tests, name, folder), names))


def table(groups: list[Group]) -> str:
    """A line for each group and their sum, then every failed check."""
    total = Group(
        name="all",
        passed=sum(group.passed for group in groups),
        failures=tuple(line for group in groups for line in group.failures),
    )
    lines = [f"{one.name:16} {one.passed:5} passed {one.failed:4} failed" for one in groups]
    lines.append(f"{total.name:16} {total.passed:5} passed {total.failed:4} failed")
    return "\n".join(lines + [f"  FAILED {line}" for line in total.failures])
