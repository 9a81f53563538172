"""A contributor gives files names that lead out of their folder, or that mislead (A50).

Data flow: page made by hand -> sealed and signed by the member's own device -> the others' devices.

The page is signed, sealed and lawful in the log: the server cannot see names. Whoever opens it
drops the page as damage, and everything else goes on; without the check the names are shown.

| name                               | on the mount                       | for people         |
|------------------------------------|------------------------------------|--------------------|
| `..`, `.`, with `/` or NUL, empty  | damage of that page alone          | -                  |
| longer than 255 bytes              | the same                           | -                  |
| one name for two files             | the same                           | -                  |
| control characters, overrides      | as it is: POSIX allows it          | escaped            |
| alike but for case or Unicode form | two files                          | as they are        |
| a link whose target leads out      | as it is, followed by nobody here  | exported as a link |
"""

import errno
import os
import shutil
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from parsec_fs.cli.export import copy_out
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.codec import I64, U8, Size, decode
from parsec_fs.protocol.errors import DataError, LocalError
from parsec_fs.protocol.ids import ObjectId, RealmId
from parsec_fs.protocol.limits import MANIFEST_MAX_SIZE
from parsec_fs.protocol.manifests import (
    FILE,
    PAGE,
    Child,
    Manifest,
    PageManifest,
    decode_manifest,
    encode_manifest,
    page_id,
)
from parsec_fs.workspace import names
from parsec_fs.workspace.nodes import FolderNode, SymlinkNode
from parsec_fs.workspace.opener import Opener
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from tests.support.devices import RawDevice
from tests.support.laptops import Laptop, in_step, pair
from tests.support.server import InProcess, in_process

