"""Epochs against the reference: every log opened as it was, or provably absent, and nothing else.

Data flow: random organizations and logs -> maps, epoch leaf -> `open_epoch`.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import EpochProof, LogOpening
from parsec_fs.protocol.epochs import (
    log_state_hash,
    open_epoch,
    opening_leaf,
    org_logs_map,
    orgs_map,
)
from parsec_fs.protocol.errors import ProofError
from parsec_fs.protocol.hashing import log_map_key, org_map_key, sha256
from parsec_fs.protocol.ids import Hash, LogId, OrgId, ServerLogId
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.records import EpochOpening, LogState
from parsec_fs.protocol.statements import SignedStatement, Statement
from tests.support import reference as ref

ids = st.binary(min_size=32, max_size=32)
sizes = st.integers(0, 2**64 - 1)
states = st.builds(
    LogState,
    log=ids.map(LogId),
    size=sizes,
    log_root=ids.map(Hash),
    map_root=ids.map(Hash),
    org_size=sizes,
)
worlds = st.dictionaries(
    ids.map(OrgId),
    st.lists(states, min_size=1, max_size=6, unique_by=lambda one: one.log),
    max_size=5,
)


def publish(world: dict[OrgId, list[LogState]], epoch: int) -> tuple[EpochOpening, Statement]:
    roots = {org: org_logs_map(org, logs).root() for org, logs in world.items()}
    opening = EpochOpening(epoch=epoch, map_root=orgs_map(roots).root(), salt=sha256(b"salt"))
    before = Frontier().extend([Hash(bytes(32))] * epoch)
    leaf = opening_leaf(opening)
    statement = Statement(
        chain_id=b"parsec-test",
        server_log=ServerLogId(bytes(32)),
        epoch=epoch,
        epoch_leaf=leaf,
        root=before.append(leaf).root(),
        time_ms=1,
    )
    return opening, statement


def prove(
    world: dict[OrgId, list[LogState]], opening: EpochOpening, org: OrgId, logs: tuple[LogId, ...]
) -> EpochProof:
    roots = {one: org_logs_map(one, states).root() for one, states in world.items()}
    known = {state.log: state for state in world.get(org, [])}
    logs_map = org_logs_map(org, list(known.values()))
    return EpochProof(
        statement=SignedStatement(statement=b"x", signature=bytes(64), co_signature=bytes(2420)),
        opening=opening,
        org_root=logs_map.root(),
        org_proof=orgs_map(roots).open(org_map_key(org)),
        logs=tuple(
            LogOpening(
                state=(known[log],) if log in known else (),
                proof=logs_map.open(log_map_key(org, log)),
            )
            for log in logs
        ),
    )


@given(worlds, ids.map(OrgId), ids.map(LogId), st.integers(0, 40))
def test_logs_open_as_they_were(
    world: dict[OrgId, list[LogState]], stranger: OrgId, absent: LogId, epoch: int
) -> None:
    opening, statement = publish(world, epoch)
    before = Frontier().extend([Hash(bytes(32))] * epoch)
    for org in [stranger, *world]:
        known = {state.log: state for state in world.get(org, [])}
        logs = (absent, *known)
        after, found = open_epoch(
            prove(world, opening, org, logs),
            statement,
            expected_epoch=epoch,
            expected_org=org,
            expected_logs=logs,
            before=before,
        )
        assert found == tuple(known.get(log) for log in logs)
        assert after.root() == statement.root


@given(worlds)
def test_maps_are_the_reference(world: dict[OrgId, list[LogState]]) -> None:
    roots: dict[bytes, bytes] = {}
    for org, logs in world.items():
        plain: list[list[ref.Plain]] = [
            [one.log, one.size, one.log_root, one.map_root, one.org_size] for one in logs
        ]
        roots[org] = ref.map_root(ref.org_entries(org, plain))
        assert org_logs_map(org, logs).root() == roots[org]
        assert log_state_hash(logs[0]) == ref.tagged("log-value", encode(logs[0]))
    opening, _ = publish(world, 0)
    assert opening.map_root == ref.map_root(ref.server_entries(roots))
    assert opening_leaf(opening) == ref.epoch_leaf(0, opening.map_root, opening.salt)


ORG, LOG = OrgId(bytes([1]) * 32), LogId(bytes([2]) * 32)
STATE = LogState(log=LOG, size=1, log_root=Hash(ORG), map_root=Hash(LOG), org_size=1)
WORLD = {ORG: [STATE, replace(STATE, log=LogId(ORG))], OrgId(LOG): [STATE]}


@pytest.mark.parametrize("lie", ["epoch", "hidden", "shown", "state", "log", "root", "answer"])
def test_lie_about_a_log_is_refused(lie: str) -> None:
    opening, statement = publish(WORLD, 3)
    absent = LogId(bytes([9]) * 32)
    proof = prove(WORLD, opening, ORG, (LOG, absent))
    there, away = proof.logs
    before = Frontier().extend([Hash(bytes(32))] * 3)
    match lie:
        case "epoch":
            before = before.append(Hash(bytes(32)))
        case "hidden":
            proof = replace(proof, logs=(replace(there, state=()), away))
        case "shown":
            proof = replace(proof, logs=(there, replace(away, state=(STATE,))))
        case "state":
            changed = replace(STATE, size=2)
            proof = replace(proof, logs=(replace(there, state=(changed,)), away))
        case "log":
            proof = replace(proof, logs=(there, there))
        case "root":
            proof = replace(proof, org_root=Hash(bytes(32)))
        case _:
            before = Frontier().extend([Hash(ORG)] * 3)
    with pytest.raises(ProofError):
        open_epoch(
            proof,
            statement,
            expected_epoch=3,
            expected_org=ORG,
            expected_logs=(LOG, absent),
            before=before,
        )


def test_state_of_another_log_under_this_key_is_refused() -> None:
    """The server itself put a foreign state under the key of this log."""
    lying = {log_map_key(ORG, LOG): log_state_hash(replace(STATE, log=LogId(ORG)))}
    opening, statement = publish({}, 0)
    logs_map = org_logs_map(ORG, []).set_many(lying.items())
    roots = orgs_map({ORG: logs_map.root()})
    opening = replace(opening, map_root=roots.root())
    leaf = opening_leaf(opening)
    statement = replace(statement, epoch_leaf=leaf, root=Frontier().append(leaf).root())
    proof = EpochProof(
        statement=SignedStatement(statement=b"x", signature=bytes(64), co_signature=bytes(2420)),
        opening=opening,
        org_root=logs_map.root(),
        org_proof=roots.open(org_map_key(ORG)),
        logs=(
            LogOpening(
                state=(replace(STATE, log=LogId(ORG)),), proof=logs_map.open(log_map_key(ORG, LOG))
            ),
        ),
    )
    with pytest.raises(ProofError):
        open_epoch(
            proof,
            statement,
            expected_epoch=0,
            expected_org=ORG,
            expected_logs=(LOG,),
            before=Frontier(),
        )
