"""Histories in which something was once lost or put twice: short, told in paths, with their end.

Each was found by a random history (test_sync_partitions) and cut down to what it takes.
"""

from pathlib import Path

import pytest

from tests.integration.test_sync_partitions import story

ASIDE = "b (conflict, two 2026-01-01 10.00)"
STORIES = {
    "a folder moved twice before it was heard that it is logged, something over its new name": (
        """
        two mkdir d
        two mkdir d/b
        two lost
        two rename d/b d/d
        three pull
        three rename d/b b
        three push
        two rename d c
        two rename c/d d
        two rename c b
        """,
        {"b": None, ASIDE: None},
    ),
    "a folder moved to where another device puts something, and over something there": (
        """
        two mkdir a
        two mkdir d
        two push
        two mkdir b
        three pull
        three rename d b
        two rename d a
        three push
        """,
        {"b": None, ASIDE: None},
    ),
    "a file renamed and deleted before its maker heard that it is logged, written elsewhere": (
        """
        two make c first
        one mkdir b
        two rename c b
        two push
        two rename b a
        two lost
        three pull
        two unlink a
        three write a second
        """,
        {"a": b"second\n", "b": None},
    ),
    "a deletion given up for a name in a folder that nobody has opened, and then a change": (
        """
        two make a first
        two lost
        three pull
        three mkdir d
        three rename a d/b
        three push
        two unlink a
        two push
        two append d/b second
        """,
        {"d": None, "d/b": b"first\nsecond\n"},
    ),
    "the topmost folder changed by both, and an end after that was settled": (
        """
        three make d first
        two make a second
        three die after_send
        two rename a d
        three unlink d
        two pull
        two lost
        three die after_outbox
        three make e third
        """,
        {"d (conflict, two 2026-01-01 10.00)": b"second\n", "e": b"third\n"},
    ),
    "two names of one file, each deleted by one device": (
        """
        one mkdir b
        one make b/c first
        one link b/c a
        one push
        three pull
        three unlink a
        one unlink b/c
        """,
        {"a": b"first\n", "b": None},
    ),
    "two names of one file: one deleted, one replaced before it was heard that it is logged": (
        """
        one mkdir b
        one mkdir b/c
        one make b/c/c first
        one link b/c/c b/a
        one lost
        three pull
        three unlink b/a
        one replace b/c/c second
        """,
        {"b": None, "b/a": b"first\n", "b/c": None, "b/c/c": b"second\n"},
    ),
    "two names given to what was replaced here, one of them in a folder that nobody has opened": (
        """
        two mkdir a
        three mkdir d
        three make d/d first
        three push
        three replace d/d second
        two push
        two rename d/d b
        two link b a/b
        two push
        three push
        two replace a/b third
        three write a/b fourth
        """,
        {"a": None, "a/b": b"third\n", "b": b"fourth\n", "d": None, "d/d": b"second\n"},
    ),
}


@pytest.mark.parametrize("name", STORIES)
async def test_a_story_ends_as_it_should(tmp_path: Path, name: str) -> None:
    told, end = STORIES[name]
    async with story(tmp_path) as devices:
        await devices.tell(told)
        assert await devices.check() == end
