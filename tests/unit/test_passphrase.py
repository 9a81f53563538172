"""Passphrases become keys: bounds of the cost, calibration, one form for all keyboards."""

from dataclasses import replace

import pytest

from parsec_fs.passphrase import (
    FLOOR,
    Cost,
    calibrated,
    check_cost,
    check_new_passphrase,
    passphrase_bytes,
    passphrase_key,
)
from parsec_fs.protocol.errors import DataError, InputError
from parsec_fs.protocol.limits import KIB, MIB

GIB = 1024 * MIB


@pytest.mark.parametrize(
    "cost",
    [
        replace(FLOOR, memory_kib=FLOOR.memory_kib - 1),
        replace(FLOOR, memory_kib=100 * GIB // KIB),
        replace(FLOOR, iterations=FLOOR.iterations - 1),
        replace(FLOOR, iterations=2**32 - 1),
        replace(FLOOR, lanes=0),
        replace(FLOOR, lanes=255),
    ],
)
def test_a_cost_that_nobody_would_write_is_refused_before_it_is_paid(cost: Cost) -> None:
    with pytest.raises(DataError, match="passphrase cost"):
        passphrase_key(b"correct horse", salt=bytes(32), cost=cost)


def test_salt_and_passphrase_and_cost_make_the_key() -> None:
    key = passphrase_key(b"correct horse", salt=bytes(32), cost=FLOOR)
    assert len(key) == 32
    assert key == passphrase_key(b"correct horse", salt=bytes(32), cost=FLOOR)
    assert key != passphrase_key(b"correct horsf", salt=bytes(32), cost=FLOOR)
    assert key != passphrase_key(b"correct horse", salt=b"s" * 32, cost=FLOOR)
    more = replace(FLOOR, iterations=FLOOR.iterations + 1)
    assert key != passphrase_key(b"correct horse", salt=bytes(32), cost=more)


@pytest.mark.parametrize(
    ("seconds", "memory", "mib"),
    [
        (0.175, 64 * GIB, 256),
        (0.07, 64 * GIB, 640),
        (0.0, 64 * GIB, 1024),
        (9.0, 64 * GIB, 64),
        (0.07, GIB, 256),
        (0.07, 128 * 1024 * KIB, 64),
    ],
)
def test_cost_follows_speed_and_memory_of_the_machine(
    seconds: float, memory: int, mib: int
) -> None:
    cost = calibrated(seconds, memory=memory)
    assert cost.memory_kib == mib * KIB
    assert check_cost(cost) == cost


def test_one_form_for_all_keyboards() -> None:
    assert passphrase_bytes("caf\u00e9 ole") == passphrase_bytes("cafe\u0301 ole")
    assert passphrase_bytes("caf\u00e9") == "caf\u00e9".encode()


@pytest.mark.parametrize("text", ["", "x" * 1025])
def test_a_passphrase_has_a_size(text: str) -> None:
    with pytest.raises(InputError, match="1 to 1,024 bytes"):
        passphrase_bytes(text)


def test_short_passphrases_are_not_set_and_not_shown() -> None:
    with pytest.raises(InputError, match="at least 10") as caught:
        check_new_passphrase("hunter2")
    assert "hunter2" not in str(caught.value)
    assert check_new_passphrase("ten chars.") == "ten chars."
