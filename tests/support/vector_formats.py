"""Test vectors of single formats, good and bad, made by the reference alone.

Data flow: fixed inputs -> `tests.support.reference` -> dictionaries -> tests/vectors/*.json.

Bytes are hex. A bad case names the error class that a verifier raises.
"""

from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.support import reference as ref
from tests.support.reference import Plain

Case = dict[str, Any]
Vectors = dict[str, list[Case]]

ORG, REALM = ref.sha256(b"organization"), ref.sha256(b"realm")
OBJECT, DEVICE = ref.sha256(b"object")[:16], ref.sha256(b"device")[:16]
BLOCK, KEY, SALT = ref.sha256(b"block")[:16], ref.sha256(b"key"), ref.sha256(b"salt")
FIELD_PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def bad(name: str, error: str, **fields: Any) -> Case:
    return {"name": name, **fields, "error": error}


def flip(data: bytes, at: int = -1) -> bytes:
    """One bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def readable(value: Plain) -> Any:
    """A plain value in JSON: bytes as hex strings."""
    if isinstance(value, list):
        return [readable(one) for one in value]
    return value.hex() if isinstance(value, bytes) else value


def encoding() -> Vectors:
    numbers = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1]
    numbers += [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**63)]
    values: list[Plain] = [*numbers, *(bytes(size) for size in (0, 1, 31, 255, 256))]
    values += [[], [1, b"a", [b"b", [2]]], [0] * 15, [0] * 16]
    refused = {
        "number-not-shortest": "cc05",
        "number-not-shortest-16": "cd00ff",
        "positive-as-signed": "d005",
        "bytes-not-shortest": "c5000161",
        "array-not-shortest": "dc000105",
        "trailing-byte": "0505",
        "nothing": "",
        "cut-short": "c405616263",
        "reserved-code": "c1",
        "map": "810505",
        "array-beyond-input": "ddffffffff",
        "bytes-beyond-input": "c6ffffffff",
    }
    return {
        "good": [{"value": readable(one), "encoded": ref.pack(one).hex()} for one in values],
        "bad": [bad(name, "DataError", encoded=one) for name, one in refused.items()],
        "bad_precondition": _bad_typed(),
    }


def _bad_typed() -> list[Case]:
    """Well-formed msgpack that is no `Precondition`: [object 16, version u64, write 32]."""
    write = ref.ZERO
    wrong: dict[str, Plain] = {
        "field-missing": [OBJECT, 1],
        "field-too-many": [OBJECT, 1, write, 0],
        "id-too-short": [OBJECT[1:], 1, write],
        "negative": [OBJECT, -1, write],
        "number-where-bytes": [1, 1, write],
        "bytes-where-number": [OBJECT, b"\x01", write],
        "array-where-number": [OBJECT, [1], write],
        "not-an-array": OBJECT,
    }
    cases = [bad(name, "DataError", encoded=ref.pack(one).hex()) for name, one in wrong.items()]
    head, tail = b"\x93" + ref.pack(OBJECT), ref.pack(write)
    for name, version in {
        "true": b"\xc3",
        "float": b"\xcb\x3f\xf0" + bytes(6),
        "nil": b"\xc0",
    }.items():
        cases.append(bad(name, "DataError", encoded=(head + version + tail).hex()))
    text = b"\x93\xb0" + OBJECT + b"\x01" + tail
    return [*cases, bad("text-where-bytes", "DataError", encoded=text.hex())]


def hashing() -> Vectors:
    a, b = ref.sha256(b"a"), ref.sha256(b"b")
    cases = [
        ("rfc6962_leaf", [a], ref.sha256(b"\x00" + a)),
        ("rfc6962_node", [a, b], ref.sha256(b"\x01" + a + b)),
        ("leaf_hash", [a], ref.tagged_leaf("leaf", a)),
        ("body_hash", [a], ref.tagged("body", a)),
        ("signed_hash", [a], ref.tagged("header", a)),
        ("object_record_hash", [a, b], ref.tagged("object-record", a, b)),
        ("records_leaf", [a], ref.tagged_leaf("records-leaf", a)),
        ("history_digest", [a, b], ref.tagged("history", a, b)),
        ("map_leaf", [a, b], ref.tagged("map-leaf", a, b)),
        ("map_key", [b"role", a[:16]], ref.map_key(b"role", a[:16])),
        ("map_value", [a], ref.tagged("map-value", a)),
        ("payload_hash", [a], ref.tagged("payload", a)),
        ("server_log_id", [b"name", a, b], ref.server_log_id(b"name", a, b)),
        ("org_map_key", [a], ref.tagged("org-key", a)),
        ("log_map_key", [a, b], ref.tagged("log-key", a, b)),
        ("log_value", [a], ref.tagged("log-value", a)),
        ("epoch_leaf", [a], ref.tagged_leaf("epoch", a)),
        ("read_stamp", [a], ref.tagged("stamp", a)),
        ("realm_key_commitment", [a, b], ref.realm_key_commitment(a, b)),
        ("box_hash", [a], ref.tagged("box", a)),
        ("genesis_hash", [a], ref.tagged("genesis", a)),
        ("founding_token_hash", [a], ref.tagged("founding-token", a)),
        ("validator_set_hash", [a], ref.tagged("validator-set", a)),
        ("chain_history_leaf", [a], ref.tagged_leaf("chain-history", a)),
    ]
    inner = ref.tagged("map-inner", (258 - 3).to_bytes(2, "big"), a, b)
    return {
        "good": [
            {"function": name, "inputs": readable([*inputs]), "output": output.hex()}
            for name, inputs, output in cases
        ],
        "map_inner": [{"bit": 255, "left": a.hex(), "right": b.hex(), "output": inner.hex()}],
        "keyed": [
            {
                "key": a.hex(),
                "purpose": "page-id",
                "data": b.hex(),
                "output": ref.keyed(a, "page-id", b).hex(),
            }
        ],
    }


def trees() -> Vectors:
    """Leaf i is SHA-256 of the byte i."""
    leaves = [ref.sha256(bytes([index])) for index in range(64)]
    roots = {size: ref.tree(leaves[:size]).hex() for size in (0, 1, 2, 3, 4, 5, 7, 8, 9, 33, 64)}
    inclusion = [
        {
            "index": index,
            "size": size,
            "proof": [one.hex() for one in ref.inclusion(index, leaves[:size])],
            "root": ref.tree(leaves[:size]).hex(),
        }
        for index, size in [(0, 1), (0, 2), (1, 3), (2, 3), (4, 7), (6, 7), (7, 8), (32, 33)]
    ]
    consistency = [
        {
            "old": old,
            "new": new,
            "old_root": ref.tree(leaves[:old]).hex(),
            "new_root": ref.tree(leaves[:new]).hex(),
            "proof": [one.hex() for one in ref.consistency(old, leaves[:new])],
        }
        for old, new in [(0, 5), (1, 2), (3, 7), (4, 7), (6, 7), (7, 7), (8, 33), (21, 64)]
    ]
    one, other = inclusion[4], consistency[2]
    wrong = {"proof": [*one["proof"], leaves[0].hex()]}  # type: ignore[misc]
    return {
        "roots": [{"size": size, "root": root} for size, root in roots.items()],
        "inclusion": inclusion,
        "consistency": consistency,
        "bad_inclusion": [
            bad("proof-too-long", "ProofError", **{**one, **wrong}),
            bad("proof-too-short", "ProofError", **{**one, "proof": one["proof"][:-1]}),  # type: ignore[index]
            bad("other-index", "ProofError", **{**one, "index": 5}),
            bad("index-beyond-size", "ProofError", **{**one, "index": 7}),
            bad("other-size", "ProofError", **{**one, "size": 9}),
            bad("other-root", "ProofError", **{**one, "root": roots[8]}),
        ],
        "bad_consistency": [
            bad("new-before-old", "ProofError", **{**other, "old": 8}),
            bad("no-proof", "ProofError", **{**other, "proof": []}),
            bad("other-old-root", "ProofError", **{**other, "old_root": roots[4]}),
            bad("other-new-root", "ProofError", **{**other, "new_root": roots[8]}),
            bad("two-roots-for-one-size", "ProofError", **{**other, "old": 7, "proof": []}),
        ],
    }


def state_map() -> Vectors:
    """Keys are map keys of the objects 0, 1, 2 ...; value hashes SHA-256 of the number's byte."""

    def entries(count: int) -> dict[bytes, bytes]:
        return {
            ref.map_key(b"object", bytes([one]) * 16): ref.sha256(bytes([one]))
            for one in range(count)
        }

    roots = [{"count": count, "root": ref.map_root(entries(count)).hex()} for count in range(9)]
    full = entries(8)
    root = ref.map_root(full).hex()
    good = []
    for one in (0, 5, 9):
        key = ref.map_key(b"object", bytes([one]) * 16)
        value = full[key].hex() if key in full else None
        opening = ref.pack(ref.map_opening(full, key)).hex()
        good.append({"key": key.hex(), "root": root, "opening": opening, "value": value})
    present, absent = good[0], good[2]
    stranger = {"key": ref.sha256(b"stranger").hex()}
    leaf, steps = ref.map_opening(full, bytes.fromhex(present["key"] or ""))
    assert isinstance(leaf, list)
    assert isinstance(steps, list)
    broken: dict[str, Plain] = {
        "leaf-of-another-value": [[leaf[0], ref.sha256(b"x")], steps],
        "leaf-without-value": [[leaf[0]], steps],
        "no-leaf": [[], steps],
        "step-missing": [leaf, steps[1:]],
        "steps-not-increasing": [leaf, [steps[0], *steps]],
    }
    return {
        "roots": roots,
        "good": good,
        "bad": [
            bad("other-key-on-another-path", "ProofError", **{**present, **stranger}),
            bad("other-root", "ProofError", **{**absent, "root": roots[7]["root"]}),
            *(
                bad(name, "ProofError", **{**present, "opening": ref.pack(one).hex()})
                for name, one in broken.items()
            ),
        ],
    }


