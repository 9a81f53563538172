"""The application through its requests: candidate, commit, mempool, proposals, queries."""

from pathlib import Path

import pytest

from abci_app import abci_pb2 as pb
from abci_app.application import RECHECKS_WHILE_AHEAD, WAITING_MAX, Application
from abci_app.codes import Code
from abci_app.proposals import STATEMENTS_PER_BLOCK
from abci_app.state import STATEMENT_MAX_SIZE
from abci_app.store import SqliteStore
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.simple_map import ProofOperation, verify_head
from tests.support.abci import (
    COMMIT,
    INFO,
    START_MS,
    MemoryStore,
    block,
    check,
    head_query,
    init_chain,
    run_block,
    timestamp,
)
from tests.support.servers import FakePublisher


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def app(store: MemoryStore, publisher: FakePublisher) -> Application:
    application = Application(store, version="test")
    application.handle(init_chain(publisher))
    return application


def test_every_request_of_the_interface_has_a_method(app: Application) -> None:
    kinds = {field.name for field in pb.Request.DESCRIPTOR.oneofs_by_name["value"].fields}
    assert kinds == set(app._methods())
    numbers = {field.name: field.number for field in pb.Response.DESCRIPTOR.fields}
    requests = {field.name: field.number for field in pb.Request.DESCRIPTOR.fields}
    assert numbers == {"exception": 1} | {name: one + 1 for name, one in requests.items()}


def test_simple_answers(app: Application) -> None:
    echo = app.handle(pb.Request(echo=pb.EchoRequest(message="hi")))
    assert echo.echo.message == "hi"
    flush = app.handle(pb.Request(flush=pb.FlushRequest()))
    assert flush.WhichOneof("value") == "flush"
    extension = pb.VerifyVoteExtensionRequest(vote_extension=b"x")
    answer = app.handle(pb.Request(verify_vote_extension=extension)).verify_vote_extension
    assert answer.status == pb.VerifyVoteExtensionResponse.REJECT
    offer = app.handle(pb.Request(offer_snapshot=pb.OfferSnapshotRequest())).offer_snapshot
    assert offer.result == pb.OfferSnapshotResponse.REJECT


def test_request_of_an_unknown_kind_is_an_error(app: Application) -> None:
    with pytest.raises(RuntimeError):
        app.handle(pb.Request())


def test_nothing_is_durable_before_commit(
    app: Application, store: MemoryStore, publisher: FakePublisher
) -> None:
    app.handle(block(1, [publisher.next_tx(START_MS)]))
    assert store.state is None
    assert app.handle(INFO).info.last_block_height == 0
    app.handle(COMMIT)
    assert app.handle(INFO).info.last_block_height == 1
    assert len(store.statements) == 1


def test_finalize_twice_uses_the_second_candidate(
    app: Application, store: MemoryStore, publisher: FakePublisher
) -> None:
    app.handle(block(1, [publisher.sign(publisher.statement(START_MS, content=b"dropped"))]))
    tx = publisher.next_tx(START_MS)
    hash_of_block = app.handle(block(1, [tx])).finalize_block.app_hash
    app.handle(COMMIT)
    assert app.handle(INFO).info.last_block_app_hash == hash_of_block
    assert list(store.statements.values()) == [tx]


@pytest.mark.parametrize("height", [0, 1, 3])
def test_wrong_height_is_an_error(app: Application, height: int) -> None:
    run_block(app, 1)
    with pytest.raises(RuntimeError):
        app.handle(block(height))


def test_commit_without_a_candidate_is_an_error(app: Application) -> None:
    with pytest.raises(RuntimeError):
        app.handle(COMMIT)


def test_init_chain_is_idempotent_until_the_first_block(
    app: Application, publisher: FakePublisher
) -> None:
    first = app.handle(init_chain(publisher)).init_chain.app_hash
    assert app.handle(init_chain(publisher)).init_chain.app_hash == first
    assert run_block(app, 1).app_hash == first
    with pytest.raises(RuntimeError):
        app.handle(init_chain(publisher))


