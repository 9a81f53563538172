"""Epochs: cut, signed once, sent until final, opened; and what an old copy of a server may not do.

Data flow: server -> publisher -> chain double with the real rules -> epoch/read -> `open_epoch`.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from abci_app.codes import Code
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import Outcome
from parsec_fs.protocol.epochs import open_epoch
from parsec_fs.protocol.errors import InputError, OfflineError
from parsec_fs.protocol.ids import LogId
from parsec_fs.protocol.keys import CoVerifyKey, VerifyKey
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.statements import SignedStatement, verify_statement
from server.app import Outside, wall_ms
from server.cli import first_cause
from server.identity import ServerIdentity, change_keys, create_identity, load_identity
from server.log import publisher as publishing
from server.store import epochs
from server.store.server_row import due_epoch
from tests.support.chain_double import ChainDouble
from tests.support.devices import RawDevice, new_object, new_org
from tests.support.server import InProcess, in_process, outside, server_identity
from tests.support.servers import CHAIN_ID
from tests.support.waiting import eventually

IDENTITY = server_identity(epoch_ms=100)
States = list[tuple[LogState | None, ...]]


def new_chain() -> ChainDouble:
    return ChainDouble(IDENTITY.registration, wall_ms=wall_ms)


@asynccontextmanager
async def serving(folder: Path, *nodes: ChainDouble, **pieces: object) -> AsyncIterator[InProcess]:
    given: Outside = replace(outside(folder, nodes), **pieces)  # type: ignore[arg-type]
    async with in_process(folder, identity=IDENTITY, pieces=given) as running:
        yield running


async def final(alice: RawDevice, count: int) -> int:
    """Wait until this many epochs are final."""

    async def probe() -> int | None:
        found = (await alice.server.read_epochs(0, 0, (LogId(alice.anchor.org),))).final
        return found if found >= count else None

    return await eventually(probe)


async def opened(alice: RawDevice, *logs: LogId, start: int = 0) -> States:
    """All epochs, each verified to extend the one before."""
    found = await alice.server.read_epochs(0, 1000, logs)
    tree, states, server = Frontier(), States(), alice.anchor.server
    for number, proof in enumerate(found.epochs):
        statement = verify_statement(
            proof.statement,
            expected_chain_id=alice.anchor.chain.chain_id,
            expected_server_log=server.server_log,
            head_key=VerifyKey(server.head_key),
            co_key=CoVerifyKey(server.co_key),
        )
        tree, state = open_epoch(
            proof,
            statement,
            expected_epoch=number,
            expected_org=alice.anchor.org,
            expected_logs=logs,
            before=tree,
        )
        states.append(state)
    return states[start:]


async def test_epochs_hold_what_heads_promised(tmp_path: Path) -> None:
    chain = new_chain()
    async with serving(tmp_path, chain) as running, running.http() as http:
        await eventually(lambda: is_open(running))
        alice = await new_org(http, running.identity.registration)
        heads = [await alice.pull_org()]
        realm = await alice.create_realm()
        for _ in range(4):
            await alice.write(realm, new_object())
            heads.append(await alice.pull(realm))
            await final(alice, heads[-1].due_epoch)
        await final(alice, heads[-1].due_epoch + 1)
        states = await opened(alice, LogId(alice.anchor.org), LogId(realm))
    for head in heads:
        of_org, of_realm = states[head.due_epoch]
        anchored = of_org if head.context.log == LogId(alice.anchor.org) else of_realm
        assert anchored is not None
        assert anchored.size >= head.size
        if anchored.size == head.size:
            assert (anchored.log_root, anchored.map_root) == (head.log_root, head.map_root)
    for (org, realm_state), (_, later) in pairwise(states):
        if later is not None and org is not None and later != realm_state:
            assert later.org_size >= org.size  # rule 9: nothing is judged by an older org log


async def is_open(running: InProcess) -> bool:
    return running.server.services.is_open()


async def test_epochs_can_be_read_from_anywhere(tmp_path: Path) -> None:
    """Openings from the middle, cold and cached, are those of a reading from the start."""
    chain = new_chain()
    async with serving(tmp_path, chain) as running, running.http() as http:
        await eventually(lambda: is_open(running))
        alice = await new_org(http, running.identity.registration)
        other = await new_org(http, running.identity.registration)
        for count in range(1, 5):
            await alice.create_realm()
            await final(alice, count + 1)
        logs = (LogId(alice.anchor.org), *map(LogId, alice.realms))
        whole = await alice.server.read_epochs(0, 5, logs)
        await other.server.read_epochs(0, 5, (LogId(other.anchor.org),))
    async with serving(tmp_path, chain) as running, running.http() as http:
        await eventually(lambda: is_open(running))
        again = RawDevice(http, alice.anchor, alice.secrets)
        for start in (3, 0, 4, 3, 2):
            part = await again.server.read_epochs(start, 2, logs)
            assert part.epochs[: 5 - start] == whole.epochs[start : start + 2]
        assert (await again.server.read_epochs(2**64 - 1, 1, logs)).epochs == ()


async def test_reading_ahead_spoils_nothing(tmp_path: Path) -> None:
    """Asking for epochs that are still to come must not fix what lies before them."""
    chain = new_chain()
    async with serving(tmp_path, chain) as running, running.http() as http:
        await eventually(lambda: is_open(running))
        alice = await new_org(http, running.identity.registration)
        logs = (LogId(alice.anchor.org),)
        for start in range(12):
            await alice.server.read_epochs(start, 10, logs)
        await alice.create_realm()
        await final(alice, 12)
        cold = (await alice.server.read_epochs(0, 1000, logs)).epochs
        for start in range(12):
            part = (await alice.server.read_epochs(start, 1, logs)).epochs
            assert part == cold[start : start + 1]
        assert len(await opened(alice, *logs)) >= 12


@pytest.mark.allows_log("sent again")
async def test_next_epoch_waits_for_the_one_before(tmp_path: Path) -> None:
    """Rule 16: nothing is cut while an epoch is not final; the same bytes are sent again."""
    chain = new_chain()
    async with serving(tmp_path, chain) as running:
        database = running.server.services.database
        await eventually(lambda: at_least(chain, 1))
        chain.paused = True
        count = len(chain.statements())
        await eventually(lambda: sent_again(chain))
        assert await database.read(due_epoch) <= count + 1
        chain.paused = False
        chain.make_block()
        await eventually(lambda: at_least(chain, count + 2))
    assert len(set(chain.sent)) == len(chain.statements())


async def test_an_epoch_that_nobody_can_prove_yet_is_not_final(tmp_path: Path) -> None:
    """The chain stands still right after the block with the statement: its state is in no header
    yet, so heads must not promise what devices could not audit (rule 23)."""
    chain = new_chain()
    async with serving(tmp_path, chain) as running:
        database = running.server.services.database
        await eventually(lambda: at_least(chain, 1))
        chain.halted = True
        count = len(chain.statements())
        await eventually(lambda: at_least(chain, count + 1))
        looks = chain.looks
        await eventually(lambda: looked_at(chain, looks + 5))
        assert await database.read(due_epoch) == count + 1
        assert len(chain.statements()) == count + 1
        newest = await database.read(epochs.newest)
        assert newest is not None
        assert not newest.final
        chain.halted = False
        chain.make_block()
        await eventually(lambda: at_least(chain, count + 3))


async def looked_at(chain: ChainDouble, count: int) -> bool:
    return chain.looks >= count


async def at_least(chain: ChainDouble, count: int) -> bool:
    return len(chain.statements()) >= count


async def sent_again(chain: ChainDouble) -> bool:
    return len(chain.sent) > len(set(chain.sent))


@pytest.mark.allows_log("not final yet|chain double")
async def test_statement_is_signed_once_over_crashes(tmp_path: Path) -> None:
    """A crash after the statement was stored, before the chain had it: the stored bytes go out."""
    chain = new_chain()
    chain.paused = True
    async with serving(tmp_path, chain):
        await eventually(lambda: sent_any(chain))
    first = chain.sent[0]
    async with serving(tmp_path, chain):
        await eventually(lambda: sent_again(chain))
        chain.paused = False
        chain.make_block()
        await eventually(lambda: at_least(chain, 1))
    assert chain.statements()[0] == first
    assert len(set(chain.sent)) == len(chain.statements())


async def sent_any(chain: ChainDouble) -> bool:
    return bool(chain.sent)


async def test_cut_without_statement_is_taken_up(tmp_path: Path) -> None:
    """A crash between the cut and its statement."""
    async with serving(tmp_path) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        head = await alice.pull_org()
        await running.server.services.database.write(lambda tx: epochs.cut(tx, 0))
        later = await alice.pull_org()
        assert (head.due_epoch, later.due_epoch) == (0, 1)
    async with serving(tmp_path, new_chain()) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        await eventually(lambda: is_open(running))
        await final(again, 1)
        (state,) = (await opened(again, LogId(alice.anchor.org)))[0]
        assert state is not None
        assert state.size == head.size


@pytest.mark.allows_log("no chain node answers|chain double: offline")
async def test_nothing_is_served_before_the_chain_has_spoken(tmp_path: Path) -> None:
    chain = new_chain()
    chain.offline = True
    async with serving(tmp_path, chain) as running, running.http() as http:
        assert not running.server.services.is_open()
        with pytest.raises(OfflineError):
            await new_org(http, running.identity.registration)
        chain.offline, chain.catching_up = False, True
        with pytest.raises(OfflineError):
            await new_org(http, running.identity.registration)
        chain.catching_up = False
        await eventually(lambda: is_open(running))
        alice = await new_org(http, running.identity.registration)
        assert (await alice.public.info()).chain_id == chain.chain_id


async def stopped_with(
    folder: Path, chain: ChainDouble, identity: ServerIdentity = IDENTITY
) -> BaseException:
    """What ends a server that would like to run for ever."""
    with pytest.raises(BaseException) as error:  # noqa: PT011
        async with in_process(folder, identity=identity, pieces=outside(folder, [chain])):
            await trio.sleep(5)  # cut short by the error
    return first_cause(error.value)


async def test_restored_server_refuses_to_start(tmp_path: Path) -> None:
    """Rule 32: the chain knows epochs that the restored database does not."""
    chain = new_chain()
    async with serving(tmp_path / "live", chain) as running, running.http() as http:
        await eventually(lambda: is_open(running))
        await new_org(http, running.identity.registration)
        await eventually(lambda: at_least(chain, 1))
    shutil.copytree(tmp_path / "live", tmp_path / "backup")
    async with serving(tmp_path / "live", chain):
        count = len(chain.statements())
        await eventually(lambda: at_least(chain, count + 1))
    accepted = chain.statements()
    error = await stopped_with(tmp_path / "backup", chain)
    assert isinstance(error, publishing.OldCopyError)
    assert isinstance(error, InputError)
    assert "older copy" in str(error)
    assert chain.statements() == accepted


async def test_second_server_with_the_same_keys_stops(tmp_path: Path) -> None:
    """Two databases, one identity: whoever loses an epoch to the other notices at once."""
    chain = new_chain()
    async with serving(tmp_path / "one", chain):
        await eventually(lambda: at_least(chain, 1))
    error = await stopped_with(tmp_path / "two", chain)
    assert isinstance(error, publishing.OldCopyError)


async def test_statement_is_exactly_what_the_chain_has(tmp_path: Path) -> None:
    chain = new_chain()
    async with serving(tmp_path, chain) as running:
        await eventually(lambda: at_least(chain, 3))
        database = running.server.services.database
        stored = await database.read(lambda tx: epochs.range_of(tx, 0, 3))
    assert [encode(one.statement) for one in stored] == chain.statements()[:3]


async def test_statement_keys_change_between_two_starts(tmp_path: Path) -> None:
    """Devices that know the first keys only open all epochs; the retired keys cannot go on."""
    home, folder = tmp_path / "home", tmp_path / "server"
    create_identity(home, name=b"server", epoch_ms=200, heartbeat_ms=200)
    first = load_identity(home)
    chain = ChainDouble(first.registration, wall_ms=wall_ms)
    pieces = outside(folder, [chain])
    async with (
        in_process(folder, identity=first, pieces=pieces) as running,
        running.http() as http,
    ):
        await eventually(lambda: is_open(running))
        alice = await new_org(http, first.registration)
        await final(alice, 1)
    changed = change_keys(home, chain_id=CHAIN_ID)
    assert load_identity(home).changes == changed.changes
    pieces = outside(folder, [chain])
    async with (
        in_process(folder, identity=load_identity(home), pieces=pieces) as running,
        running.http() as http,
    ):
        await eventually(lambda: is_open(running))
        alice = RawDevice(http, alice.anchor, alice.secrets)
        await final(alice, len(chain.statements()) + 2)
        states = await opened(alice, LogId(alice.anchor.org))
        assert len(states) >= 3
    carried = [len(decode(SignedStatement, one).changes) for one in chain.statements()]
    assert carried == sorted(carried)
    assert set(carried) == {0, 1}
    error = await stopped_with(folder, chain, first)
    assert isinstance(error, publishing.OldCopyError)
    assert "change-keys" in str(error)


def test_code_of_the_chain() -> None:
    """The server may not import the chain application; the number must be its."""
    assert Code(publishing.NO_STATEMENT) is Code.NOT_FOUND


async def test_epochs_of_foreign_realms_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        bob = await alice.add_user(http)
        realm = await alice.create_realm()
        with pytest.raises(Exception, match=Outcome.NOT_ALLOWED.name):
            await bob.server.read_epochs(0, 1, (LogId(alice.anchor.org), LogId(realm)))


async def test_clock_that_steps_back_convicts_nobody(tmp_path: Path) -> None:
    """Rule 14: heads and leaves after a restart are not older than heads before it."""
    async with serving(tmp_path, wall_ms=lambda: 10_000_000) as running, running.http() as http:
        alice = await new_org(http, running.identity.registration)
        realm = await alice.create_realm()
        before = await alice.pull(realm)
    async with serving(tmp_path, wall_ms=lambda: 5_000_000) as running, running.http() as http:
        again = RawDevice(http, alice.anchor, alice.secrets)
        await again.pull(realm)
        await again.write(realm, new_object())
        after = await again.pull(realm)
        assert after.time_ms >= again.realms[realm].state.position.time_ms >= before.time_ms