def ed25519() -> Vectors:
    seed, message = ref.sha256(b"signer"), b"message"
    key, signature = ref.public_key(seed), ref.sign("head-signature", message, seed)
    s = int.from_bytes(signature[32:], "little")
    small = {
        "order-1": 1,
        "order-2": FIELD_PRIME - 1,
        "order-4": 0,
        "order-8": 2707385501144840649318225287225658788936804267575313519463743609750303021540,
        "order-8-negative-y": (
            55188659117513257062467267217118295137698188065244968500265048394206261417927
        ),
    }
    keys = {f"small-{name}": y for name, y in small.items()}
    keys |= {f"small-{name}-signed": y | 1 << 255 for name, y in small.items()}
    keys |= {"not-canonical": FIELD_PRIME + 3, "not-canonical-order-1": FIELD_PRIME + 1}
    changed = {
        "s-plus-group-order": signature[:32] + (s + GROUP_ORDER).to_bytes(32, "little"),
        "r-changed": flip(signature, 5),
        "s-changed": flip(signature, 40),
        "r-of-small-order": (1).to_bytes(32, "little") + signature[32:],
        "r-not-canonical": (FIELD_PRIME + 1).to_bytes(32, "little") + signature[32:],
        "too-short": signature[:-1],
        "too-long": signature + b"\x00",
        "empty": b"",
    }
    return {
        "good": [
            {
                "seed": seed.hex(),
                "key": key.hex(),
                "message": (ref.tag("head-signature") + message).hex(),
                "signature": signature.hex(),
            }
        ],
        "bad_keys": [
            bad(name, "DataError", key=y.to_bytes(32, "little").hex()) for name, y in keys.items()
        ]
        + [bad("too-short", "DataError", key=key[:-1].hex())],
        "bad_signatures": [
            bad(name, "SignatureError", signature=one.hex()) for name, one in changed.items()
        ],
    }


