"""The threat model names tests, checks and evidence that exist.

Data flow: docs/threat-model.md -> names -> tests, `Checks`, `Kind`.
"""

import re

from parsec_fs.audit.checks import Checks
from parsec_fs.audit.client_state import Word
from parsec_fs.audit.verdict import Kind
from tests.support.left_out import CHECK_CLASSES, Source, sources
from tests.support.sources import ROOT
from tests.unit.test_checks_stay import CLASSES

TEXT = (ROOT / "docs/threat-model.md").read_text()
IDS = [1, 2, 3, 4, 5, *range(11, 21), 37, 46, 47, 49, 50]
"""Attacks on people and keys that have to be there."""
NO_CHECKS = {
    "A05": {"open_mail"},
    "A12": {"CountingRandom"},
    "A14": {"AESGCM", "ByIds"},
    "A16": {"ByIds"},
    "A49": {"UNSEALED", "open_identity"},
    "A50": {"copytree"},
}
"""Where what stops an attack is no check but how something is made: what a test uses to make it
otherwise."""
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


def attacks() -> dict[str, list[str]]:
    """Rows of the table of attacks on people and keys by id: attack, end, without, tests."""
    lines = re.findall(r"^\| A\d\d \|.*$", TEXT, re.MULTILINE)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_every_attack_on_people_succeeds_without_its_check() -> None:
    assert list(attacks()) == [f"A{number:02}" for number in IDS]
    for id, (_, _, without, tests) in attacks().items():
        assert re.findall(r"`(test_\w+)`", tests), f"{id}: no test"
        named = re.findall(r"`(test_\w+)`", without)
        assert named, f"{id}: no run without the check"
        others = frozenset(NO_CHECKS.get(id, ()))
        for name in named:
            assert sources()[name].runs_without(name, others), f"{id}: {name} leaves nothing out"


def test_a_run_with_every_check_is_told_from_one_without() -> None:
    source = Source(
        "class Weak(ReplicaChecks): pass\n"
        "BOTH = [REPLICA_CHECKS, Weak()]\n"
        "def world(weak_one): return weak_one\n"
        "def test_one(): world(REPLICA_CHECKS)\n"
        "@parametrize('checks', BOTH)\n"
        "def test_two(checks): world(checks)\n"
        "def test_three(machine): machine.mount(without='block')\n"
    )
    found = [source.runs_without(f"test_{name}") for name in ("one", "two", "three")]
    assert found == [False, True, True]
    assert CLASSES.keys() - {"Auditor"} == CHECK_CLASSES


def test_every_check_of_the_auditor_is_attacked() -> None:
    own = {name for name in vars(Checks) if not name.startswith("_")}
    named = {row[6].strip("`") for row in rows() if len(row) == 8}
    assert own - named <= {"chain_time_grows"}


def test_every_type_and_state_is_described() -> None:
    for kind in Kind:
        assert f"| {kind.code} |" in TEXT
    for word in Word:
        assert f"| {word} |" in TEXT
