"""Sealing: manifests (key-committing envelope), blocks, key boxes. The only AEAD user.

Data flow: manifest or block -> sealed bytes -> payload or block store; boxes -> certificates.

Manifest envelope (verifiable-history 3.4): one AEAD call under a key derived for this message from
the realm key, a 32-byte salt and the whole context; the context is also the AAD, and a commitment
derived beside the key is stored, so that a ciphertext opens under one key only (attack A14).
    suite 1 | key index 4 | salt 32 | commitment 32 | AES-256-GCM(padded manifest)
Blocks (rule 5): random id, random single-use key, nonce zero; digest first, then decryption.
Boxes: HPKE base mode with X-Wing (ML-KEM-768 + X25519), HKDF-SHA-256, AES-256-GCM.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.hashing import realm_key_commitment, sha256, tag
from parsec_fs.protocol.ids import BlockId, DeviceId, Hash, ObjectId, OrgId, RealmId
from parsec_fs.protocol.limits import SEALED_BLOCK_MAX_SIZE
from parsec_fs.protocol.manifests import BlockRef