def test_one_result_per_transaction(app: Application, publisher: FakePublisher) -> None:
    good = publisher.next_tx(START_MS)
    results = run_block(app, 1, [b"junk", good, good, b""]).tx_results
    assert [one.code for one in results] == [
        Code.MALFORMED,
        Code.OK,
        Code.ALREADY_ACCEPTED,
        Code.MALFORMED,
    ]


def test_empty_block_keeps_the_hash_and_the_changed_height(
    app: Application, publisher: FakePublisher
) -> None:
    first = run_block(app, 1, [publisher.next_tx(START_MS)]).app_hash
    assert run_block(app, 2).app_hash == first
    assert app.handle(head_query(publisher)).query.height == 1


def test_restart_continues_from_the_last_commit(
    app: Application, store: MemoryStore, publisher: FakePublisher
) -> None:
    run_block(app, 1, [publisher.next_tx(START_MS)])
    tx = publisher.next_tx(START_MS + 1_000)
    lost = app.handle(block(2, [tx])).finalize_block.app_hash
    again = Application(store, version="test")
    assert again.handle(INFO).info.last_block_height == 1
    assert run_block(again, 2, [tx]).app_hash == lost


def test_head_is_proven_against_the_app_hash(app: Application, publisher: FakePublisher) -> None:
    tx = publisher.next_tx(START_MS)
    hash_of_block = run_block(app, 1, [tx]).app_hash
    answer = app.handle(head_query(publisher)).query
    operations = tuple(
        ProofOperation(kind=one.type, key=one.key, data=one.data) for one in answer.proof_ops.ops
    )
    server_log = publisher.registration.server_log
    assert verify_head(Hash(hash_of_block), server_log, answer.value, operations) == tx


def query(app: Application, path: str, *, height: int = 0) -> pb.QueryResponse:
    request = pb.QueryRequest(path=path, data=b"?", height=height)
    return app.handle(pb.Request(query=request)).query


def test_queries_that_find_nothing(app: Application, publisher: FakePublisher) -> None:
    assert query(app, "/store/heads/key").code == Code.NOT_READY
    run_block(app, 1)
    log = publisher.registration.server_log.hex()
    assert app.handle(head_query(publisher)).query.code == Code.NOT_FOUND
    assert query(app, "/store/heads/key").code == Code.NOT_FOUND
    assert query(app, f"/store/statement/{log}/0").code == Code.NOT_FOUND
    assert query(app, f"/store/statement/{log}/00").code == Code.NO_SUCH_PATH
    assert query(app, "/p2p/filter/addr/1").code == Code.NO_SUCH_PATH
    assert query(app, "/store/heads/key", height=9).code == Code.HEIGHT_NOT_KEPT


def test_statement_of_every_epoch_can_be_read(app: Application, publisher: FakePublisher) -> None:
    txs = [publisher.next_tx(START_MS + epoch * 1_000) for epoch in range(3)]
    for height, tx in enumerate(txs, start=1):
        run_block(app, height, [tx])
    log = publisher.registration.server_log.hex()
    assert [query(app, f"/store/statement/{log}/{epoch}").value for epoch in range(3)] == txs


def test_several_epochs_wait_in_the_mempool(app: Application, publisher: FakePublisher) -> None:
    txs = [publisher.next_tx(START_MS + epoch * 1_000) for epoch in range(3)]
    assert [app.handle(check(tx)).check_tx.code for tx in txs] == [Code.OK] * 3
    run_block(app, 1, txs[:1])
    assert [app.handle(check(tx, again=True)).check_tx.code for tx in txs] == [
        Code.ALREADY_ACCEPTED,
        Code.OK,
        Code.OK,
    ]


def test_mempool_starts_anew_after_commit(app: Application, publisher: FakePublisher) -> None:
    tx = publisher.next_tx(START_MS)
    assert app.handle(check(tx)).check_tx.code == Code.OK
    assert app.handle(check(tx)).check_tx.code == Code.ALREADY_ACCEPTED
    run_block(app, 1)
    assert app.handle(check(tx)).check_tx.code == Code.OK


def test_statement_after_a_standstill_waits_for_the_time_of_blocks(
    app: Application, publisher: FakePublisher
) -> None:
    late = START_MS + 3_600_000
    tx = publisher.next_tx(late)
    assert app.handle(check(tx)).check_tx.code == Code.OK
    assert prepare(app, [tx], START_MS) == []
    run_block(app, 1)
    assert app.handle(check(tx, again=True)).check_tx.code == Code.OK
    assert prepare(app, [tx], late) == [tx]


