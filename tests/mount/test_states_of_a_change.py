"""The states of a change, one after the other: none is said before its work is done.

Data flow: a daemon whose auditor a test can hold up -> `wait`, xattr, status -> the word.

With the auditor off nothing gets further than logged, although the checkpoint is there: another
device audits it. With the comparison held up the change is anchored and not audited.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.product import Json, Machine, Product, poll, product
from tests.support.requirements import require_fuse

TIMEOUT = 21
SHORT_S = 2.0
EPOCH_MS = 2_000
"""Longer than it takes to log a change: heads may promise one epoch more than is audited here."""


@pytest.fixture(scope="module")
def server() -> Iterator[Product]:
    require_fuse()
    with product(epoch_ms=EPOCH_MS) as running:
        yield running


@pytest.fixture(scope="module")
def alice(server: Product) -> Machine:
    """A device that a test can hold up, and that has audited an epoch."""
    alice = server.first_device("alice").mount(without="switched")
    alice.wait_word("verified")
    return alice


@pytest.fixture(scope="module")
def bob(server: Product, alice: Machine) -> Machine:
    """A device that audits all the time."""
    return server.next_device(alice, "bob").mount()


@pytest.fixture
def auditor_off(alice: Machine) -> Iterator[Path]:
    """While this file is there the auditor is switched off."""
    yield from switch(alice, "auditor-off")


@pytest.fixture
def comparison_off(alice: Machine) -> Iterator[Path]:
    """While this file is there the audit ends with the chain."""
    yield from switch(alice, "comparison-off")


def switch(machine: Machine, name: str) -> Iterator[Path]:
    """Thrown right after an epoch was audited, so that the next head may be relied upon."""
    seen = machine.epochs()
    machine.live_on(seen + 1)
    file = machine.home.root / name
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def word_of(machine: Machine, name: str) -> str:
    return os.getxattr(machine.path / name, "user.parsec.state").decode()


def wait_word_of(machine: Machine, name: str, word: str) -> None:
    poll(
        lambda: machine.read(name) is not None and word_of(machine, name) == word,
        20,
        lambda: (machine.name, name, word, machine.status()),
    )


def waits(machine: Machine, state: str, timeout_s: float = SHORT_S) -> tuple[int, Json]:
    """Exit code and document of `parsec-fs wait`."""
    return machine.run("wait", f"--{state}", "--timeout", str(timeout_s))


def listed(machine: Machine) -> dict[str, str]:
    """`parsec-fs status --files`: the word of each file that is not audited."""
    (document,) = machine.cli("status", "--files")["workspaces"]
    return {one["path"]: one["state"] for one in document["files"]}


def test_nothing_is_audited_while_the_auditor_is_off(
    alice: Machine, bob: Machine, auditor_off: Path
) -> None:
    (alice.path / "unaudited").write_bytes(b"x")
    alice.wait("logged")
    wait_word_of(bob, "unaudited", "audited")  # the checkpoint is there for everybody

    for state in ("audited", "anchored"):
        code, document = waits(alice, state)
        assert code == TIMEOUT, document
        assert document["exit"] == TIMEOUT
        assert f"not {state} after {SHORT_S} s" in document["error"]
        assert f"records are logged but not {state}" in document["error"]
    assert word_of(alice, "unaudited") == "logged"
    assert listed(alice)["unaudited"] == "logged"

    auditor_off.unlink()
    alice.wait("audited")
    assert word_of(alice, "unaudited") == "audited"
    assert "unaudited" not in listed(alice)


def test_anchored_is_said_before_the_comparison_and_audited_after_it(
    alice: Machine, bob: Machine, comparison_off: Path
) -> None:
    (alice.path / "anchored").write_bytes(b"x")
    alice.wait("anchored")
    assert word_of(alice, "anchored") == "anchored"
    assert listed(alice)["anchored"] == "anchored"
    changes = alice.status()["changes"]
    assert changes["audited"] < changes["anchored"] <= changes["logged"]
    text = (alice.path / ".status").read_text()
    assert f"{changes['audited']} audited" in text

    code, document = waits(alice, "audited")
    assert code == TIMEOUT
    assert "records are logged but not audited" in document["error"]

    comparison_off.unlink()
    alice.wait("audited")
    assert word_of(alice, "anchored") == "audited"
    changes = alice.status()["changes"]
    assert changes["audited"] == changes["anchored"]
