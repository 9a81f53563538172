"""The only encoding: canonical msgpack arrays of integers, byte strings and arrays (rule 2).

Data flow: record dataclass -> `encode` -> bytes that are hashed, signed, stored, sent -> `decode`.

A record is declared once, as a frozen dataclass; its fields in order are the array. A record type
that is hashed or signed gets its domain separation from a tag in `hashing`, not from here.
Optional fields are arrays of zero or one item. There is no text, float, boolean, map, nil or ext.

The decoder re-encodes and compares (only the shortest form exists) and checks exact types and
ranges (`True == 1 == 1.0` would otherwise re-encode alike). It raises DataError and nothing else.

Plain values are larger than their bytes, an empty array 64 times. What no schema would take must
not fill the memory before the schema sees it: no array is longer than the schema's longest, and of
large inputs the number of values is bounded by their size, so that decoding takes at most twenty
times the size of the input, and 80 MiB for arrays that claim what they do not hold.
"""

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgpack

from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import LENGTHS
from parsec_fs.protocol.limits import BATCH_MAX_SIZE

T = TypeVar("T")

_MOST_ITEMS: Final = 2**20
"""In an array that declares no bound."""
_FREE_ITEMS: Final = 2**16
"""Values that any input may hold: some MiB."""
_BYTES_PER_ITEM: Final = 8
"""Of records with many items the densest, references of blocks, have 15 bytes per value."""


class IntRange(NamedTuple):
    """Annotation: inclusive bounds of an integer."""

    lowest: int
    highest: int


class Size(NamedTuple):
    """Annotation: inclusive bounds of the length of a byte string or an array."""

    least: int
    most: int


class Increasing(NamedTuple):
    """Annotation: the items of an array strictly increase in their first field (or themselves)."""


U8 = Annotated[int, IntRange(0, 2**8 - 1)]
U16 = Annotated[int, IntRange(0, 2**16 - 1)]
U32 = Annotated[int, IntRange(0, 2**32 - 1)]
U64 = Annotated[int, IntRange(0, 2**64 - 1)]
I64 = Annotated[int, IntRange(-(2**63), 2**63 - 1)]
Bytes32 = Annotated[bytes, Size(32, 32)]
Bytes64 = Annotated[bytes, Size(64, 64)]
Label = Annotated[bytes, Size(1, 255)]

Pack = Callable[[Any], Any]
Load = Callable[[Any], Any]


def encode(record: Any) -> bytes:
    """Canonical bytes of a record. Raises DataError if a field breaks its declaration."""
    plain = _dump(record)
    schema(type(record)).load(plain)
    return _pack(plain)


def encode_trusted(record: Any) -> bytes:
    """As `encode`, for records this program just built from checked parts: no second check."""
    return _pack(_dump(record))


def decode(cls: type[T], data: bytes, *, max_size: int = BATCH_MAX_SIZE) -> T:
    """Parse exactly one record of type `cls`. Raises DataError."""
    if len(data) > max_size:
        raise DataError(f"{cls.__name__}: {len(data)} bytes, at most {max_size} allowed")
    compiled = schema(cls)
    result: T = compiled.load(unpack(data, longest=compiled.longest))
    return result


def unpack(data: bytes, *, longest: int = _MOST_ITEMS) -> Any:
    """Canonical plain value, with arrays of at most `longest` items; that it holds only int, bytes
    and list is the schema's to check. Raises DataError."""
    # Each value has a byte at least: small inputs need no counting.
    count = _Counter(len(data)).take if len(data) > _FREE_ITEMS else None
    try:
        plain = msgpack.unpackb(
            data,
            raw=True,
            strict_map_key=True,
            max_ext_len=0,
            max_map_len=0,
            max_array_len=min(longest, len(data)),
            list_hook=count,
        )
        again = _pack(plain)
    except Exception as error:
        raise DataError("not canonical msgpack") from error
    if again != data:
        raise DataError("not the shortest encoding")
    return plain


class _Counter:
    """Counts what is unpacked, array by array, each as soon as it is whole."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = _FREE_ITEMS + size // _BYTES_PER_ITEM

    def take(self, items: list[Any]) -> list[Any]:
        """The same list. Raises DataError when there are too many values for the input's size."""
        self._left -= 1 + len(items)
        if self._left < 0:
            raise DataError("too many values for so few bytes")
        return items


def _pack(plain: Any) -> bytes:
    packed: bytes = msgpack.packb(plain, use_bin_type=True)
    return packed