def sealing() -> Vectors:
    context = ref.manifest_context(ORG, REALM, OBJECT, 7, 3, DEVICE)
    sealed = ref.seal_manifest(b"manifest", KEY, 3, context, SALT)
    block = ref.seal_block(b"content", REALM, BLOCK, KEY)
    other = ref.manifest_context(ORG, REALM, OBJECT, 8, 3, DEVICE)
    swapped = sealed[:37] + ref.expand(ref.sha256(b"other key"), context + SALT)[2] + sealed[69:]
    unpadded = _seal_padded(b"no padding at all", context)
    wrong = {
        "empty": (b"", "DataError"),
        "other-suite": (b"\x02" + sealed[1:], "DataError"),
        "without-content": (sealed[:85], "DataError"),
        "other-key-index": (sealed[:4] + b"\x04" + sealed[5:], "DecryptionError"),
        "other-salt": (flip(sealed, 5), "DecryptionError"),
        "commitment-of-another-key": (swapped, "DecryptionError"),
        "ciphertext-changed": (flip(sealed, 70), "DecryptionError"),
        "tag-changed": (flip(sealed), "DecryptionError"),
        "of-another-version": (
            ref.seal_manifest(b"manifest", KEY, 3, other, SALT),
            "DecryptionError",
        ),
        "without-padding-byte": (unpadded, "DataError"),
    }
    place = {"org": ORG.hex(), "realm": REALM.hex(), "object": OBJECT.hex(), "author": DEVICE.hex()}
    return {
        "manifest": [
            {
                **place,
                "version": 7,
                "key_index": 3,
                "key": KEY.hex(),
                "salt": SALT.hex(),
                "plain": b"manifest".hex(),
                "context": context.hex(),
                "sealed": sealed.hex(),
            }
        ],
        "bad_manifest": [
            bad(name, error, sealed=one.hex()) for name, (one, error) in wrong.items()
        ],
        "block": [
            {
                "realm": REALM.hex(),
                "id": BLOCK.hex(),
                "key": KEY.hex(),
                "plain": b"content".hex(),
                "sealed": block.hex(),
                "digest": ref.sha256(block).hex(),
            }
        ],
        "bad_block": [
            bad("changed", "DecryptionError", sealed=flip(block).hex()),
            bad("too-short", "DecryptionError", sealed=block[:-1].hex()),
            bad("empty", "DecryptionError", sealed=""),
        ],
        "local": [
            {
                "key": KEY.hex(),
                "context": b"journal".hex(),
                "salt": SALT.hex(),
                "plain": b"group".hex(),
                "sealed": ref.seal_local(b"group", KEY, b"journal", SALT).hex(),
            }
        ],
        "padme": [
            {"size": size, "padded": ref.padme(size)}
            for size in (0, 1, 2, 9, 17, 100, 129, 1000, 5000, 65537, 10**6)
        ],
    }


def _seal_padded(padded: bytes, context: bytes) -> bytes:
    """A manifest whose author forgot the padding."""
    one, nonce, commitment = ref.expand(KEY, context + SALT)
    sealed = AESGCM(one).encrypt(nonce, padded, context)
    return b"\x01" + (3).to_bytes(4, "big") + SALT + commitment + sealed
