"""The codec against the reference encoder, and against any bytes.

Data flow: generated values and bytes -> `codec` == `reference.pack`, or DataError.
"""

import dataclasses
import tracemalloc
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsec_fs.protocol.certificates import CONTENT_CLASSES, Certificate
from parsec_fs.protocol.chain_types import LightBlock
from parsec_fs.protocol.codec import (
    I64,
    U8,
    U64,
    Bytes32,
    Increasing,
    Size,
    decode,
    encode,
    encode_trusted,
    unpack,
)
from parsec_fs.protocol.commands import CommitBatch, EpochProof, RequestToSign
from parsec_fs.protocol.commits import Commit, CommitBody
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import BlockId, Hash
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.manifests import (
    BlockRef,
    FileManifest,
    FolderManifest,
    PageManifest,
    decode_manifest,
)
from parsec_fs.protocol.realm_state import StampBatch
from parsec_fs.protocol.records import Head, Leaf, Refusal, Signed
from parsec_fs.protocol.statements import ServerRegistration, SignedStatement, Statement
from parsec_fs.workspace.nesting import FlatRefs
from tests.support import reference as ref

RECORDS: tuple[Any, ...] = (
    *CONTENT_CLASSES.values(),
    Certificate,
    LightBlock,
    CommitBatch,
    EpochProof,
    RequestToSign,
    Commit,
    CommitBody,
    FileManifest,
    FolderManifest,
    PageManifest,
    StampBatch,
    Head,
    Leaf,
    Refusal,
    Signed,
    ServerRegistration,
    SignedStatement,
    Statement,
)

integers = st.integers(-(2**63), 2**64 - 1)
plain = st.recursive(
    integers | st.binary(max_size=300), lambda inner: st.lists(inner, max_size=20), max_leaves=60
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """A nested record, ordered by its first field."""

    id: Bytes32
    rank: I64


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One field of every shape that records are made of."""

    small: U8
    large: U64
    signed: I64
    free: bytes
    bounded: Annotated[bytes, Size(1, 4)]
    many: Annotated[tuple[Inner, ...], Increasing(), Size(0, 5)]
    maybe: Annotated[tuple[Inner, ...], Size(0, 1)]
    numbers: tuple[U64, ...]


inner = st.builds(
    Inner, id=st.binary(min_size=32, max_size=32), rank=st.integers(-(2**63), 2**63 - 1)
)
samples = st.builds(
    Sample,
    small=st.integers(0, 255),
    large=st.integers(0, 2**64 - 1),
    signed=st.integers(-(2**63), 2**63 - 1),
    free=st.binary(max_size=70_000),
    bounded=st.binary(min_size=1, max_size=4),
    many=st.lists(inner, max_size=5, unique_by=lambda one: one.id).map(
        lambda many: tuple(sorted(many, key=lambda one: one.id))
    ),
    maybe=st.lists(inner, max_size=1).map(tuple),
    numbers=st.lists(st.integers(0, 2**64 - 1), max_size=40).map(tuple),
)


def as_plain(value: Any) -> ref.Plain:
    if dataclasses.is_dataclass(value):
        return [as_plain(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple):
        return [as_plain(one) for one in value]
    assert isinstance(value, int | bytes)
    return value


@given(samples)
def test_record_is_the_reference_encoding_and_comes_back(sample: Sample) -> None:
    encoded = encode(sample)
    assert encoded == ref.pack(as_plain(sample))
    assert decode(Sample, encoded) == sample


@given(plain)
def test_plain_value_comes_back(value: ref.Plain) -> None:
    encoded = ref.pack(value)
    assert unpack(encoded) == value
    assert ref.unpack(encoded) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_one_value_or_data_error(data: bytes) -> None:
    try:
        unpack(data)
    except DataError:
        return
    with pytest.raises(DataError):
        unpack(data + b"\x00")


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
@settings(max_examples=settings().max_examples // 3)
@given(data=st.binary(max_size=400) | plain.map(ref.pack))
def test_record_parser_raises_data_error_only(cls: type, data: bytes) -> None:
    try:
        record: Any = decode(cls, data)
    except DataError:
        return
    assert encode(record) == data


@given(
    st.binary(max_size=400)
    | st.tuples(st.integers(0, 6), plain).map(lambda pair: bytes([pair[0]]) + ref.pack(pair[1]))
)
def test_manifest_parser_raises_data_error_only(data: bytes) -> None:
    with pytest.raises(DataError):
        decode_manifest(data)


UNITS = (
    b"\x90",  # 64 times its size in memory
    b"\x91\x90",
    b"\x93\x90\x90\x90",
    b"\x00",
    b"\xcd\x01\x00",
    b"\xc4\x00",
    b"\xc4\x02ab",
    b"\xdc\x04\x00" + b"\x90" * 1024,
)


@pytest.mark.parametrize("cls", [Sample, CommitBatch, FlatRefs], ids=lambda cls: cls.__name__)
@settings(max_examples=8, deadline=None)
@given(
    units=st.lists(st.sampled_from(UNITS), min_size=1, max_size=6),
    whole=st.booleans(),
    wide=st.booleans(),
)
def test_decoding_takes_memory_by_the_size_of_the_input(
    cls: type, units: list[bytes], whole: bool, wide: bool
) -> None:
    """Whatever a hostile sender packs into an answer; what the schema refuses is never built."""
    some = b"".join(units)
    times = MIB // len(some)
    count = times * len(units) if whole else 2**32 - 1
    inner = b"\xdd" + count.to_bytes(4, "big") + some * times
    data = inner if wide else b"\x9f" + inner
    assert peak_of_refusal(cls, data) < 20 * len(data) + 8 * MIB


@pytest.mark.parametrize("claim", [1_000, 2**16, 2**20, 2**32 - 1])
def test_arrays_that_claim_what_they_do_not_hold(claim: int) -> None:
    """Each inside the one before, as deep as it goes."""
    data = (b"\xdd" + claim.to_bytes(4, "big")) * 2_000
    assert peak_of_refusal(FlatRefs, data) < 80 * MIB


def peak_of_refusal(cls: type, data: bytes) -> int:
    """Bytes in use at most while something is refused."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError):
            decode(cls, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_many_items_are_no_reason_to_refuse() -> None:
    """The densest records there are, far beyond what any input may hold: 17 bytes a value."""
    one = BlockRef(id=BlockId(bytes(16)), key=bytes(32), digest=Hash(bytes(32)), size=0)
    refs = FlatRefs(refs=(one,) * 100_000)
    assert decode(FlatRefs, encode_trusted(refs)) == refs


@given(samples, st.data())
def test_changed_byte_never_gives_the_same_record(sample: Sample, data: st.DataObject) -> None:
    encoded = bytearray(encode(sample))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    try:
        assert decode(Sample, bytes(encoded)) != sample
    except DataError:
        pass


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xcc\x05",  # 5 in two bytes
        b"\xcd\x00\xff",  # 255 in three
        b"\xd0\x05",  # 5 as a signed number
        b"\xc5\x00\x01a",  # one byte with a two-byte length
        b"\xdc\x00\x01\x05",  # array of one with a two-byte length
        b"\x05\x05",  # trailing bytes
        b"",
        b"\xc4\x05abc",  # cut short
        b"\xc1",  # never used
        b"\x81\x05\x05",  # a map
        b"\xc7\x01\x05a",  # an extension
        b"\xdd\xff\xff\xff\xff",  # an array larger than memory
        b"\x91" * 5000 + b"\x05",  # deeper than any stack
    ],
)
def test_second_encoding_of_a_value_is_refused(encoded: bytes) -> None:
    with pytest.raises(DataError):
        unpack(encoded)


