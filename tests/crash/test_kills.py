"""kill -9 at random moments of a copy: of the daemon, the server, the chain's two programs.

Data flow: copy onto the mount -> SIGKILL -> started again -> what is there, here and elsewhere.

A kill counts only if files were fsynced before it and changes were pending at it; a round that has
nothing to lose proves nothing and fails. In the end the copy is repeated: it is identical here,
audited, and identical on a second device that has never seen anything. Nobody is accused. After
each kill of the daemon fsck finds nothing.
`scripts/crash_test` does it more often.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.copying import FAILED, Copy, differences
from tests.support.product import Machine, Product, poll, product
from tests.support.requirements import require_fuse

MOMENTS = int(os.environ.get("PARSEC_CRASH_KILLS", "12"))
TARGET = "copy"
MOST_SYNCED = 24
"""The copy fsyncs more than 40 files: a kill after the 24th still finds it under way."""
JITTER_S = 0.03
"""About the time from one fsynced file to the next."""
REST_S = 1.0
"""At most, between two rounds: kills meet uploads at every stage, and what they left undone."""

Restart = Callable[[Product], None]


@pytest.fixture
def server() -> Iterator[Product]:
    require_fuse()
    with product() as running:
        yield running


def at_a_random_moment(copy: Copy, chance: random.Random) -> None:
    """Some files are fsynced, the copy is under way, changes are pending."""
    copy.wait_synced(chance.randint(1, MOST_SYNCED))
    time.sleep(chance.uniform(0, JITTER_S))
    assert copy.under_way(), "nothing left to lose"
    assert copy.machine.status()["changes"]["local"] > 0, "nothing was pending"
    assert copy.synced, "nothing was fsynced"


def ends_identical(server: Product, alice: Machine, source: Path) -> None:
    """The copy repeated, here, audited, and on a device with an empty cache."""
    assert Copy(source, alice, TARGET).wait() == 0
    assert differences(source, alice.path / TARGET) == []
    alice.wait("audited", timeout_s=60)
    bob = server.next_device(alice, "bob").mount()
    bob.wait("audited", timeout_s=60)
    assert differences(source, bob.path / TARGET) == []
    for machine in (alice, bob):
        machine.in_peace()


def test_daemon(server: Product, source: Path, chance: random.Random) -> None:
    alice = server.first_device("alice").mount()
    for _ in range(MOMENTS):
        copy = Copy(source, alice, TARGET)
        at_a_random_moment(copy, chance)
        alice.kill()
        assert copy.wait() == FAILED
        alice.cli("fsck")
        alice.mount()
        assert copy.missing() == []
        assert copy.torn() == []
        time.sleep(chance.uniform(0, REST_S))
    ends_identical(server, alice, source)


def restart_server(server: Product) -> None:
    server.programs.kill("server")
    server.start_server()


def restart_app(server: Product) -> None:
    """CometBFT ends by itself when its application is gone; at times its own end hangs."""
    server.programs.kill("app")
    with contextlib.suppress(AssertionError):
        poll(lambda: not server.programs.is_running("validator"), 10)
    server.programs.kill("validator")
    server.start_chain()


def restart_validator(server: Product) -> None:
    server.programs.kill("validator")
    server.start_validator()


@pytest.mark.parametrize("restart", [restart_server, restart_app, restart_validator])
def test_servers(server: Product, source: Path, chance: random.Random, restart: Restart) -> None:
    alice = server.first_device("alice").mount()
    for _ in range(MOMENTS):
        copy = Copy(source, alice, TARGET)
        at_a_random_moment(copy, chance)
        restart(server)
        assert copy.wait() == 0  # the mount does not notice
        assert copy.missing() == []
    ends_identical(server, alice, source)
