"""A sampled stack is counted for the handler or the task that it belongs to.

Data flow: lines as py-spy writes them -> parts, shares, own code.
"""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
if str(SCRIPTS) not in sys.path:
    sys.path.append(str(SCRIPTS))

from profile_samples import STACK, own_code_us, parse, shares  # noqa: E402

CREATE = "thread (7);run (trio/_run.py);Operations.create (/x/parsec_fs/mount/operations.py) 6"
GROUPS = "thread (9);Worker.run (trio/_thread_cache.py);Journal.flush (/x/storage/journal.py) 2"
SEALING = "thread (8);Workers._work (w.py);Contents.seal_job (/x/storage/contents.py) 1"
KERNEL = "thread (7);run (trio/_run.py) 1"


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (CREATE, "handler: create"),
        (GROUPS, "journal: groups"),
        (SEALING, "thread: sealing"),
        (KERNEL, STACK),
    ],
)
def test_a_stack_belongs_to_what_asked_for_the_work(line: str, part: str) -> None:
    assert list(shares(parse([line]))) == [part]


def test_own_code_is_handlers_and_journal() -> None:
    found = shares(parse([CREATE, GROUPS, SEALING, KERNEL, "not a stack"]))
    assert found["handler: create"] == pytest.approx(0.6)
    assert own_code_us(found, 50.0) == pytest.approx(40.0)