@pytest.mark.parametrize("value", [True, 1.0, None, "1", -1, 256, b"1", [1]])
def test_integer_field_takes_integers_only(value: Any) -> None:
    @dataclasses.dataclass(frozen=True)
    class One:
        number: U8

    with pytest.raises(DataError):
        encode(One(value))
    for encoded in (
        b"\x91\xc3",
        b"\x91\xcb\x3f\xf0" + bytes(6),
        b"\x91\xc0",
        b"\x91\xa11",
        b"\x91\xc7\x00\x05",
    ):
        with pytest.raises(DataError):
            decode(One, encoded)


@pytest.mark.parametrize("many", [(2, 1), (1, 1)])
def test_items_must_increase(many: tuple[int, int]) -> None:
    items = tuple(Inner(id=bytes(31) + bytes([one]), rank=0) for one in many)
    plain_sample: list[ref.Plain] = [0, 0, 0, b"", b"x", [as_plain(one) for one in items], [], []]
    with pytest.raises(DataError):
        decode(Sample, ref.pack(plain_sample))


def test_size_limits_hold() -> None:
    with pytest.raises(DataError):
        decode(Sample, bytes(11), max_size=10)
    with pytest.raises(DataError):
        decode(Sample, ref.pack([0, 0, 0, b"", b"", [], [], []]))
    with pytest.raises(DataError):
        decode(Sample, ref.pack([0, 0, 0, b"", b"x", 5, [], []]))
    with pytest.raises(DataError):
        decode(Sample, ref.pack([0, 0, 0, b"", b"x", [], [[bytes(32), 0]] * 2, []]))


def test_undeclarable_field_is_a_bug() -> None:
    @dataclasses.dataclass(frozen=True)
    class Wrong:
        text: str

    with pytest.raises(TypeError):
        encode(Wrong("x"))
