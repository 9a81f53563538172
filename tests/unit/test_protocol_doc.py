"""docs/protocol.md says what the code does: tables of records, tags, limits, commands, examples.

Data flow: the document -> its tables and hex == classes, tags and vectors.
"""

import re

import pytest

from parsec_fs.protocol import commands, limits
from tests.support import vectors
from tests.support.doc_examples import file_sizes
from tests.support.record_tables import fields_of, record_classes
from tests.support.sources import ROOT, modules

TEXT = (ROOT / "docs/protocol.md").read_text()
EXAMPLE = re.compile(r"^```vector (\w+) (\S+)\n([0-9a-f\n]+)```$", re.MULTILINE)
HEADED = re.compile(
    r"^#### (\w+)\n\n\| Field \| Type \| Meaning \|\n\| .*\n((?:\|.*\n)+)", re.MULTILINE
)
ROW = re.compile(r"^\| `(\w+)` \| ([^|]+?) \|", re.MULTILINE)
COMPACT = re.compile(r"^\| `(\w+)` \| (none|`\w+`: [^|]+) \|$", re.MULTILINE)


def documented() -> dict[str, list[tuple[str, str]]]:
    """Record -> fields, from both kinds of tables."""
    found = {name: ROW.findall(rows) for name, rows in HEADED.findall(TEXT)}
    for name, fields in COMPACT.findall(TEXT):
        pairs = [one.strip() for one in fields.split(";") if one != "none"]
        found[name] = [(pair.split("`")[1], pair.split("`: ")[1]) for pair in pairs]
    return found


def test_every_record_is_documented_field_by_field() -> None:
    tables = documented()
    classes = {cls.__name__ for cls in record_classes()}
    assert set(tables) == classes
    for cls in record_classes():
        if cls.__name__ != "Commit":  # ours and the chain's have one name and two tables
            assert tables[cls.__name__] == fields_of(cls), cls.__name__


def test_both_records_named_commit_are_documented() -> None:
    ours, theirs = (fields_of(cls) for cls in record_classes() if cls.__name__ == "Commit")
    (headed,) = (ROW.findall(rows) for name, rows in HEADED.findall(TEXT) if name == "Commit")
    assert headed == ours
    assert documented()["Commit"] == theirs


@pytest.mark.parametrize(("file", "path", "shown"), EXAMPLE.findall(TEXT))
def test_example_is_the_vector(file: str, path: str, shown: str) -> None:
    value = vectors.read(file)
    for step in re.findall(r"\w+", path):
        value = value[int(step)] if step.isdigit() else value[step]  # type: ignore[index]
    assert shown.replace("\n", "") == value


def test_there_are_examples() -> None:
    assert len(EXAMPLE.findall(TEXT)) >= 15


def test_every_shared_tag_is_documented() -> None:
    """Tags of the protocol package are all in section 4, and nothing else is."""
    section = TEXT.split("## 4. Hashes")[1].split("## 5.")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    shown = {one for row in rows for one in re.findall(r"`([\w-]+)`", row)}
    used: set[str] = set()
    for name, text in modules().items():
        if name.startswith("parsec_fs.protocol."):
            used |= set(re.findall(r'\btag\("([\w-]+)"\)', text))
    keyed = {"page-of-name", "page-id"}
    assert shown == used | keyed


def test_outcomes_are_documented() -> None:
    section = TEXT.split("## 10. Commands")[1].split("## 11.")[0]
    for outcome in commands.Outcome:
        assert f"{int(outcome)} {outcome.name.lower().replace('_', ' ')}" in " ".join(
            section.split()
        )


def test_commands_are_those_of_the_server() -> None:
    section = TEXT.split("## 10. Commands")[1].split("## 11.")[0]
    shown = set(re.findall(r"`(\w+/\w+)`", section))
    routed = {
        path
        for name, text in modules().items()
        if name.startswith("server.http")
        for path in re.findall(r'"/v1/(\w+/\w+)"', text)
    }
    assert shown == routed


def test_limits_are_documented() -> None:
    section = TEXT.split("## 11. Sizes")[1].split("## 12.")[0]
    for shown, value in {
        "256 KiB": limits.ENTRY_MAX_SIZE,
        "16 MiB": limits.BATCH_MAX_SIZE,
        "1 MiB": limits.MANIFEST_MAX_SIZE,
        "1 MiB; all": limits.BLOCK_SIZE,
        "16 KiB": limits.INLINE_MAX_SIZE,
        "64 KiB; 128 KiB": limits.XATTR_VALUE_MAX_SIZE,
    }.items():
        number, unit = shown.split(";")[0].split(" ")
        assert int(number) * {"KiB": 2**10, "MiB": 2**20}[unit] == value
        assert f"| {shown}" in section
    for number in (
        limits.PROOF_MAX_HASHES,
        limits.REFS_PER_NODE,
        limits.COMMIT_MAX_OBJECTS,
        limits.NAME_MAX_SIZE,
        limits.SYMLINK_MAX_SIZE,
    ):
        assert f"| {number:,} " in section or f"| {number:,} bytes" in section


def test_file_sizes_are_true() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) bytes \| ([\d,]+) \| ([\d,]+) \| (?:none|(\d+) of ([\d,]+) in all) \|$",
        TEXT,
        re.MULTILINE,
    )
    assert len(rows) == 7
    for row in rows:
        size, *shown = (int((one or "0").replace(",", "")) for one in row)
        assert file_sizes(size) == tuple(shown)
