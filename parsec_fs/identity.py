"""Who this device is and what it trusts.

Data flow: enrolment or joining -> Identity -> device_file -> every program of the device.

Rule 25: trust begins with the anchor, which a device gets once, when it founds an organization or
over the authenticated channel of `joining`, and which nothing that a server or a chain node says
ever changes. Secrets have a hidden repr. Randomness is a parameter.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.certificates import Content, sign_certificate
from parsec_fs.protocol.chain_types import ChainAnchor
from parsec_fs.protocol.codec import U32, Bytes32, Increasing, Size
from parsec_fs.protocol.errors import DecryptionError, InputError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import NO_HASH, DeviceId, Hash, LogId, OrgId, UserId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.limits import LABEL_MAX_SIZE
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.records import Context, DeviceHeader, LogState, Seen
from parsec_fs.protocol.sealing import BoxKey
from parsec_fs.protocol.statements import ServerRegistration

Random = Callable[[int], bytes]
"""As many fresh secret bytes as asked for."""

Url = Annotated[bytes, Size(1, 1024)]
BoxSeed = Annotated[bytes, Size(96, 96)]

UNSEEN: Final = Seen(
    size=0,
    log_root=EMPTY_TREE,
    map_root=EMPTY_MAP,
    org_size=0,
    org_root=EMPTY_TREE,
    epochs=0,
    chain_header=NO_HASH,
)
"""What the author of an organization's first record has seen: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustAnchor:
    """What a device starts trusting from: validators, server keys, organization. Public."""

    chain: ChainAnchor
    genesis: Hash
    org: OrgId
    root_key: Bytes32
    server: ServerRegistration
    server_url: Url
    rpc_urls: Annotated[tuple[Url, ...], Size(1, 16)]

    def context(self, log: LogId | None = None) -> Context:
        """Context of what is signed in a log of the organization; without `log`: in its own."""
        return Context(
            chain_id=self.chain.chain_id,
            genesis=self.genesis,
            server_log=self.server.server_log,
            org=self.org,
            log=LogId(self.org) if log is None else log,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class UserKeySeed:
    """Secret half of one generation of the user's box key."""

    generation: U32
    seed: BoxSeed


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeviceSecrets:
    """Everything secret that one device holds. `local_key` seals what stays on its disk.
    A device that is about to join has no user key yet."""

    org: OrgId
    device: DeviceId
    user: UserId
    sign_seed: Bytes32
    box_seed: BoxSeed
    user_keys: Annotated[tuple[UserKeySeed, ...], Increasing(), Size(0, 1000)]
    local_key: Bytes32

    def signing_key(self) -> SigningKey:
        """Signs this device's records and requests."""
        return SigningKey(self.sign_seed)

    def box_key(self) -> BoxKey:
        """Opens what is sealed to this device."""
        return BoxKey(self.box_seed)

    def user_key(self, generation: int) -> BoxKey:
        """Opens what is sealed to the user. Raises DecryptionError for an unknown generation."""
        for one in self.user_keys:
            if one.generation == generation:
                return BoxKey(one.seed)
        raise DecryptionError(f"this device does not hold generation {generation} of the user key")

    def newest_user_key(self) -> UserKeySeed:
        """The generation that new boxes are sealed to. Raises DecryptionError before joining."""
        if not self.user_keys:
            raise DecryptionError("this device does not hold the user's key yet")
        return self.user_keys[-1]

    def __repr__(self) -> str:
        return f"DeviceSecrets({self.device.hex()}, hidden)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Content of the device file. `pins`: states of logs that an own device or an administrator
    vouched for when this device joined; a replica that reaches such a size must agree (rule 25)."""

    anchor: TrustAnchor
    secrets: DeviceSecrets
    pins: Annotated[tuple[LogState, ...], Size(0, 10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """A device about to sign records: its secrets, and the incarnation of this process (P9)."""

    secrets: DeviceSecrets
    incarnation: bytes
    random: Random

    def header(self, context: Context, chain: DeviceChain, seen: Seen) -> DeviceHeader:
        """Header of the record after `chain`, with a fresh nonce (A31)."""
        return DeviceHeader(
            context=context,
            device=self.secrets.device,
            sequence=chain.sequence,
            previous=chain.last,
            incarnation=self.incarnation,
            nonce=self.random(32),
            seen=seen,
        )

    def sign(self, content: Content, *, header: DeviceHeader) -> bytes:
        """Body of a certificate about a new subject."""
        key = self.secrets.signing_key()
        return sign_certificate(content, header=header, replaces=NO_HASH, key=key)


def new_secrets(
    *, org: OrgId, user: UserId, user_keys: tuple[UserKeySeed, ...], random: Random
) -> DeviceSecrets:
    """A new device of a user."""
    return DeviceSecrets(
        org=org,
        device=DeviceId(random(16)),
        user=user,
        sign_seed=random(32),
        box_seed=random(96),
        user_keys=user_keys,
        local_key=random(32),
    )


def label(text: str) -> bytes:
    """A name for people as the protocol carries it. Raises InputError."""
    data = text.strip().encode()
    if not 0 < len(data) <= LABEL_MAX_SIZE:
        raise InputError(f"a name has 1 to 255 bytes, this has {len(data)}")
    return data
