"""Node blocks of a large file are out of reach while its manifest arrives: asked for again.

Data flow: a sparse file of more than 1,024 blocks -> server -> a device that cannot fetch blocks.
"""

from pathlib import Path

import pytest

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.limits import MIB
from tests.support.laptops import Laptop, in_step, two_laptops
from tests.support.waiting import until

SIZE = 1025 * MIB
BLOCKS = "/v1/blocks"


async def large(one: Laptop, name: str) -> None:
    """A file whose references need blocks of their own."""
    one.make(name, b"beginning")
    await lengthen(one, name)


async def lengthen(one: Laptop, name: str) -> None:
    node, fs = one.file(name), one.filesystem
    fs.write(node, SIZE - 1, b"x")
    fs.released(node)
    fs.flush()
    await one.push()


@pytest.mark.expects_log("object .* of device .*: block cannot be had")
async def test_a_large_file_opens_once_its_nodes_can_be_had(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        await large(one, "large")
        two.wire.lost = BLOCKS
        await two.pull()
        with pytest.raises(LocalError, match="damaged"):
            two.node("large")
        assert await two.workspace.mending.mend() == 1
        two.wire.lost = ""
        assert await two.workspace.mending.mend() == 0
        assert two.file("large").size == SIZE
        part = await two.filesystem.read(two.file("large"), 0, 9)
        assert bytes(part) == b"beginning"


@pytest.mark.expects_log("object .* of device .*: block cannot be had")
async def test_a_file_that_is_known_takes_over_its_new_version(tmp_path: Path) -> None:
    """The device shows the old version, as long as it has nothing better, then the new one."""
    async with two_laptops(tmp_path) as (one, two):
        one.make("large", b"small yet")
        await in_step(one, two)
        assert await two.read("large") == b"small yet"
        two.wire.lost = BLOCKS
        await lengthen(one, "large")
        await two.pull()
        assert two.file("large").size == 9
        two.wire.lost = ""
        await two.workspace.mending.mend()
        assert two.file("large").size == SIZE


@pytest.mark.expects_log("object .* of device .*: block cannot be had")
async def test_opening_it_asks_at_once(tmp_path: Path) -> None:
    async with two_laptops(tmp_path) as (one, two):
        await large(one, "large")
        two.wire.lost = BLOCKS
        await two.pull()
        failures = two.wire.failures
        two.nursery.start_soon(two.workspace.mending.run)
        await until(lambda: two.wire.failures > failures)
        two.wire.lost = ""

        def opens() -> bool:
            try:
                return two.file("large").size == SIZE
            except LocalError:
                return False

        await until(opens, timeout_s=4.0)
