"""Evidence files: every lie is proven to a stranger, honest material never convicts anyone.

Data flow: `tests.support.evidence.Court` -> file -> `check_offline`.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.audit.evidence import (
    FORMAT,
    check_offline,
    decode_evidence,
    encode_evidence,
    file_name,
)
from parsec_fs.audit.report import verdict_json, verdict_text
from parsec_fs.audit.transitions import RealmTransition
from parsec_fs.audit.verdict import MEANINGS, Kind, NotProvenError
from parsec_fs.protocol.errors import DataError, VerificationError
from tests.support.evidence import Court
from tests.support.history import HonestServer

COURT = Court()
GUILTY = {name: encode_evidence(record) for name, record in COURT.guilty().items()}
CARELESS = {name: encode_evidence(record) for name, record in COURT.careless().items()}
INNOCENT = {name: encode_evidence(record) for name, record in COURT.innocent().items()}


@pytest.mark.parametrize("name", GUILTY)
def test_every_lie_is_proven_offline(name: str) -> None:
    verdict = check_offline(GUILTY[name], COURT.anchor)
    assert verdict.kind.code == name.split()[0]
    assert verdict.convicts_server == (verdict.kind not in (8, 9))
    assert verdict.meaning in verdict_text(verdict)
    assert verdict_json(verdict)["type"] == verdict.kind.code


@pytest.mark.parametrize("name", INNOCENT)
def test_honest_material_convicts_nobody(name: str) -> None:
    with pytest.raises(NotProvenError):
        check_offline(INNOCENT[name], COURT.anchor)


@pytest.mark.parametrize("name", CARELESS)
def test_a_careless_accuser_proves_nothing(name: str) -> None:
    with pytest.raises((DataError, VerificationError)):
        check_offline(CARELESS[name], COURT.anchor)


def test_every_type_of_evidence_is_here() -> None:
    kinds = {check_offline(file, COURT.anchor).kind for file in GUILTY.values()}
    assert kinds == set(Kind) == set(MEANINGS)


@pytest.mark.parametrize("name", GUILTY)
def test_the_anchor_decides_and_the_file_has_no_say(name: str) -> None:
    stranger = HonestServer(seed=b"another organization").anchor
    other_server = HonestServer(seed=b"x").anchor
    wrong = replace(stranger, server=other_server.server)
    if name in ("P7", "P8"):
        return  # about server and chain alone, which these worlds share
    with pytest.raises((DataError, VerificationError)):
        check_offline(GUILTY[name], wrong)


@pytest.mark.parametrize("name", GUILTY)
def test_files_are_canonical_and_readable(name: str) -> None:
    file = GUILTY[name]
    assert encode_evidence(decode_evidence(file)) == file
    text = json.loads(file[len(FORMAT) :].partition(b"\n")[0])
    assert name.split()[0] in text["types"]
    verdict = check_offline(file, COURT.anchor)
    assert file_name(file, verdict).startswith(verdict.kind.code.lower() + "-")


@pytest.mark.parametrize("name", GUILTY)
def test_the_text_for_people_cannot_be_changed(name: str) -> None:
    changed = GUILTY[name].replace(b'"types"', b'"Types"')
    with pytest.raises(DataError):
        decode_evidence(changed)


@pytest.mark.parametrize("name", GUILTY)
def test_what_is_left_out_is_never_held_against_anyone(name: str) -> None:
    """Openings dropped from a transition: the accuser's fault."""
    record = decode_evidence(GUILTY[name])
    if not isinstance(record, RealmTransition) or not record.openings or record.earlier:
        return  # two leaves of one device contradict each other without any opening
    with pytest.raises((DataError, VerificationError)) as caught:
        check_offline(encode_evidence(replace(record, openings=record.openings[1:])), COURT.anchor)
    assert not isinstance(caught.value, NotProvenError)


@given(data=st.binary(max_size=300))
def test_any_bytes_are_refused_as_data(data: bytes) -> None:
    first = GUILTY["P7"][: len(FORMAT)]
    for candidate in (data, first + data, GUILTY["P7"][:150] + data):
        with pytest.raises(DataError):
            check_offline(candidate, COURT.anchor)


@given(
    name=st.sampled_from(sorted(INNOCENT)),
    place=st.integers(0, 10**6),
    flip=st.integers(1, 255),
)
def test_no_mutation_of_honest_material_convicts(name: str, place: int, flip: int) -> None:
    file = bytearray(INNOCENT[name])
    file[place % len(file)] ^= flip
    with pytest.raises((DataError, VerificationError)):
        check_offline(bytes(file), COURT.anchor)


@given(
    name=st.sampled_from(sorted(GUILTY)),
    place=st.integers(0, 10**6),
    flip=st.integers(1, 255),
)
def test_a_mutation_is_refused_or_proves_the_same_type(name: str, place: int, flip: int) -> None:
    file = bytearray(GUILTY[name])
    file[place % len(file)] ^= flip
    try:
        verdict = check_offline(bytes(file), COURT.anchor)
    except (DataError, VerificationError):
        return
    # What nobody signed, as votes beyond two thirds, may differ without harm.
    assert verdict.kind == check_offline(GUILTY[name], COURT.anchor).kind
