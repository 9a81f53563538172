"""What may enter an org log: the founding, then users and devices.

Data flow: request -> `found` / `append` over membership's rules -> OrgEffects | Outcome.

The rules are `parsec_fs.protocol.membership`; here is only what concerns this server alone: that
the genesis names it, that a caller appends its own records, and how leaves are stamped.
An org leaf counts itself in `org_size`, so that an org log's size and org size agree.
"""

from parsec_fs.protocol import membership
from parsec_fs.protocol.certificates import (
    Device,
    Genesis,
    User,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.commands import CreateOrg, Outcome
from parsec_fs.protocol.errors import DataError, ParsecFSError
from parsec_fs.protocol.genesis import genesis_of
from parsec_fs.protocol.hashing import EMPTY_MAP, signed_hash
from parsec_fs.protocol.ids import DeviceId, OrgId
from parsec_fs.protocol.keys import CoVerifyKey
from parsec_fs.protocol.log_state import LogPosition
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import CERTIFICATE, ROOT_DEVICE, Leaf
from parsec_fs.protocol.statements import ServerRegistration
from server.decisions.effects import LogChange, OrgEffects, next_leaf
from server.decisions.reasons import outcome_of


def org_of_request(request: CreateOrg) -> OrgId | Outcome:
    """Which organization a founding is about, NOT verified."""
    try:
        certificate = peek_certificate(request.genesis)
        return genesis_of(certificate.kind, certificate.content).org
    except DataError:
        return Outcome.BAD_REQUEST


def found(
    request: CreateOrg,
    *,
    existing: OrgState | None,
    server: ServerRegistration,
    chain_id: bytes,
    now_ms: int,
) -> OrgEffects | Outcome:
    """Genesis, first user and first device, all or nothing."""
    try:
        leaf = next_leaf(
            LogPosition(),
            CERTIFICATE,
            request.genesis,
            map_root=EMPTY_MAP,
            org_size=1,
            now_ms=now_ms,
        )
        founded = membership.found(leaf)
        user = append(founded, request.user, author=ROOT_DEVICE, now_ms=now_ms, kinds=(User,))
        if isinstance(user, Outcome):
            return user
        device = append(
            user.state, request.device, author=ROOT_DEVICE, now_ms=now_ms, kinds=(Device,)
        )
        if isinstance(device, Outcome):
            return device
        _check_server(founded.genesis, server)
    except ParsecFSError as error:
        return outcome_of(error)
    if founded.context.chain_id != chain_id or founded.context.server_log != server.server_log:
        return Outcome.INVALID
    if existing is not None:
        return Outcome.EXISTS
    return _effects(device.state, (leaf, *user.change.leaves, *device.change.leaves))


def append(
    state: OrgState, body: bytes, *, author: DeviceId, now_ms: int, kinds: tuple[type, ...]
) -> OrgEffects | Outcome:
    """One certificate of one of these kinds, signed by `author`."""
    try:
        certificate = peek_certificate(body)
        content = decode_content(certificate.kind, certificate.content)
        if certificate.header.device != author or not isinstance(content, kinds):
            return Outcome.NOT_ALLOWED
        leaf = next_leaf(
            state.position,
            CERTIFICATE,
            body,
            map_root=state.map.root(),
            org_size=state.position.size + 1,
            now_ms=now_ms,
        )
        return _effects(membership.append(state, leaf), (leaf,))
    except ParsecFSError as error:
        return outcome_of(error)


def _check_server(genesis: Genesis, server: ServerRegistration) -> Genesis:
    """An organization that pins other keys could never verify a head of this server."""
    CoVerifyKey(genesis.co_key)
    if genesis.head_key != server.head_key or genesis.co_key != server.co_key:
        raise DataError("genesis names another server")
    return genesis


def _effects(state: OrgState, leaves: tuple[Leaf, ...]) -> OrgEffects:
    change = LogChange(
        context=state.context,
        position=state.position,
        map_root=state.map.root(),
        leaves=leaves,
        accepted=tuple((signed_hash(leaf.body), leaf.header.index) for leaf in leaves),
    )
    return OrgEffects(state=state, change=change)