LONG = b"n" * 4096
HOSTILE: list[list[bytes]] = [
    [b".."],
    [b"."],
    [b"../../etc/passwd"],
    [b"nul\0"],
    [b""],
    [LONG],
    [b"n" * 256],
    [b"twin", b"twin"],
]
ODD = [
    "\x1b[2Jcleared",
    "line\nbreak",
    "\u202etxt.exe",
    "README",
    "Readme",
    unicodedata.normalize("NFC", "caf\u00e9"),
    unicodedata.normalize("NFD", "caf\u00e9"),
]
TARGETS = [b"/etc/passwd", b"../../../../../../etc/passwd"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyChild:
    """A child with whatever name."""

    name: Annotated[bytes, Size(0, 2**16)]
    id: ObjectId
    kind: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyPage:
    """A page with children in whatever order, however often."""

    folder: ObjectId
    mtime_ns: I64
    ctime_ns: I64
    children: tuple[AnyChild, ...]


class AnyName(ReplicaChecks):
    """The check left out."""

    def manifest(self, unverified: bytes) -> Manifest:
        """Whatever a page holds."""
        if unverified[0] != PAGE:
            return decode_manifest(unverified)
        page = decode(AnyPage, unverified[1:], max_size=MANIFEST_MAX_SIZE)
        children = tuple(Child(name=one.name, id=one.id, kind=one.kind) for one in page.children)
        return PageManifest(
            folder=page.folder, mtime_ns=page.mtime_ns, ctime_ns=page.ctime_ns, children=children
        )


def page_of_names(folder: ObjectId, given: list[bytes], files: list[ObjectId]) -> bytes:
    """Each name stands for the next of the files."""
    pairs = zip(given, files, strict=False)
    children = tuple(Child(name=name, id=id, kind=FILE) for name, id in pairs)
    page = PageManifest(folder=folder, mtime_ns=0, ctime_ns=0, children=children)
    return encode_manifest(page)


async def plant(attacker: Laptop, server: InProcess) -> None:
    """As a program would that asks nobody: the first page of each folder, by hand."""
    secrets, anchor = attacker.author.secrets, attacker.identity.anchor
    realm = RealmId(attacker.workspace.replica.log)
    opener = Opener(attacker.workspace.keys, realm, secrets, random=os.urandom)
    files = [attacker.node(path).id for path in ("kept", "other")]
    async with server.http() as http:
        device = RawDevice(http, anchor, secrets)
        await device.pull(realm)
        for number, given in enumerate(HOSTILE):
            folder = attacker.node(f"folder {number}")
            assert isinstance(folder, FolderNode)
            id = page_id(folder.page_key, folder.page_bits, 0)
            sealed = opener.seal(page_of_names(folder.id, given, files), id, 1)
            record = device.record(realm, id, payload=sealed)
            report = await device.send(realm, device.sign(realm, record, payloads=(sealed,)))
            assert [one.refusal for one in report.fates] == [None]
            await device.pull(realm)


async def attacked(one: Laptop, two: Laptop, server: InProcess) -> None:
    """A folder for each name; both devices have them empty, and then one hears of the names."""
    for number in range(len(HOSTILE)):
        two.mkdir(f"folder {number}")
    for name in ("kept", "other"):
        two.make(name, name.encode())
    await in_step(one, two)
    await plant(two, server)
    await one.pull()
    assert await one.read("kept") == b"kept"


def shown(device: Laptop, number: int) -> list[bytes]:
    """Names in one of the folders."""
    folder, fs = device.node(f"folder {number}"), device.filesystem
    assert isinstance(folder, FolderNode)
    return list(fs.call(fs.tree.children, folder))


@pytest.mark.expects_log("not a valid file name|must strictly increase|bytes")
async def test_no_name_leads_out_of_its_folder(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        await attacked(one, two, server)
        assert [shown(one, number) for number in range(len(HOSTILE))] == [[] for _ in HOSTILE]
        one.make("folder 0/mine", b"")
        assert shown(one, 0) == [b"mine"]


async def test_without_the_check_it_does(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        one.checks = AnyName()
        await one.restart()
        await attacked(one, two, server)
        assert [shown(one, number) for number in range(len(HOSTILE))] == [
            sorted(set(given)) for given in HOSTILE
        ]


@pytest.mark.parametrize("given", HOSTILE, ids=lambda given: repr(given)[:20])
def test_each_name_is_refused_by_itself(given: list[bytes]) -> None:
    """Two files of one name: which one is shown would be for each device to tell, and a link and a
    folder of one name would let an export write through the link."""
    page = page_of_names(ObjectId(bytes(16)), given, [ObjectId(bytes([n]) * 16) for n in (1, 2)])
    with pytest.raises(DataError):
        REPLICA_CHECKS.manifest(page)
    believed = AnyName().manifest(page)
    assert isinstance(believed, PageManifest)
    assert [one.name for one in believed.children] == given


async def test_odd_names_are_files_of_their_own(tmp_path: Path) -> None:
    """POSIX allows them, so they are kept byte for byte; what a person reads of them is escaped."""
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        two.mkdir("odd")
        for name in ODD:
            two.make(f"odd/{name}", name.encode())
        await in_step(one, two)
        expected = {f"odd/{name}": name.encode() for name in ODD}
        assert await one.walk("odd") == expected
        one.write("odd/README", b"changed")
        await in_step(one, two)
        assert await two.walk("odd") == expected | {"odd/README": b"changed"}
    for name in ODD:
        assert plain_name(name.encode()).isprintable()
        assert name.isprintable() is (plain_name(name.encode()) == name)


async def test_a_link_that_leads_out_is_kept_and_not_followed(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        fs, root = two.filesystem, two.node("")
        for number, target in enumerate(TARGETS):
            new = {"owner": (0, 0), "now": fs.clock(), "target": target}
            name, mode = b"link %d" % number, stat.S_IFLNK | 0o777
            fs.call(lambda: names.create(fs.tree, root.inode, name, mode, **new))  # noqa: B023
        fs.flush()
        await two.push()
        await one.pull()
        for number, target in enumerate(TARGETS):
            link = one.node(f"link {number}")
            assert isinstance(link, SymlinkNode)
            assert link.target == target
            with pytest.raises(LocalError) as caught:
                one.node(f"link {number}/passwd")
            assert caught.value.errno == errno.ENOTDIR


@pytest.mark.parametrize("follow", [False, True], ids=["checked", "without"])
def test_a_link_that_leads_out_is_exported_as_a_link(tmp_path: Path, follow: bool) -> None:
    """With a copy that follows links, what lies outside is in the export."""
    outside, mount, out = (tmp_path / name for name in ("outside", "mount", "out"))
    outside.mkdir()
    (outside / "secret").write_bytes(b"of this machine")
    mount.mkdir()
    (mount / "link").symlink_to(outside)
    if follow:
        shutil.copytree(mount, out)
    else:
        assert copy_out(mount, out, None) == []
    assert (out / "link").is_symlink() is not follow
    assert list(out.rglob("secret")) == [out / "link/secret"] * follow
