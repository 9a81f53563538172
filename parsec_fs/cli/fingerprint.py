"""Short digests for people to compare over the telephone.

Data flow: validator set -> sixteen characters.
"""

from parsec_fs.protocol.chain_types import Validator
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.hashing import validator_set_hash


def fingerprint(chain_id: bytes, validators: tuple[Validator, ...]) -> str:
    """64 bits of the digest of a chain's validator set, in groups of four."""
    digest = validator_set_hash(chain_id + b"".join(encode(one) for one in validators))
    text = digest.hex()[:16].upper()
    return " ".join(text[index : index + 4] for index in range(0, 16, 4))
