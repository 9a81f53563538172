"""Writes and reads tests/vectors: the third copy of the truth about formats.

Data flow: `scripts/make_vectors` -> tests/vectors/*.json -> tests of production, docs/protocol.md.

Everything follows from fixed inputs and is the same in every run, except what is randomised by its
nature (ML-DSA signatures, boxes): that is kept from the file as long as it still holds.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite

from tests.support import reference as ref
from tests.support import (
    vector_formats,
    vector_manifests,
    vector_records,
    vector_revocations,
    vector_user_keys,
)
from tests.support.reference_boxes import open_box
from tests.support.vector_formats import Case, Vectors, bad, flip
from tests.support.vector_records import CHAIN, CO_SEED, HEAD_SEED, SERVER_LOG

NEW_SEED, NEW_CO_SEED = ref.sha256(b"head 2"), ref.sha256(b"co 2")
FOLDER = Path(__file__).resolve().parents[1] / "vectors"


def read(name: str) -> dict[str, Any]:
    """One file of vectors."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return content


def statements(kept: dict[str, Any]) -> Vectors:
    leaf = ref.epoch_leaf(0, ref.map_root({}), ref.sha256(b"salt"))
    record = ref.pack([CHAIN, SERVER_LOG, 0, leaf, ref.tree([leaf]), 1_800_000_000_000])
    signature = ref.sign("statement-signature", record, HEAD_SEED)
    co_signature = _co_sign("statement-signature", record, CO_SEED, _kept(kept, "good"))
    good = {
        "statement": record.hex(),
        "signature": signature.hex(),
        "co_signature": co_signature.hex(),
    }
    other = ref.pack([b"other", SERVER_LOG, 0, leaf, ref.tree([leaf]), 1_800_000_000_000])
    changes = {
        "other-chain": {"statement": other.hex()},
        "statement-changed": {"statement": flip(record).hex()},
        "signature-changed": {"signature": flip(signature, 40).hex()},
        "co-signature-changed": {"co_signature": flip(co_signature).hex()},
    }
    return {
        "server": [
            {
                "name": b"server".hex(),
                "chain_id": CHAIN.hex(),
                "server_log": SERVER_LOG.hex(),
                "head_key": ref.public_key(HEAD_SEED).hex(),
                "co_key": vector_records.CO_KEY.hex(),
            }
        ],
        "good": [good],
        "bad": [bad(name, "SignatureError", **{**good, **one}) for name, one in changes.items()],
        **_after_a_change(record, good, kept),
    }


def _after_a_change(record: bytes, before: Case, kept: dict[str, Any]) -> Vectors:
    """The same statement under other keys, which the old ones named."""
    old = _kept(kept, "changed")
    co_key = MLDSA44PrivateKey.from_seed_bytes(NEW_CO_SEED).public_key().public_bytes_raw()
    change = ref.pack([CHAIN, SERVER_LOG, 0, ref.public_key(NEW_SEED), co_key])
    purpose = "key-change-signature"
    named = {
        "change": change.hex(),
        "signature": ref.sign(purpose, change, HEAD_SEED).hex(),
        "co_signature": _co_sign(purpose, change, CO_SEED, _kept(old, "changes")).hex(),
        "new_signature": ref.sign(purpose, change, NEW_SEED).hex(),
        "new_co_signature": _co_sign(
            purpose, change, NEW_CO_SEED, _kept(old, "changes"), "new_co_signature"
        ).hex(),
    }
    good = {
        "statement": record.hex(),
        "signature": ref.sign("statement-signature", record, NEW_SEED).hex(),
        "co_signature": _co_sign("statement-signature", record, NEW_CO_SEED, old).hex(),
        "changes": [named],
    }
    wrong: dict[str, Case] = {
        f"{field}-of-the-change-changed": {
            "changes": [{**named, field: flip(bytes.fromhex(named[field]), 40).hex()}]
        }
        for field in named
    }
    wrong["change-left-out"] = {"changes": []}
    wrong["change-twice"] = {"changes": [named, named]}
    wrong["old-keys-go-on"] = {**before, "changes": [named]}
    wrong["only-the-old-head-key"] = {"signature": before["signature"]}
    wrong["only-the-old-co-key"] = {"co_signature": before["co_signature"]}
    return {
        "changed": [good],
        "bad_change": [
            bad(name, "SignatureError", **{**good, **one}) for name, one in wrong.items()
        ],
    }


