"""A naive second implementation of the formats in docs/protocol.md, for comparison only.

Data flow: plain values (int, bytes, list) -> bytes, hashes, roots, proofs == what production says.

It imports nothing of ours, so that a mistake would have to be made twice. It is slow and trusts its
input: recursion as in RFC 6962, whole trees rebuilt at every question, records as nested lists.
"""

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

Plain = int | bytes | list["Plain"]
ZERO = bytes(32)


def pack(value: Plain) -> bytes:
    """The one encoding of integers, byte strings and arrays (R-2)."""
    if isinstance(value, list):
        return _head(len(value), 0x90, 15, {2: 0xDC, 4: 0xDD}) + b"".join(map(pack, value))
    if isinstance(value, bytes):
        return _head(len(value), 0, -1, {1: 0xC4, 2: 0xC5, 4: 0xC6}) + value
    if value >= 0:
        return _head(value, 0, 127, {1: 0xCC, 2: 0xCD, 4: 0xCE, 8: 0xCF})
    if value >= -32:
        return bytes([256 + value])
    for size, code in {1: 0xD0, 2: 0xD1, 4: 0xD2, 8: 0xD3}.items():
        if value >= -(1 << 8 * size - 1):
            return bytes([code]) + value.to_bytes(size, "big", signed=True)
    raise ValueError("too small")


def _head(number: int, fixed: int, most_fixed: int, codes: dict[int, int]) -> bytes:
    if number <= most_fixed:
        return bytes([fixed + number])
    size = next(size for size in codes if number < 1 << 8 * size)
    return bytes([codes[size]]) + number.to_bytes(size, "big")


def unpack(data: bytes) -> Plain:
    """Inverse of `pack` for honest input."""
    value, rest = _unpack(data)
    assert rest == b""
    return value


_CODES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}
_CODES |= {0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8, 0xDC: 2, 0xDD: 4}


def _unpack(data: bytes) -> tuple[Plain, bytes]:
    code, data = data[0], data[1:]
    if code < 0x80:
        return code, data
    if code >= 0xE0:
        return code - 256, data
    if 0x90 <= code < 0xA0:
        return _unpack_items(code - 0x90, data)
    size = _CODES[code]
    signed = 0xD0 <= code <= 0xD3
    number, data = int.from_bytes(data[:size], "big", signed=signed), data[size:]
    if code in (0xDC, 0xDD):
        return _unpack_items(number, data)
    if code in (0xC4, 0xC5, 0xC6):
        return data[:number], data[number:]
    return number, data


def _unpack_items(count: int, data: bytes) -> tuple[Plain, bytes]:
    items: list[Plain] = []
    for _ in range(count):
        item, data = _unpack(data)
        items.append(item)
    return items, data


def tag(purpose: str) -> bytes:
    return b"parsec-fs/1/" + purpose.encode() + b"\x00"


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tagged(purpose: str, *parts: bytes) -> bytes:
    return sha256(tag(purpose) + b"".join(parts))


def tagged_leaf(purpose: str, data: bytes) -> bytes:
    return sha256(b"\x00" + tag(purpose) + data)


# Trees: RFC 6962, section 2.1, word for word.


def tree(leaves: list[bytes]) -> bytes:
    """Merkle tree hash over leaf hashes."""
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return sha256(b"\x01" + tree(leaves[:k]) + tree(leaves[k:]))


def _split(size: int) -> int:
    k = 1
    while 2 * k < size:
        k *= 2
    return k


def inclusion(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion(index, leaves[:k]), tree(leaves[k:])]
    return [*inclusion(index - k, leaves[k:]), tree(leaves[:k])]


def consistency(old: int, leaves: list[bytes]) -> list[bytes]:
    """PROOF(m, D[n]); empty for the empty tree."""
    return _subproof(old, leaves, True) if old else []


def _subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if old == len(leaves):
        return [] if whole else [tree(leaves)]
    k = _split(len(leaves))
    if old <= k:
        return [*_subproof(old, leaves[:k], whole), tree(leaves[k:])]
    return [*_subproof(old - k, leaves[k:], False), tree(leaves[:k])]


# The state map: one inner node per fork, the number of the tested bit is hashed.


def map_root(entries: dict[bytes, bytes]) -> bytes:
    """Root of the map of key -> value hash."""
    if not entries:
        return tagged("map-empty")
    if len(entries) == 1:
        ((key, value),) = entries.items()
        return tagged("map-leaf", key, value)
    bit, left, right = _fork(entries)
    return tagged("map-inner", bit.to_bytes(2, "big"), map_root(left), map_root(right))


def map_opening(entries: dict[bytes, bytes], key: bytes) -> list[Plain]:
    """[leaf, steps]: the leaf that the key's path ends at, and (bit, sibling) from the root on."""
    steps: list[Plain] = []
    while len(entries) > 1:
        bit, left, right = _fork(entries)
        entries, other = (right, left) if _bits(key)[bit] == "1" else (left, right)
        steps.append([bit, map_root(other)])
    leaf: list[Plain] = [part for item in entries.items() for part in item]
    return [leaf, steps]


