"""What a sampled stack of the daemon was doing: which handler, or which background work.

Data flow: py-spy (raw stacks with counts) -> `parse` -> `part_of`, `shares` -> profile_mount.

Pure. A stack belongs to the first rule that one of its frames meets, outermost frame first, so the
work that a task asks of others counts for the task.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

HANDLERS: Final = "mount/operations.py"
STACK: Final = "pyfuse3, trio, kernel"

BUDGET_US: Final = {"create": 38, "write": 32, "rename": 16, "unlink": 14, "chmod": 10}
"""CPU for our own code per change (decisions.md 7: 1/target - 1/floor), journal included."""

_RULES: Final = (
    ("run", "workspace/groups.py", "journal: groups"),
    ("flush", "storage/journal.py", "journal: groups"),
    ("_sync_now_and_then", "filesystem.py", "journal: syncing"),
    ("_sweep_open_files", "filesystem.py", "journal: open files"),
    ("_push_loop", "sync.py", "upload: push"),
    ("_pull_loop", "sync.py", "upload: pull"),
    ("_put", "upload.py", "upload: blocks"),
    ("_land", "seal_queue.py", "contents: sealed"),
    ("seal_job", "contents.py", "thread: sealing"),
    ("_open_job", "contents.py", "thread: opening"),
    ("sync", "block_files.py", "thread: syncing blocks"),
    ("sync", "journal.py", "thread: syncing the journal"),
    ("digest_job", "contents.py", "thread: digests for the upload"),
    ("read_checked", "contents.py", "thread: reading for the upload"),
    ("run", "auditor.py", "audit"),
    ("wait_readable", "mount/loop.py", "loop: polling"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One function of a stack, and the end of its file's path."""

    function: str
    file: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One stack, outermost frame first, and how often it was seen."""

    frames: tuple[Frame, ...]
    count: int


def parse(lines: Iterable[str]) -> Iterator[Sample]:
    """py-spy's raw format: `thread;function (file);function (file) count`."""
    for line in lines:
        stack, _, count = line.strip().rpartition(" ")
        if stack and count.isdigit():
            frames = tuple(_frame(part) for part in stack.split(";") if part.endswith(")"))
            yield Sample(frames, int(count))


def _frame(part: str) -> Frame:
    function, _, place = part.rpartition(" (")
    return Frame(function.rpartition(".")[2], place.rstrip(")").partition(":")[0])


def part_of(sample: Sample) -> str:
    """What the stack was doing, in the words of the report."""
    for frame in sample.frames:
        if frame.file.endswith(HANDLERS):
            return f"handler: {frame.function.lstrip('_')}"
        for function, file, part in _RULES:
            if frame.function == function and frame.file.endswith(file):
                return part
    return STACK


def shares(samples: Iterable[Sample]) -> dict[str, float]:
    """Part of all samples by what was done, the largest first."""
    counts: Counter[str] = Counter()
    for sample in samples:
        counts[part_of(sample)] += sample.count
    total = counts.total()
    return {part: count / total for part, count in counts.most_common()}


def own_code_us(shared: dict[str, float], cpu_us: float) -> float:
    """CPU per operation spent in handlers and journal, which the budget is for."""
    own = [share for part, share in shared.items() if part.startswith(("handler:", "journal:"))]
    return sum(own) * cpu_us
