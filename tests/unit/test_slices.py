"""Background work stands back for a busy mount, not for ever, and not when somebody waits for it.

Data flow: a mount that is busy on command, a clock by hand -> Slices -> when work goes on.
"""

import trio
import trio.testing

from parsec_fs.workspace.slices import STAND_BACK_S, Slices


class Mount:
    """Busy on command; `asked` counts how often somebody looked."""

    def __init__(self) -> None:
        self.is_busy = True
        self.asked = 0
        self.now = 0.0
        self.calm_after = 1_000_000
        self.seconds_per_look = 0.0

    def busy(self) -> bool:
        self.asked += 1
        self.now += self.seconds_per_look
        return self.is_busy and self.asked <= self.calm_after

    def slices(self) -> Slices:
        slices = Slices(clock=lambda: self.now)
        slices.busy = self.busy
        return slices


async def test_work_waits_until_the_mount_is_calm(autojump_clock: trio.testing.MockClock) -> None:
    mount = Mount()
    mount.calm_after = 7
    await mount.slices().pause()
    assert mount.asked == 8


async def test_within_a_slice_nobody_asks() -> None:
    mount = Mount()
    mount.is_busy = False
    slices = mount.slices()
    await slices.pause()
    asked = mount.asked
    await slices.pause()
    assert mount.asked == asked


async def test_patience_ends_and_comes_back_with_calm(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mount = Mount()
    slices = mount.slices()
    mount.seconds_per_look = STAND_BACK_S / 10
    await slices.stand_back()
    assert 10 <= mount.asked <= 12
    asked = mount.asked
    await slices.stand_back()
    assert mount.asked == asked + 1, "patience was used up: the work goes on"
    mount.is_busy = False
    await slices.stand_back()
    mount.is_busy, asked = True, mount.asked
    await slices.stand_back()
    assert mount.asked > asked + 5, "it was calm once: the work stands back again"


async def test_whoever_waits_for_the_work_ends_its_standing_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mount = Mount()
    slices = mount.slices()
    with slices.hurried():
        await slices.stand_back()
    assert mount.asked == 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slices.stand_back)
        await trio.testing.wait_all_tasks_blocked()
        with slices.hurried():
            await trio.sleep(1)
            assert not nursery.child_tasks


async def test_a_hurry_gives_no_new_patience(autojump_clock: trio.testing.MockClock) -> None:
    """A colleague who commits every few seconds makes pulls; ours must go out all the same."""
    mount = Mount()
    slices = mount.slices()
    mount.seconds_per_look = STAND_BACK_S / 10
    await slices.stand_back()
    with slices.hurried():
        await slices.stand_back()
    asked = mount.asked
    await slices.stand_back()
    assert mount.asked == asked + 1, "patience stays used up until the mount was calm"