def _fork(entries: dict[bytes, bytes]) -> tuple[int, dict[bytes, bytes], dict[bytes, bytes]]:
    bit = next(i for i in range(256) if len({_bits(key)[i] for key in entries}) == 2)
    sides: list[dict[bytes, bytes]] = [
        {key: value for key, value in entries.items() if _bits(key)[bit] == side} for side in "01"
    ]
    return bit, sides[0], sides[1]


def _bits(key: bytes) -> str:
    return f"{int.from_bytes(key, 'big'):0256b}"


def map_key(kind: bytes, subject: bytes) -> bytes:
    return tagged("map-key", kind, b"\x00", subject)


def map_value(record: Plain) -> bytes:
    return tagged("map-value", pack(record))


# Sealing.


def expand(key: bytes, info: bytes) -> tuple[bytes, bytes, bytes]:
    """(key, nonce, commitment) from HKDF-Expand-SHA-256."""
    okm = HKDFExpand(hashes.SHA256(), 76, info).derive(key)
    return okm[:32], okm[32:44], okm[44:]


def padme(size: int) -> int:
    """Padded length as in the PURBs paper, with its own words E and S."""
    if size < 2:
        return size
    e = size.bit_length() - 1
    s = e.bit_length()
    step = 1 << (e - s)
    return -(-size // step) * step


def manifest_context(
    org: bytes, realm: bytes, obj: bytes, version: int, key_index: int, author: bytes
) -> bytes:
    numbers = version.to_bytes(8, "big") + key_index.to_bytes(4, "big")
    return tag("manifest") + org + realm + obj + numbers + author


def seal_manifest(plain: bytes, key: bytes, key_index: int, context: bytes, salt: bytes) -> bytes:
    """suite | key index | salt | commitment | AES-256-GCM."""
    one, nonce, commitment = expand(key, context + salt)
    size = padme(len(plain) + 1)
    padded = (plain + b"\x80").ljust(size, b"\x00")
    sealed = AESGCM(one).encrypt(nonce, padded, context)
    return b"\x01" + key_index.to_bytes(4, "big") + salt + commitment + sealed


def seal_block(plain: bytes, realm: bytes, block: bytes, key: bytes) -> bytes:
    return AESGCM(key).encrypt(bytes(12), plain, tag("block") + realm + block)


def seal_local(plain: bytes, key: bytes, context: bytes, salt: bytes) -> bytes:
    one, nonce, _ = expand(key, tag("local") + context + salt)
    return salt + AESGCM(one).encrypt(nonce, plain, context)


def realm_key_commitment(key: bytes, context: bytes) -> bytes:
    return hmac.digest(key, tag("realm-key-commitment") + context, "sha256")


def keyed(key: bytes, purpose: str, data: bytes) -> bytes:
    return hmac.digest(key, tag(purpose) + data, "sha256")


# Signed records.


def public_key(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def sign(purpose: str, record: bytes, seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(tag(purpose) + record)


def certificate(header: Plain, kind: int, replaces: bytes, content: Plain, seed: bytes) -> bytes:
    """Body of a certificate leaf."""
    record = pack([header, kind, replaces, pack(content)])
    return pack([record, sign("certificate-signature", record, seed)])


def commit(
    header: Plain, key_index: int, preconditions: list[Plain], objects: list[Plain], seed: bytes
) -> bytes:
    """Body of a commit leaf; objects are sorted by id."""
    root = tree([tagged_leaf("records-leaf", pack(one)) for one in objects])
    record = pack([header, key_index, preconditions, len(objects), root])
    return pack([record, sign("commit-signature", record, seed), objects])


def commit_name(record: bytes, signature: bytes) -> bytes:
    return tagged("header", record + signature)


def object_record_hash(name: bytes, record: Plain) -> bytes:
    return tagged("object-record", name, pack(record))


def history(record_hashes: list[bytes]) -> bytes:
    """History digest over all operations of one object."""
    digest = ZERO
    for one in record_hashes:
        digest = tagged("history", digest, one)
    return digest


def leaf_header(
    index: int, kind: int, time_ms: int, org_size: int, root: bytes, body: bytes
) -> list[Plain]:
    return [index, kind, time_ms, org_size, root, tagged("body", body)]


def leaf_hash(header: Plain) -> bytes:
    return tagged_leaf("leaf", pack(header))


# Epochs.


def log_state(log: bytes, size: int, log_root: bytes, root: bytes, org_size: int) -> list[Plain]:
    return [log, size, log_root, root, org_size]


def org_entries(org: bytes, states: list[list[Plain]]) -> dict[bytes, bytes]:
    """Map of an organization: its logs' states."""
    return {
        tagged("log-key", org, bytes(state[0])): tagged("log-value", pack([*state]))  # type: ignore[arg-type]
        for state in states
    }


def server_entries(roots: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Map of a server: the roots of its organizations."""
    return {tagged("org-key", org): root for org, root in roots.items()}


def epoch_leaf(epoch: int, root: bytes, salt: bytes) -> bytes:
    return tagged_leaf("epoch", pack([epoch, root, salt]))


def server_log_id(name: bytes, head_key: bytes, co_key: bytes) -> bytes:
    return tagged("server-log", len(name).to_bytes(2, "big"), name, head_key, co_key)
