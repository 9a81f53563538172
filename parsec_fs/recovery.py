"""A device on paper: its keys from a secret of 128 bits, and what the paper pins (rule 25).

Data flow: random bytes, verified org log -> `Kit` -> recovery_words -> paper;
           paper -> `Kit` -> `paper_secrets`, and the record that a server offers, checked.

    kit      secret 16 | digest 16 of the record, keyed by the secret; as words or shares
    record   trust anchor, user, a state of the org log: public, kept by the server
    keys     HKDF-SHA-256 of the secret: Ed25519 seed 32 | X-Wing seed 96 | local key 32

The id of a paper device is a digest of its two public keys, so that every program knows one when
it sees it, and the words alone say which it is. For all others it is a device like any: certified
by the same certificate, and a recipient of every later user key.

The paper must not believe the server that it is brought to: the digest pins chain, validators,
root key and server as an invitation's link does, and a state that the org log must pass through.
Nobody but a holder of the secret can say whether a record fits.
"""

from dataclasses import dataclass
from typing import Final

from parsec_fs.identity import DeviceSecrets, Random, TrustAnchor
from parsec_fs.joining import JoinRequest
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, TrustchainError
from parsec_fs.protocol.hashing import keyed, sha256, tag
from parsec_fs.protocol.ids import DeviceId, OrgId, UserId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.limits import RECOVERY_MAX_SIZE
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import BoxKey, derive

SECRET_SIZE: Final = 16
DIGEST_SIZE: Final = 16
KIT_SIZE: Final = SECRET_SIZE + DIGEST_SIZE
"""Bytes that the words stand for."""

_KEYS: Final = tag("paper-device-keys")
_ID: Final = tag("paper-device-id")
_RECORD: Final = "recovery-record"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Kit:
    """What is on the paper. Secret: whoever has it can become a device of its user."""

    secret: bytes
    digest: bytes

    def encode(self) -> bytes:
        """32 bytes, for words."""
        return self.secret + self.digest

    def __repr__(self) -> str:
        return "Kit(hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecord:
    """Everything that a new machine will trust, as the device saw it that made the kit."""

    anchor: TrustAnchor
    user: UserId
    org_state: LogState


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PaperKeys:
    """The keys of a paper device, whatever organization it belongs to."""

    sign_seed: bytes
    box_seed: bytes
    local_key: bytes

    def request(self, label: bytes) -> JoinRequest:
        """Its public half."""
        sign_key = SigningKey(self.sign_seed).verify_key.raw
        box_key = BoxKey(self.box_seed).public
        return JoinRequest(
            device=paper_id(sign_key, box_key), label=label, sign_key=sign_key, box_key=box_key
        )

    def __repr__(self) -> str:
        return "PaperKeys(hidden)"


class RecoveryChecks:
    """What stops a server that offers another organization; tests leave it out to show it."""

    def record(self, unverified: RecoveryRecord, kit: Kit) -> RecoveryRecord:
        """The record is the one that the words name. Raises TrustchainError: nobody has signed
        what the server sent, so that it is refused, and proves nothing to others."""
        if record_digest(unverified, kit.secret) != kit.digest:
            raise TrustchainError(
                "this server offers another organization than your words name: nothing was "
                "signed or sent; look at the address of the server on your paper"
            )
        return unverified


RECOVERY_CHECKS: Final = RecoveryChecks()


def new_secret(random: Random) -> bytes:
    """The secret of a new kit."""
    return random(SECRET_SIZE)


def make_kit(secret: bytes, record: RecoveryRecord) -> Kit:
    """What to write on paper."""
    return Kit(secret=secret, digest=record_digest(record, secret))


def kit_of(data: bytes) -> Kit:
    """From the bytes that words stand for. Raises DataError."""
    if len(data) != KIT_SIZE:
        raise DataError(f"a recovery kit has {KIT_SIZE} bytes")
    return Kit(secret=data[:SECRET_SIZE], digest=data[SECRET_SIZE:])


def record_digest(record: RecoveryRecord, secret: bytes) -> bytes:
    """128 bits. Keyed, so that a server cannot even tell whether another record would pass."""
    return keyed(secret, _RECORD, encode(record))[:DIGEST_SIZE]


def open_record(
    unverified: bytes, kit: Kit, *, checks: RecoveryChecks = RECOVERY_CHECKS
) -> RecoveryRecord:
    """The record that the words pin. Raises DataError, TrustchainError."""
    record = decode(RecoveryRecord, unverified, max_size=RECOVERY_MAX_SIZE)
    return checks.record(record, kit)


def paper_keys(secret: bytes) -> PaperKeys:
    """Always the same keys for the same secret."""
    okm = derive(secret, info=_KEYS, size=160)
    return PaperKeys(sign_seed=okm[:32], box_seed=okm[32:128], local_key=okm[128:])


def paper_id(sign_key: bytes, box_key: bytes) -> DeviceId:
    """The id of a paper device with these public keys."""
    return DeviceId(sha256(_ID + sign_key + box_key)[:16])


def is_paper(device: Device) -> bool:
    """Is this a device on paper? No other one's id is a digest of its keys, but by intent."""
    return device.device == paper_id(device.sign_key, device.box_key)


def paper_secrets(secret: bytes, *, org: OrgId, user: UserId) -> DeviceSecrets:
    """The paper device as a device of this user, without the user's key, which it opens from the
    org log."""
    keys = paper_keys(secret)
    return DeviceSecrets(
        org=org,
        device=keys.request(b"").device,
        user=user,
        sign_seed=keys.sign_seed,
        box_seed=keys.box_seed,
        user_keys=(),
        local_key=keys.local_key,
    )


def check_certified(org: OrgState, secrets: DeviceSecrets) -> Device:
    """The certificate of the paper device, with its own keys and its user. Raises
    TrustchainError."""
    device = org.device(secrets.device).device
    request = paper_keys_of(secrets).request(device.label)
    certified = (device.user, device.sign_key, device.box_key)
    if certified != (secrets.user, request.sign_key, request.box_key):
        raise TrustchainError("the device of these words has other keys in the organization's log")
    return device


def paper_keys_of(secrets: DeviceSecrets) -> PaperKeys:
    """The keys in these secrets."""
    return PaperKeys(
        sign_seed=secrets.sign_seed, box_seed=secrets.box_seed, local_key=secrets.local_key
    )


def kits_of(org: OrgState, user: UserId) -> tuple[Device, ...]:
    """The recovery kits of a user."""
    return tuple(one for one in org.devices_of(user) if is_paper(one))
