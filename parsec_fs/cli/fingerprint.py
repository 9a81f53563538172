"""Short digests for people to compare over the telephone.

Data flow: validator set -> groups of four characters.
"""

from typing import Final

from parsec_fs.protocol.chain_types import Validator
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.hashing import validator_set_hash

_GROUP: Final = 4
_VALIDATORS: Final = 4


def fingerprint(chain_id: bytes, validators: tuple[Validator, ...]) -> str:
    """64 bits of the digest of a chain's validator set, in groups of four."""
    digest = validator_set_hash(chain_id + b"".join(encode(one) for one in validators))
    return _grouped(digest, _VALIDATORS)


def _grouped(digest: bytes, groups: int) -> str:
    text = digest.hex().upper()
    return " ".join(text[_GROUP * at : _GROUP * (at + 1)] for at in range(groups))
