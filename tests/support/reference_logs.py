"""A naive replay of whole logs, for comparison: roots and states from the leaves' bytes alone.

Data flow: honest leaves -> dictionaries -> roots, object states == what production says.

It checks no signature and no right; it says what an honest log *means*.
"""

from dataclasses import dataclass, field
from typing import Any

from tests.support import reference as ref

CERTIFICATE, COMMIT, STAMPS = 1, 2, 3
USER = 2
SUBJECTS = {
    1: b"org",
    2: b"user",
    3: b"device",
    4: b"realm",
    5: b"created",
    6: b"role",
    11: b"role",
}
ROTATION, USER_KEY = 7, 8
REVOKED = {9: 3, 10: 2}
"""A revocation stands in the map where its device or user stood."""


@dataclass
class Replayed:
    """What the leaves so far add up to."""

    leaf_hashes: list[bytes] = field(default_factory=list)
    entries: dict[bytes, bytes] = field(default_factory=dict)
    histories: dict[bytes, list[bytes]] = field(default_factory=dict)
    states: dict[bytes, list[Any]] = field(default_factory=dict)
    users: dict[bytes, list[Any]] = field(default_factory=dict)

    def log_root(self) -> bytes:
        return ref.tree(self.leaf_hashes)

    def map_root(self) -> bytes:
        return ref.map_root(self.entries)


def replay(leaves: list[bytes]) -> Replayed:
    """Encoded leaves of one log, from its beginning. AssertionError where a header lies."""
    result = Replayed()
    for index, encoded in enumerate(leaves):
        header, body = _list(ref.unpack(encoded))
        assert header == ref.leaf_header(
            index, header[1], header[2], header[3], result.map_root(), body
        )
        _take(result, index, header[1], body)
        result.leaf_hashes.append(ref.leaf_hash(header))
    return result


def _take(result: Replayed, index: int, kind: int, body: bytes) -> None:
    if kind == CERTIFICATE:
        record, _ = _list(ref.unpack(body))
        _, content_kind, _, content = _list(ref.unpack(record))
        _take_certificate(result, content_kind, _list(ref.unpack(content)))
    elif kind == COMMIT:
        record, signature, objects = _list(ref.unpack(body))
        name = ref.commit_name(record, signature)
        for one in objects:
            _take_object(result, index, name, one)
    else:
        assert kind == STAMPS


def _take_certificate(result: Replayed, kind: int, content: list[Any]) -> None:
    if kind == ROTATION:
        number, commitment, _, boxes_root, _ = content
        key, value = ref.map_key(b"key", b""), [number, commitment, boxes_root, number]
    else:
        if kind == USER_KEY:
            user, generation, box_key, _, _ = content
            kind, content = USER, [*result.users[user][:4], generation, box_key]
        if kind == USER:
            result.users[content[0]] = content
        kind = REVOKED.get(kind, kind)
        key, value = ref.map_key(SUBJECTS[kind], content[0]), content
    result.entries[key] = ref.map_value(value)


def _take_object(result: Replayed, index: int, name: bytes, record: list[Any]) -> None:
    object_id, version = record[0], record[1]
    history = result.histories.setdefault(object_id, [])
    history.append(ref.object_record_hash(name, record))
    flags = record[6]
    state = [version, index, history[-1], len(history), ref.history(history), flags]
    result.states[object_id] = state
    result.entries[ref.map_key(b"object", object_id)] = ref.map_value(state)


def _list(value: Any) -> list[Any]:
    assert isinstance(value, list)
    return value