def _kept(kept: dict[str, Any], group: str) -> dict[str, Any]:
    """What was there before, of a group with one case."""
    cases = kept.get(group) or [{}]
    first: dict[str, Any] = cases[0]
    return first


def _co_sign(
    purpose: str,
    record: bytes,
    seed: bytes,
    kept: dict[str, Any],
    field: str = "co_signature",
) -> bytes:
    """ML-DSA is randomised: a signature that was there and still holds is kept."""
    key = MLDSA44PrivateKey.from_seed_bytes(seed)
    message = ref.tag(purpose) + record
    try:
        old = bytes.fromhex(kept[field])
        key.public_key().verify(old, message)
    except (LookupError, InvalidSignature):
        return key.sign(message)
    return old


def boxes(kept: dict[str, Any]) -> Vectors:
    seed = b"".join(ref.sha256(b"box" + bytes([part])) for part in range(3))
    info, secret = b"context", ref.sha256(b"secret")
    kem = MLKEM768PrivateKey.from_seed_bytes(seed[:64]).public_key().public_bytes_raw()
    curve = X25519PrivateKey.from_private_bytes(seed[64:]).public_key().public_bytes_raw()
    try:
        box = bytes.fromhex(kept["good"][0]["box"])
        assert open_box(seed, box, info) == secret
    except (LookupError, InvalidTag):
        suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        parts = (MLKEM768PublicKey.from_public_bytes(kem), X25519PublicKey.from_public_bytes(curve))
        box = suite.encrypt(secret, MLKEM768X25519PublicKey(*parts), info=info)
    good = {
        "seed": seed.hex(),
        "public": (kem + curve).hex(),
        "info": info.hex(),
        "secret": secret.hex(),
        "box": box.hex(),
    }
    changes = {
        "other-context": {"info": b"other".hex()},
        "other-key": {"seed": flip(seed, 70).hex()},
        "kem-part-changed": {"box": flip(box, 5).hex()},
        "curve-part-changed": {"box": flip(box, 1090).hex()},
        "tag-changed": {"box": flip(box).hex()},
        "cut-short": {"box": box[:-1].hex()},
        "too-short-for-a-key": {"box": box[:1000].hex()},
        "empty": {"box": ""},
    }
    return {
        "good": [good],
        "bad": [bad(name, "DecryptionError", **{**good, **one}) for name, one in changes.items()],
    }


MAKERS: dict[str, Callable[[], Vectors]] = {
    "encoding": vector_formats.encoding,
    "hashing": vector_formats.hashing,
    "trees": vector_formats.trees,
    "state_map": vector_formats.state_map,
    "ed25519": vector_formats.ed25519,
    "sealing": vector_formats.sealing,
    "manifests": vector_manifests.manifests,
    "logs": vector_records.log_vectors,
    "signed_records": vector_records.signed_records,
    "user_keys": vector_user_keys.user_keys,
    "revocations": vector_revocations.revocations,
    "epochs": vector_records.epochs,
}
KEEPERS: dict[str, Callable[[dict[str, Any]], Vectors]] = {
    "statements": statements,
    "boxes": boxes,
}


def make_all() -> dict[str, str]:
    """File name -> text of all vectors, as they ought to be now."""
    made = {name: maker() for name, maker in MAKERS.items()}
    for name, keeper in KEEPERS.items():
        made[name] = keeper(read(name) if (FOLDER / f"{name}.json").exists() else {})
    return {name: json.dumps(one, indent=1) + "\n" for name, one in made.items()}


def main() -> None:
    """Write all files anew. A difference is a change of the protocol: look at it."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in make_all().items():
        (FOLDER / f"{name}.json").write_text(text)


if __name__ == "__main__":
    main()
