"""The only user of hashlib: one function and one tag per purpose.

Data flow: record bytes -> tagged SHA-256 -> leaf, map, history, statement.

Every tag is `parsec-fs/1/<purpose>` followed by a zero byte, so that bytes of one purpose are never
valid for another (attack A52). Changing a tag is a new protocol version.
RFC 6962 tree hashes keep their standard prefixes 0x00 and 0x01; their inputs are tagged.
"""

import hashlib
import hmac
from typing import Final

from parsec_fs.protocol.ids import Hash


def tag(purpose: str) -> bytes:
    """Domain separation prefix of a purpose."""
    return b"parsec-fs/1/" + purpose.encode() + b"\x00"


def sha256(data: bytes | bytearray | memoryview) -> Hash:
    """Plain SHA-256, for contents whose context is bound elsewhere (block digests, CometBFT)."""
    return Hash(hashlib.sha256(data).digest())


def _tagged(purpose: bytes, *parts: bytes) -> Hash:
    return Hash(hashlib.sha256(purpose + b"".join(parts)).digest())


_LEAF: Final = tag("leaf")
_BODY: Final = tag("body")
_HEADER: Final = tag("header")
_OBJECT: Final = tag("object-record")
_RECORDS_LEAF: Final = tag("records-leaf")
_HISTORY: Final = tag("history")
_MAP_LEAF: Final = tag("map-leaf")
_MAP_INNER: Final = tag("map-inner")
_MAP_KEY: Final = tag("map-key")
_MAP_EMPTY: Final = tag("map-empty")
_MAP_VALUE: Final = tag("map-value")
_PAYLOAD: Final = tag("payload")
_SERVER: Final = tag("server-log")
_ORG_KEY: Final = tag("org-key")
_LOG_KEY: Final = tag("log-key")
_LOG_VALUE: Final = tag("log-value")
_EPOCH: Final = tag("epoch")
_STAMP: Final = tag("stamp")
_KEY_COMMIT: Final = tag("realm-key-commitment")
_BOX: Final = tag("box")
_GENESIS: Final = tag("genesis")
_CHAIN: Final = tag("validator-set")
_CHAIN_HISTORY: Final = tag("chain-history")
_TOKEN: Final = tag("founding-token")


def rfc6962_leaf(data: bytes) -> Hash:
    """RFC 6962 section 2.1."""
    return Hash(hashlib.sha256(b"\x00" + data).digest())


def rfc6962_node(left: bytes, right: bytes) -> Hash:
    """RFC 6962 section 2.1."""
    return Hash(hashlib.sha256(b"\x01" + left + right).digest())


EMPTY_TREE: Final = Hash(hashlib.sha256(b"").digest())
"""Root of the empty RFC 6962 tree."""

EMPTY_MAP: Final = _tagged(_MAP_EMPTY)
"""Root of the empty prefix map."""


def leaf_hash(leaf_header: bytes) -> Hash:
    """Leaf of an org or realm log: RFC 6962 leaf of the tagged leaf header."""
    return rfc6962_leaf(_LEAF + leaf_header)


def body_hash(body: bytes) -> Hash:
    """What a leaf header says about its body."""
    return _tagged(_BODY, body)


def signed_hash(signed: bytes) -> Hash:
    """Identity of a signed record, as the device chain names it (rule 1)."""
    return _tagged(_HEADER, signed)


def object_record_hash(commit_hash: bytes, record: bytes) -> Hash:
    """What the map and the history digest of an object take in (rule 3)."""
    return _tagged(_OBJECT, commit_hash, record)


def records_leaf(record: bytes) -> Hash:
    """Leaf of the Merkle tree over the object records of one commit (rule 3)."""
    return rfc6962_leaf(_RECORDS_LEAF + record)


def history_digest(previous: bytes, record_hash: bytes) -> Hash:
    """Checkpoint of one metadata file: its whole history in 32 bytes (decisions.md 5)."""
    return _tagged(_HISTORY, previous, record_hash)


def map_leaf(key: bytes, value_hash: bytes) -> Hash:
    """Leaf of the prefix map."""
    return _tagged(_MAP_LEAF, key, value_hash)


def map_inner(bit: int, left: bytes, right: bytes) -> Hash:
    """Inner node of the prefix map; the tested bit is hashed, so paths are unique."""
    return Hash(
        hashlib.sha256(b"%b%b%b%b" % (_MAP_INNER, bit.to_bytes(2, "big"), left, right)).digest()
    )


def map_key(kind: bytes, subject: bytes) -> Hash:
    """Key in the map of a log. `kind` keeps objects and reserved entries apart (rule 6)."""
    return _tagged(_MAP_KEY, kind, b"\x00", subject)


def map_value(value: bytes) -> Hash:
    """Hash of an encoded map value."""
    return _tagged(_MAP_VALUE, value)


def payload_hash(sealed: bytes) -> Hash:
    """Digest of a sealed manifest, named by its object record."""
    return _tagged(_PAYLOAD, sealed)


def server_log_id(name: bytes, head_key: bytes, co_key: bytes) -> Hash:
    """Identity of a server on the chain."""
    return _tagged(_SERVER, len(name).to_bytes(2, "big"), name, head_key, co_key)


def org_map_key(org_id: bytes) -> Hash:
    """Key of an organization in the epoch map (rule 17: one place, no blinding)."""
    return _tagged(_ORG_KEY, org_id)


def log_map_key(org_id: bytes, log_id: bytes) -> Hash:
    """Key of a log in the map of its organization."""
    return _tagged(_LOG_KEY, org_id, log_id)


def log_value(state: bytes) -> Hash:
    """Value of a log in the map of its organization: hash of the encoded LogState."""
    return _tagged(_LOG_VALUE, state)


def epoch_leaf(opening: bytes) -> Hash:
    """Leaf hash of one epoch in the tree E: RFC 6962 leaf of the tagged opening."""
    return rfc6962_leaf(_EPOCH + opening)


def read_stamp(secret: bytes) -> Hash:
    """A blinded read: hides who read, proves that the read came after (verifiable-history 3.5)."""
    return _tagged(_STAMP, secret)


def realm_key_commitment(realm_key: bytes, context: bytes) -> Hash:
    """Binds a rotation to one key, so that all members hold the same (attack A15)."""
    return Hash(hmac.new(realm_key, _KEY_COMMIT + context, hashlib.sha256).digest())


def box_hash(box: bytes) -> Hash:
    """Digest of a sealed key box."""
    return _tagged(_BOX, box)


def genesis_hash(signed_genesis: bytes) -> Hash:
    """Identity of an organization: hash of its signed genesis record."""
    return _tagged(_GENESIS, signed_genesis)


def validator_set_hash(encoded: bytes) -> Hash:
    """Digest of a trust anchor's validator list, for people to compare."""
    return _tagged(_CHAIN, encoded)


def chain_history_leaf(signed_statement: bytes) -> Hash:
    """Leaf of the chain's own log of everything it accepted (chain application state)."""
    return rfc6962_leaf(_CHAIN_HISTORY + signed_statement)


def founding_token_hash(token: bytes) -> Hash:
    """What a server keeps of a one-time token: nobody who reads its database can found with it."""
    return _tagged(_TOKEN, token)


def keyed(key: bytes, purpose: str, data: bytes) -> bytes:
    """HMAC-SHA-256 under a secret: page choice by name, page ids (rule 11)."""
    return hmac.new(key, tag(purpose) + data, hashlib.sha256).digest()
