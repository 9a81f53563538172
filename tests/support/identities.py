"""Identities as `org create` makes them, without a server; randomness counts up."""

from dataclasses import dataclass, field

from parsec_fs.enrolment import found_org
from parsec_fs.identity import DeviceSecrets, Identity
from parsec_fs.protocol.certificates import STANDARD, User
from parsec_fs.protocol.chain_types import ChainAnchor, Validator
from parsec_fs.protocol.commands import CreateOrg
from parsec_fs.protocol.hashing import EMPTY_MAP, body_hash, sha256
from parsec_fs.protocol.ids import Hash
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.membership import OrgState, append, found
from parsec_fs.protocol.records import CERTIFICATE, Leaf, LeafHeader, Seen
from tests.support.servers import FakePublisher


@dataclass
class CountingRandom:
    """Different bytes at every call, the same in every run."""

    count: int = 0
    drawn: list[bytes] = field(default_factory=list)

    def __call__(self, size: int) -> bytes:
        self.count += 1
        parts = (
            sha256(self.count.to_bytes(8, "big") + bytes((part,))) for part in range(-(-size // 32))
        )
        data = b"".join(parts)[:size]
        self.drawn.append(data)
        return data


def chain_anchor(chain_id: bytes = b"parsec-test") -> ChainAnchor:
    """One validator."""
    key = SigningKey(bytes(32)).verify_key.raw
    return ChainAnchor(
        chain_id=chain_id,
        validators=(Validator(public_key=key, power=10),),
        operators=1,
        trusted_from_ns=1_800_000_000_000_000_000,
    )


def user_content(name: str, secrets: DeviceSecrets, *, profile: int = STANDARD) -> User:
    """What a user's certificate says at first."""
    return User(
        user=secrets.user,
        name=name.encode(),
        email=f"{name}@acme.example".encode(),
        profile=profile,
        generation=1,
        box_key=secrets.user_key(1).public,
    )


def founded(random: CountingRandom | None = None) -> tuple[CreateOrg, Identity]:
    """A new organization."""
    return found_org(
        token=bytes(32),
        name="acme",
        user_name="alice",
        email="alice@acme.example",
        device_label="laptop",
        chain=chain_anchor(),
        server=FakePublisher().registration,
        server_url="http://127.0.0.1:1",
        rpc_urls=("http://127.0.0.1:2",),
        random=random or CountingRandom(),
    )


def certificate_leaf(body: bytes, *, index: int, map_root: Hash, org_size: int) -> Leaf:
    """As the server would append it."""
    header = LeafHeader(
        index=index,
        kind=CERTIFICATE,
        time_ms=index + 1,
        org_size=org_size,
        map_root=map_root,
        body=body_hash(body),
    )
    return Leaf(header=header, body=body)


def replay_org(bodies: list[bytes], *, expected_genesis: Hash) -> OrgState:
    """Verified state of an org log."""
    first = certificate_leaf(bodies[0], index=0, map_root=EMPTY_MAP, org_size=0)
    state = found(first, expected_genesis=expected_genesis)
    for index, body in enumerate(bodies[1:], start=1):
        leaf = certificate_leaf(body, index=index, map_root=state.map.root(), org_size=index)
        state = append(state, leaf)
    return state


def seen_of(state: OrgState) -> Seen:
    """What a device that verified this org log has seen."""
    return Seen(
        size=state.position.size,
        log_root=state.position.root(),
        map_root=state.map.root(),
        org_size=state.position.size,
        org_root=state.position.root(),
        epochs=0,
        chain_header=Hash(bytes(32)),
    )