def test_statement_of_a_wrong_clock_does_not_wait_for_ever(
    app: Application, publisher: FakePublisher
) -> None:
    tx = publisher.next_tx(START_MS + 10**9)
    codes = [app.handle(check(tx)).check_tx.code]
    codes += [app.handle(check(tx, again=True)).check_tx.code for _ in range(RECHECKS_WHILE_AHEAD)]
    assert codes == [Code.OK] * RECHECKS_WHILE_AHEAD + [Code.AHEAD_OF_TIME]


def test_only_some_statements_wait_for_time(app: Application, publisher: FakePublisher) -> None:
    statement = publisher.statement(START_MS + 10**9)
    # ML-DSA is randomised: every signing gives other bytes.
    txs = [publisher.sign(statement) for _ in range(WAITING_MAX + 1)]
    codes = [app.handle(check(tx)).check_tx.code for tx in txs]
    assert codes == [Code.OK] * WAITING_MAX + [Code.AHEAD_OF_TIME]
    run_block(app, 1, txs[:1])
    assert app.handle(check(txs[-1])).check_tx.code == Code.OK


def prepare(
    app: Application, txs: list[bytes], time_ms: int, *, max_size: int = 2**20
) -> list[bytes]:
    request = pb.PrepareProposalRequest(
        max_tx_bytes=max_size, txs=txs, height=1, time=timestamp(time_ms)
    )
    return list(app.handle(pb.Request(prepare_proposal=request)).prepare_proposal.txs)


def process(app: Application, txs: list[bytes]) -> int:
    request = pb.ProcessProposalRequest(txs=txs, height=1, time=timestamp(START_MS))
    return app.handle(pb.Request(process_proposal=request)).process_proposal.status


def test_proposal_holds_only_what_will_be_accepted(
    app: Application, publisher: FakePublisher
) -> None:
    first, second = publisher.next_tx(START_MS), publisher.next_tx(START_MS + 1_000)
    assert prepare(app, [b"junk", first, first, second], START_MS) == [first, second]
    assert prepare(app, [second], START_MS) == []
    assert prepare(app, [first, second], START_MS, max_size=len(first) + 100) == [first]


def test_proposal_over_the_budget_is_rejected(app: Application) -> None:
    accept, reject = pb.ProcessProposalResponse.ACCEPT, pb.ProcessProposalResponse.REJECT
    assert process(app, []) == accept
    assert process(app, [b"junk"] * STATEMENTS_PER_BLOCK) == accept
    assert process(app, [b"junk"] * (STATEMENTS_PER_BLOCK + 1)) == reject
    assert process(app, [bytes(STATEMENT_MAX_SIZE + 1)]) == reject


def test_retain_height_follows_the_chain(store: MemoryStore, publisher: FakePublisher) -> None:
    app = Application(store, version="test", retain_blocks=2)
    app.handle(init_chain(publisher))
    heights = []
    for height in range(1, 5):
        app.handle(block(height))
        heights.append(app.handle(COMMIT).commit.retain_height)
    assert heights == [0, 0, 1, 2]


def test_sqlite_store_returns_and_rolls_back(tmp_path: Path, publisher: FakePublisher) -> None:
    path = tmp_path / "app.sqlite"
    with SqliteStore(path) as store:
        app = Application(store, version="test")
        app.handle(init_chain(publisher))
        hashes = [
            run_block(app, height, [publisher.next_tx(START_MS + height * 1_000)]).app_hash
            for height in range(1, 4)
        ]
    with SqliteStore(path) as store:
        info = Application(store, version="test").handle(INFO).info
        assert (info.last_block_height, info.last_block_app_hash) == (3, hashes[2])
        assert store.rollback() == 2
        info = Application(store, version="test").handle(INFO).info
        assert (info.last_block_height, info.last_block_app_hash) == (2, hashes[1])
        assert store.statement(publisher.registration.server_log, 2) is None
        assert store.rollback() == 1
        with pytest.raises(InputError):
            store.rollback()
