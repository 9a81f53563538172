"""Short digests for people to compare over the telephone.

Data flow: validator set, or a new device's request -> groups of four characters.
"""

from typing import Final

from parsec_fs.joining import JoinRequest, request_digest
from parsec_fs.protocol.chain_types import Validator
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.hashing import validator_set_hash

_GROUP: Final = 4
_VALIDATORS: Final = 4
_DEVICE: Final = 8
"""Groups. A forger may draw keys for ten minutes: 128 bits leave no chance."""


def fingerprint(chain_id: bytes, validators: tuple[Validator, ...]) -> str:
    """64 bits of the digest of a chain's validator set, in groups of four."""
    digest = validator_set_hash(chain_id + b"".join(encode(one) for one in validators))
    return _grouped(digest, _VALIDATORS)


def device_fingerprint(request: JoinRequest) -> str:
    """128 bits of the digest of what a new device sent: its id, its name and both its keys."""
    return _grouped(request_digest(request), _DEVICE)


def same_fingerprint(typed: str, shown: str) -> bool:
    """As people and programs copy it: without spaces, in small letters."""
    return "".join(typed.split()).upper() == "".join(shown.split())


def _grouped(digest: bytes, groups: int) -> str:
    text = digest.hex().upper()
    return " ".join(text[_GROUP * at : _GROUP * (at + 1)] for at in range(groups))
