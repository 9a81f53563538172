"""A manifest is replaced by an older version of itself, as it was, or resealed by a member.

Data flow: alice writes twice -> hostile server answers with the first manifest -> victims pull.

| attack                               | state   | errno | exit | evidence | epochs | check     |
|--------------------------------------|---------|-------|------|----------|--------|-----------|
| an older payload for the newest      | suspect | 0     | 1    | none     | 0      | `payload` |
| the same, resealed as the newest one | suspect | 0     | 1    | none     | 0      | `payload` |

Payloads travel in unsigned answers, so nobody is convicted; what was verified before stays
readable, and the state clears when the server answers truthfully. The payload hash that the author
signed is the one check that stops a member who holds the realm key. It is not the only one that
stops the server alone: a manifest opens at its own version only.
"""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.insider import Insider
from tests.support.product import Machine, Product

OLD, NEW = b"price: 100", b"price: 250"
NAMES = ("as-it-was", "resealed")


@pytest.fixture(scope="module")
def lies(
    hostile: Product, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Callable[[], None]]]:
    """By file name: starts the lie about it. Bob and carol have seen the old versions only."""
    alice = hostile.first_device("alice").mount()
    for name in NAMES:
        (alice.path / name).write_bytes(OLD)
    alice.wait("audited")
    for name in ("bob", "carol"):
        hostile.victim(alice, name).unmount()
    folder = tmp_path_factory.mktemp("insider")
    before = Insider(alice, folder / "before.db")
    for name in NAMES:
        (alice.path / name).write_bytes(NEW)
    alice.wait("audited")
    now = Insider(alice, folder / "now.db")
    yield {
        "as-it-was": lambda: serve(hostile, now, "as-it-was", before.file("as-it-was").sealed),
        "resealed": lambda: serve(hostile, now, "resealed", resealed(before, now)),
    }
    before.close()
    now.close()
    alice.in_peace()


def resealed(before: Insider, now: Insider) -> bytes:
    """The old manifest at the place and version of the new one, by a member."""
    return now.forge_manifest(now.file("resealed"), before.file("resealed").manifest)


def serve(product: Product, now: Insider, name: str, sealed: bytes) -> None:
    """Answer with other bytes for the newest payload of a file."""
    product.tell(do="payload", hash=now.file(name).payload.hex(), data=sealed.hex())


def device(product: Product, name: str) -> Machine:
    """An enrolled device."""
    return next(one for one in product.machines if one.name == name)


@pytest.mark.parametrize("name", NAMES)
def test_an_older_manifest_is_not_taken(
    hostile: Product, lies: dict[str, Callable[[], None]], name: str
) -> None:
    lies[name]()
    bob = device(hostile, "bob").mount()
    bob.only_suspect()
    assert [bob.read(one) for one in NAMES] == [OLD, OLD]
    bob.unmount()


def test_the_truth_clears_the_suspicion(
    hostile: Product, lies: dict[str, Callable[[], None]]
) -> None:
    lies["resealed"]()
    bob = device(hostile, "bob").mount()
    bob.only_suspect()
    hostile.tell(do="honest")
    for name in NAMES:
        bob.wait_file(name, NEW)
    bob.wait("audited")
    bob.in_peace()


def test_without_the_check_the_past_is_read_as_the_newest_version(
    hostile: Product, lies: dict[str, Callable[[], None]]
) -> None:
    for lie in lies.values():
        lie()
    carol = device(hostile, "carol").mount(without="payload")
    carol.wait("audited")
    carol.wait_word("verified")
    assert version(carol.path / "resealed") == 2
    assert carol.read("resealed") == OLD
    assert carol.errno_of(lambda: (carol.path / "as-it-was").read_bytes()) == errno.EIO
    carol.in_peace()


def version(path: Path) -> int:
    """Of a file, as the mount shows it."""
    return int(os.getxattr(path, "user.parsec.version"))
