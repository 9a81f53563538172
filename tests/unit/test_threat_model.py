"""The threat model names tests, checks and evidence that exist.

Data flow: docs/threat-model.md -> names -> tests, `Checks`, `Kind`.
"""

import re

from parsec_fs.audit.checks import Checks
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.verdict import Kind
from tests.support.sources import ROOT

TEXT = (ROOT / "docs/threat-model.md").read_text()
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))


def rows() -> list[list[str]]:
    """Cells of all table rows that name a test."""
    lines = [line for line in TEXT.splitlines() if line.startswith("|") and "`test_" in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_named_test_exists() -> None:
    missing = [
        name
        for name in re.findall(r"`(test_\w+)`", TEXT)
        if not re.search(rf"^(?:async )?def {name}\(", TESTS, re.MULTILINE)
    ]
    assert missing == []
    assert len(rows()) >= 20


def test_every_check_left_out_has_its_attack() -> None:
    named = {row[6].strip("`") for row in rows() if len(row) == 8}
    assert all(callable(getattr(Checks, name)) for name in named)
    for row in rows():
        if len(row) == 8:
            left_out = re.findall(r"weak_scene\(\s*\"?(\w+)", TESTS)
            assert row[6].strip("`") in left_out, f"{row[0]}: no run without the check"


def test_every_check_of_the_auditor_is_attacked() -> None:
    own = {name for name in vars(Checks) if not name.startswith("_")}
    named = {row[6].strip("`") for row in rows() if len(row) == 8}
    assert own - named <= {"chain_time_grows"}


def test_every_type_and_state_is_described() -> None:
    for kind in Kind:
        assert f"| {kind.code} |" in TEXT
    for word in Word:
        assert f"| {word} |" in TEXT