def _dump(value: Any) -> Any:
    cls = type(value)
    if cls is bytes or cls is int:
        return value
    if cls is tuple:
        return [_dump(item) for item in value]
    fields = _FIELDS.get(cls)
    if fields is None:
        if not dataclasses.is_dataclass(cls):
            return value
        fields = _FIELDS[cls] = _field_getters(cls)
    return [_dump(field(value)) for field in fields]


_FIELDS: dict[Any, tuple[Callable[[Any], Any], ...]] = {}


def _field_getters(cls: Any) -> tuple[Callable[[Any], Any], ...]:
    return tuple(attrgetter(name) for name in _field_names(cls))


def _field_names(cls: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


class Schema(NamedTuple):
    """How to build a value of a declared type from a plain value, or raise DataError; `longest`
    array that such a value may hold."""

    load: Load
    longest: int


_SCHEMAS: dict[Any, Schema] = {}


def schema(cls: Any) -> Schema:
    """The compiled schema of a record class."""
    if cls not in _SCHEMAS:
        _SCHEMAS[cls] = _compile(cls)
    return _SCHEMAS[cls]


def _compile(cls: Any) -> Schema:
    hints = get_type_hints(cls, include_extras=True)
    names = _field_names(cls)
    loaders = [_loader(hints[name], f"{cls.__name__}.{name}") for name in names]
    count = len(names)

    def load(plain: Any) -> Any:
        if type(plain) is not list or len(plain) != count:
            raise DataError(f"{cls.__name__}: expected an array of {count}")
        values = {
            name: loader(item) for name, loader, item in zip(names, loaders, plain, strict=True)
        }
        return cls(**values)

    return Schema(load, max([count, *[_longest(hints[name]) for name in names]]))


def _longest(hint: Any) -> int:
    """Items of the longest array that a value of this type may hold."""
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        notes = tuple(rest)
    if dataclasses.is_dataclass(hint):
        return schema(hint).longest
    if get_origin(hint) is not tuple:
        return 0
    size = next((note for note in notes if isinstance(note, Size)), Size(0, _MOST_ITEMS))
    return max(size.most, _longest(get_args(hint)[0]))


def _loader(hint: Any, where: str) -> Load:
    if hint in LENGTHS:
        return _bytes_loader(Size(LENGTHS[hint], LENGTHS[hint]), where)
    notes: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        notes = tuple(rest)
    size = next((note for note in notes if isinstance(note, Size)), None)
    if hint is int:
        bounds = next((note for note in notes if isinstance(note, IntRange)), None)
        return _int_loader(bounds or IntRange(0, 2**64 - 1), where)
    if hint is bytes:
        return _bytes_loader(size or Size(0, BATCH_MAX_SIZE), where)
    if get_origin(hint) is tuple:
        increasing = any(isinstance(note, Increasing) for note in notes)
        return _tuple_loader(get_args(hint)[0], size or Size(0, _MOST_ITEMS), increasing, where)
    if dataclasses.is_dataclass(hint):
        nested: Load = schema(hint).load
        return nested
    raise TypeError(f"{where}: {hint!r} cannot be encoded")


def _int_loader(bounds: IntRange, where: str) -> Load:
    lowest, highest = bounds

    def load(plain: Any) -> int:
        if type(plain) is not int or not lowest <= plain <= highest:
            raise DataError(f"{where}: expected an integer from {lowest} to {highest}")
        return plain

    return load


def _bytes_loader(size: Size, where: str) -> Load:
    least, most = size

    def load(plain: Any) -> bytes:
        if type(plain) is not bytes or not least <= len(plain) <= most:
            raise DataError(f"{where}: expected {least} to {most} bytes")
        return plain

    return load


def _tuple_loader(item: Any, size: Size, increasing: bool, where: str) -> Load:
    load_item = _loader(item, where)

    def load(plain: Any) -> tuple[Any, ...]:
        if type(plain) is not list and type(plain) is not tuple:
            raise DataError(f"{where}: expected an array")
        if not size.least <= len(plain) <= size.most:
            raise DataError(f"{where}: expected {size.least} to {size.most} items")
        values = tuple([load_item(one) for one in plain])
        if increasing:
            _check_increasing(plain, where)
        return values

    return load


def _check_increasing(plain: Any, where: str) -> None:
    keys = [one[0] if type(one) is list else one for one in plain]
    if any(first >= second for first, second in pairwise(keys)):
        raise DataError(f"{where}: items must strictly increase")
