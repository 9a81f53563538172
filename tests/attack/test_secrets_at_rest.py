"""Nothing that people name or write is found outside the mount, in any byte of anybody's disk.

Data flow: planted secrets -> mount -> every file of server, chain and devices -> search.

Planted: names of files, folders and the workspace, targets of links, attributes, small and large
contents, content that is fsynced in an open file, overwritten, renamed, deleted. Searched: server
database and write-ahead log, blocks, chain data, journal, replica, cache, evidence, every log;
while everything runs and again after everything was killed. Encodings: raw, hex, base64 at each
alignment, UTF-16. A control run whose cipher does nothing must find every one of them.
"""

import base64
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.encodings import encodings
from tests.support.product import Machine, Product, product
from tests.support.requirements import require_fuse

LARGE = 3_000_000
UNSEALED = ("-m", "tests.support.unsealed")


class Plants:
    """One secret per place: 16 random bytes as text for names, 32 raw bytes for contents."""

    def __init__(self) -> None:
        self.secrets: dict[str, bytes] = {}

    def name(self, place: str) -> str:
        """For a name: must be text."""
        text = base64.b32encode(os.urandom(20)).decode()
        self.secrets[place] = text.encode()
        return text

    def content(self, place: str, size: int) -> bytes:
        """Content full of one secret, at changing alignments."""
        secret = self.secrets[place] = os.urandom(32)
        unit = secret + b"-" * 7
        return (unit * (size // len(unit) + 1))[:size]


def plant(machine: Machine, plants: Plants) -> None:
    """Use the mount in every way that stores something."""
    root = machine.path
    folder = root / plants.name("folder")
    folder.mkdir()
    (folder / plants.name("file")).write_bytes(plants.content("small content", 2_000))
    (folder / "large").write_bytes(plants.content("large content", LARGE))
    (folder / "link").symlink_to(plants.name("link target"))
    os.setxattr(folder, "user.note", plants.content("attribute", 200))
    os.setxattr(folder, "user." + plants.name("attribute name"), b"x")
    old = folder / plants.name("name before renaming")
    old.write_bytes(plants.content("overwritten content", 20_000))
    machine.wait("logged")
    old.write_bytes(b"new")
    old.rename(folder / plants.name("name after renaming"))
    deleted = folder / plants.name("deleted name")
    deleted.write_bytes(plants.content("deleted content", 5_000))
    machine.wait("logged")
    deleted.unlink()
    descriptor = os.open(folder / "open", os.O_CREAT | os.O_WRONLY)
    os.write(descriptor, plants.content("synced content", 300_000))
    os.fsync(descriptor)
    os.close(descriptor)


def findings(server: Product, plants: Plants) -> dict[str, set[str]]:
    """By place: files in which its secret is found."""
    found: dict[str, set[str]] = {place: set() for place in plants.secrets}
    patterns = {place: set(encodings(one)) for place, one in plants.secrets.items()}
    for path in files(server):
        data = path.read_bytes()
        for place, shapes in patterns.items():
            if any(shape in data for shape in shapes):
                found[place].add(str(path.relative_to(server.root)))
    return found


def files(server: Product) -> Iterator[Path]:
    """Everything on disk but the mounts, and the sockets."""
    mounts = {machine.path for machine in server.machines}
    for folder, names, entries in os.walk(server.root):
        names[:] = [name for name in names if Path(folder) / name not in mounts]
        for entry in entries:
            path = Path(folder) / entry
            if path.is_file():
                yield path


@contextmanager
def planted(module: tuple[str, ...] = ()) -> Iterator[tuple[Product, Plants]]:
    """A product whose workspace is full of secrets; a second device has read all of them."""
    require_fuse()
    plants = Plants()
    with product() as server:
        alice = server.first_device("alice", module=module).mount()
        alice.cli("workspace", "create", plants.name("workspace"))
        plant(alice, plants)
        alice.wait("audited")
        bob = server.next_device(alice, "bob", module=module).mount()
        for folder, _, names in os.walk(bob.path):
            for name in set(names) - {"link"}:
                (Path(folder) / name).read_bytes()
        (bob.path / plants.name("bob's name")).write_bytes(plants.content("bob's content", 40_000))
        bob.wait("logged")
        yield server, plants


def test_no_secret_is_found_anywhere() -> None:
    with planted() as (server, plants):
        nothing = {place: set[str]() for place in plants.secrets}
        assert findings(server, plants) == nothing
        server.programs.kill_all()
        assert findings(server, plants) == nothing


def test_control_without_sealing_every_secret_is_found() -> None:
    with planted(UNSEALED) as (server, plants):
        found = findings(server, plants)
        assert [place for place, where in found.items() if not where] == []
        everywhere = set[str]().union(*found.values())
        for part in ("server/server.sqlite", "server/blocks/", "realm.db", "/journal/", "/cache/"):
            assert any(part in path for path in everywhere), (part, sorted(everywhere))


@pytest.mark.parametrize("offset", range(3))
def test_the_search_finds_what_is_encoded(offset: int) -> None:
    secret = secrets.token_bytes(16)
    shapes = set(encodings(secret))
    text = base64.b64encode(bytes(offset) + secret + b"tail")
    assert any(shape in text for shape in shapes)
    assert any(shape in ("x" + secret.decode("latin-1")).encode("utf-16") for shape in shapes)
    assert any(shape in b"--" + secret.hex().encode() for shape in shapes)
