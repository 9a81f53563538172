"""Framing of the ABCI socket: any split of the stream gives the same messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abci_app.wire import MESSAGE_MAX_SIZE, FrameReader, frame
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.protobuf_fields import varint

MESSAGES = [b"", b"a", b"b" * 127, b"c" * 128, b"d" * 20_000]


@pytest.mark.parametrize("step", [1, 2, 3, 127, 128, 129, 1000])
def test_messages_survive_any_split(step: int) -> None:
    stream = b"".join(frame(one) for one in MESSAGES)
    reader, found = FrameReader(), list[bytes]()
    for start in range(0, len(stream), step):
        reader.feed(stream[start : start + step])
        found.extend(reader.messages())
    assert found == MESSAGES


def test_length_split_between_two_reads_waits() -> None:
    reader = FrameReader()
    whole = frame(b"x" * 300)
    reader.feed(whole[:1])
    assert list(reader.messages()) == []
    reader.feed(whole[1:])
    assert list(reader.messages()) == [b"x" * 300]


@pytest.mark.parametrize("length", [MESSAGE_MAX_SIZE + 1, 2**40, 2**63])
def test_announced_giant_is_refused_before_it_is_read(length: int) -> None:
    reader = FrameReader()
    reader.feed(varint(length))
    with pytest.raises(DataError):
        list(reader.messages())


def test_largest_length_is_accepted() -> None:
    reader = FrameReader()
    reader.feed(varint(MESSAGE_MAX_SIZE))
    assert list(reader.messages()) == []


@given(st.binary(max_size=300))
def test_any_bytes_give_messages_or_data_error(data: bytes) -> None:
    reader = FrameReader()
    reader.feed(data)
    try:
        found = list(reader.messages())
    except DataError:
        return
    assert sum(len(one) + 1 for one in found) <= len(data)
