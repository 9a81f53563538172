"""A contributor gives files names that lead out of their folder (A50).

Data flow: hostile member's own tree, whose names nobody checked -> log -> the others' devices.

The page is signed, sealed and lawful in the log: the server cannot see names. Whoever opens it
drops the page as damage, and everything else goes on; without the check the names are shown.
"""

from pathlib import Path

import pytest

from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.limits import MANIFEST_MAX_SIZE
from parsec_fs.protocol.manifests import PAGE, Manifest, PageManifest, decode_manifest
from parsec_fs.workspace import names
from parsec_fs.workspace.nodes import FolderNode
from parsec_fs.workspace.replica_checks import ReplicaChecks
from tests.support.laptops import Laptop, in_step, pair
from tests.support.server import in_process

HOSTILE = [b"..", b".", b"../../etc/passwd", b"nul\0"]


class AnyName(ReplicaChecks):
    """The check left out."""

    def manifest(self, unverified: bytes) -> Manifest:
        """Whatever a page holds."""
        if unverified[0] == PAGE:
            return decode(PageManifest, unverified[1:], max_size=MANIFEST_MAX_SIZE)
        return decode_manifest(unverified)


def plant(attacker: Laptop, folder: str, name: bytes) -> None:
    """As a program would that asks nobody."""
    node, fs = attacker.node(folder), attacker.filesystem
    assert isinstance(node, FolderNode)
    fs.call(lambda: names.make_file(fs.tree, node.inode, name, 0o644, (0, 0), fs.clock()))
    fs.flush()


async def attacked(one: Laptop, two: Laptop) -> None:
    """A folder for each name; the other device has them empty, and then hears of the names."""
    for number in range(len(HOSTILE)):
        two.mkdir(f"folder {number}")
    two.make("kept", b"content")
    await in_step(one, two)
    two.checks = AnyName()
    await two.restart()
    for number, name in enumerate(HOSTILE):
        plant(two, f"folder {number}", name)
    await two.push()
    await one.pull()
    assert await one.read("kept") == b"content"


def shown(device: Laptop, number: int) -> list[bytes]:
    """Names in one of the folders."""
    folder, fs = device.node(f"folder {number}"), device.filesystem
    assert isinstance(folder, FolderNode)
    return list(fs.call(fs.tree.children, folder))


@pytest.mark.expects_log("not a valid file name")
async def test_no_name_leads_out_of_its_folder(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        await attacked(one, two)
        assert [shown(one, number) for number in range(len(HOSTILE))] == [[] for _ in HOSTILE]
        one.make("folder 0/mine", b"")
        assert shown(one, 0) == [b"mine"]


async def test_without_the_check_it_does(tmp_path: Path) -> None:
    async with in_process(tmp_path / "server") as server, pair(server, tmp_path) as (one, two):
        one.checks = AnyName()
        await one.restart()
        await attacked(one, two)
        assert [shown(one, number) for number in range(len(HOSTILE))] == [
            [name] for name in HOSTILE
        ]
