"""Three devices, random partitions, lost answers, sudden ends: all converge, nothing is lost.

A few histories of each kind run everywhere. HYPOTHESIS_PROFILE=nightly runs two hundred of each,
some of which fail today: docs/threat-model.md says which kinds of loss are known.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.laptops import found, laptop, second_device
from tests.support.partitions import (
    DAYS,
    FOLDERS,
    ORDINARY,
    Kind,
    Step,
    Story,
    history,
    with_restarts,
)
from tests.support.server import in_process

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
KINDS = {"ordinary": ORDINARY, "folders": FOLDERS, "days": DAYS}
SEEDS = {"ordinary": range(10), "folders": range(8), "days": range(8)}


@asynccontextmanager
async def story(folder: Path) -> AsyncIterator[Story]:
    """Three devices of one user with one workspace open."""
    async with in_process(folder / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, folder / "one", "one") as one:
            realm = await one.create_realm()
            await one.open(realm)
            await one.push()
            second, third = await second_device(one), await second_device(one)
            async with (
                laptop(server, second, folder / "two", "two") as two,
                laptop(server, third, folder / "three", "three") as three,
            ):
                await two.open(realm)
                await three.open(realm)
                yield Story([one, two, three])


def _histories() -> list[tuple[str, int]]:
    return [
        (name, seed) for name, seeds in SEEDS.items() for seed in (range(200) if NIGHTLY else seeds)
    ]


@pytest.mark.parametrize(("kind", "seed"), _histories())
async def test_nothing_is_lost(tmp_path: Path, kind: str, seed: int) -> None:
    chosen: Kind = KINDS[kind]
    async with story(tmp_path) as told:
        await told.play(history(seed, chosen))
        await told.check()


def _restarted() -> list[tuple[str, int]]:
    return [(name, seed) for name in KINDS for seed in (range(60) if NIGHTLY else range(2))]


@pytest.mark.parametrize(("kind", "seed"), _restarted())
async def test_nothing_is_lost_when_devices_end_at_any_time(
    tmp_path: Path, kind: str, seed: int
) -> None:
    async with story(tmp_path) as told:
        await told.play(with_restarts(history(seed, KINDS[kind]), seed, 0.08))
        await told.check()


BOTH_WROTE = (
    Step(0, "make"),
    Step(0, "push"),
    Step(1, "pull"),
    Step(0, "write"),
    Step(1, "write"),
    Step(0, "push"),
    Step(1, "pull"),
)
DELETED_THERE = (*BOTH_WROTE[:3], Step(0, "unlink"), Step(1, "write"), *BOTH_WROTE[5:])
DELETED_HERE = (*BOTH_WROTE[:3], Step(0, "write"), Step(1, "unlink"), *BOTH_WROTE[5:])
ENDS = ("restart", "kill")


@pytest.mark.parametrize("how", ENDS)
async def test_both_wrote_and_one_ends_before_it_is_settled(tmp_path: Path, how: str) -> None:
    async with story(tmp_path) as told:
        await told.play((*BOTH_WROTE, Step(1, how)))
        assert told.devices[1].contested()
        assert sorted((await told.check()).values()) == [b"one 2\n", b"two 3\n"]  # type: ignore


@pytest.mark.parametrize("how", ENDS)
async def test_a_change_of_what_was_deleted_elsewhere_survives_an_end(
    tmp_path: Path, how: str
) -> None:
    async with story(tmp_path) as told:
        await told.play((*DELETED_THERE, Step(1, how), Step(1, how)))
        assert list((await told.check()).values()) == [b"two 3\n"]


@pytest.mark.parametrize("how", ENDS)
async def test_a_deletion_of_what_was_changed_elsewhere_is_given_up_after_an_end(
    tmp_path: Path, how: str
) -> None:
    async with story(tmp_path) as told:
        await told.play((*DELETED_HERE, Step(1, how)))
        assert list((await told.check()).values()) == [b"one 2\n"]


CONTESTED = """
    one make a first
    one make b second
    one push
    two pull
    one write a third
    one unlink b
    one push
    two append a fourth
    two write b fifth
    two pull
"""


@pytest.mark.parametrize("left", [1, 3, -2])
async def test_a_settlement_is_journalled_as_a_whole_or_counts_for_nothing(
    tmp_path: Path, left: int
) -> None:
    """One with much content fills several groups: here only the first ones get to the disk."""
    async with story(tmp_path) as told:
        await told.tell(CONTESTED)
        two = told.devices[1]
        two.filesystem.flush()
        assert two.workspace.sync.contest.settle()
        del two.filesystem.journal.records[left:]
        two.filesystem.flush()
        await told.tell("two kill")
        await told.tell("two append b sixth")
        await told.tell("two kill")
        shown = await told.check()
        assert sorted(content or b"" for content in shown.values()) == [
            b"fifth\nsixth\n",
            b"first\nfourth\n",
            b"third\n",
        ]


WRITTEN_IN_A_FOLDER = (
    Step(0, "mkdir"),
    Step(0, "make", 1),
    Step(0, "push"),
    Step(1, "pull"),
    Step(1, "write"),
)
FOLDER_GOES = (Step(0, "unlink"), Step(0, "rmdir"), Step(0, "push"), Step(1, "pull"))


async def test_after_a_start_it_is_known_where_pending_files_are(tmp_path: Path) -> None:
    """Nobody looks into the folder between the start and its deletion elsewhere."""
    async with story(tmp_path) as told:
        await told.play((*WRITTEN_IN_A_FOLDER, Step(1, "restart"), *FOLDER_GOES))
        assert list((await told.check()).values()) == [None, b"two 3\n"]


async def test_what_was_replaced_is_kept_no_longer_than_it_is_needed(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        await told.play(BOTH_WROTE)
        store = told.devices[1].workspace.store
        assert store.before.sizes()
        await told.check()
        assert not any(one.workspace.store.before.sizes() for one in told.devices)
