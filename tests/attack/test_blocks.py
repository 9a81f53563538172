"""Block storage that lies: a block flipped, swapped, truncated, lost; a member may help.

Data flow: alice writes -> hostile server gives other bytes -> bob reads through the mount.

| attack                                  | state    | errno | exit | evidence | epochs | check   |
|-----------------------------------------|----------|-------|------|----------|--------|---------|
| a bit flipped, another block, truncated | verified | EIO   | 0    | none     | 0      | `block` |
| the same, resealed by a member          | verified | EIO   | 0    | none     | 0      | `block` |
| a block lost                            | verified | EIO   | 0    | none     | 0      | -       |

Storage signs nothing, so nobody is convicted (rule 30). The digest that the author signed is the
one check that stops a member who knows the block's key: without it the forged bytes are read. It is
not the only one that stops storage alone: then the block does not open.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from parsec_fs.protocol.ids import BlockId
from parsec_fs.protocol.manifests import BlockRef
from tests.support.insider import Insider
from tests.support.product import Machine, Product

SIZE = 60_000
LIES = ("flip", "swap", "truncate")
"""Each file has one block; `other` is the block that is swapped in."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Files that alice wrote, audited; bob, who has not read any."""

    product: Product
    alice: Machine
    bob: Machine
    contents: dict[str, bytes]
    refs: dict[str, BlockRef]
    insider: Insider

    def sealed(self, name: str) -> bytes:
        """The block of a file, as the server stores it."""
        id = self.refs[name].id.hex()
        folder = self.product.server_home / "blocks" / self.product.realm().hex()
        return (folder / id[:2] / id).read_bytes()

    def serve(self, name: str, data: bytes | None) -> None:
        """Give other bytes for the block of a file."""
        id: BlockId = self.refs[name].id
        self.product.tell(do="block", id=id.hex(), data=None if data is None else data.hex())

    def forge(self, name: str, plaintext: bytes) -> bytes:
        """The block of a file with another content, by a member who knows its key."""
        return self.insider.forge_block(self.refs[name], plaintext)


@pytest.fixture(scope="module")
def scene(hostile: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    alice = hostile.first_device("alice").mount()
    names = [f"{who}-{lie}" for who in ("honest", "weak") for lie in (*LIES, "other", "lost")]
    contents = {name: os.urandom(SIZE) for name in names}
    for name, content in contents.items():
        (alice.path / name).write_bytes(content)
    alice.wait("audited")
    bob = hostile.next_device(alice, "bob")
    insider = Insider(alice, tmp_path_factory.mktemp("insider") / "copy.db")
    refs = {name: insider.file(name).manifest.refs[0] for name in names}
    yield Scene(
        product=hostile, alice=alice, bob=bob, contents=contents, refs=refs, insider=insider
    )
    insider.close()


@pytest.fixture(scope="module")
def honest_bob(scene: Scene) -> Machine:
    return scene.bob.mount()


@pytest.fixture(scope="module")
def weak_bob(scene: Scene, honest_bob: Machine) -> Machine:
    """The same device, the digest of blocks left unchecked."""
    honest_bob.unmount()
    return scene.bob.mount(without="block")


def lie_about(scene: Scene, who: str, lie: str) -> tuple[bytes, bytes]:
    """Ciphertext that storage alone can serve, and forged plaintext that a member can seal."""
    name, other = f"{who}-{lie}", f"{who}-other"
    sealed, content = scene.sealed(name), scene.contents[name]
    if lie == "flip":
        return _flipped(sealed), _flipped(content)
    if lie == "swap":
        return scene.sealed(other), scene.contents[other]
    return sealed[:-1], content[:-1]


def _flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes((data[middle] ^ 1,)) + data[middle + 1 :]


def accuses_nobody(machine: Machine) -> None:
    """Verified, exit code 0, no evidence, and still writable."""
    assert machine.wait_word("verified", "pending") in ("verified", "pending")
    assert machine.run("verify", "docs")[0] == 0
    assert machine.evidence_files() == []
    assert machine.errno_of(lambda: (machine.path / "writable").write_bytes(b"")) == 0


def read_error(machine: Machine, name: str) -> int:
    """errno of reading a file."""
    return machine.errno_of(lambda: (machine.path / name).read_bytes())


@pytest.mark.parametrize("lie", LIES)
def test_a_false_block_is_an_error_and_never_data(
    scene: Scene, honest_bob: Machine, lie: str
) -> None:
    name = f"honest-{lie}"
    stored, forged = lie_about(scene, "honest", lie)
    for served in (stored, scene.forge(name, forged), b""):
        scene.serve(name, served)
        assert read_error(honest_bob, name) == errno.EIO
    accuses_nobody(honest_bob)
    scene.product.tell(do="honest")
    assert honest_bob.read(name) == scene.contents[name]


def test_a_lost_block_costs_its_own_bytes(scene: Scene, honest_bob: Machine) -> None:
    scene.serve("honest-lost", None)
    assert read_error(honest_bob, "honest-lost") == errno.EIO
    assert honest_bob.read("honest-other") == scene.contents["honest-other"]
    accuses_nobody(honest_bob)


@pytest.mark.parametrize("lie", LIES)
def test_without_the_check_forged_bytes_are_read(scene: Scene, weak_bob: Machine, lie: str) -> None:
    name = f"weak-{lie}"
    stored, forged = lie_about(scene, "weak", lie)
    scene.serve(name, stored)
    assert read_error(weak_bob, name) == errno.EIO  # nobody without the key gets further
    scene.serve(name, scene.forge(name, forged))
    found = weak_bob.read(name)
    assert found is not None
    assert found[: len(forged)] == forged
    assert found != scene.contents[name]
    accuses_nobody(weak_bob)
