"""Checks with exactly one left out: only tests can make them, by handing them to a constructor."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from parsec_fs.audit.auditor import Auditor
from parsec_fs.audit.checks import ALL_CHECKS, Checks
from parsec_fs.audit.client_state import ClientState
from parsec_fs.protocol.certificates import (
    Device,
    Role,
    RoleRegistered,
    User,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.enrolled import DeviceEntry, generation_of
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import DataError, OfflineError, VerificationError
from parsec_fs.protocol.hashing import map_key, map_value
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.realm_state import Transition
from parsec_fs.protocol.sealing import block_aad


def _believe(self: Checks, *args: Any, **kwargs: Any) -> Any:
    """Returns what it should have checked."""
    return args[0]


def without(*names: str, **replacements: Any) -> Checks:
    """All checks but the named ones, which believe their first argument, or do as told."""
    for name in (*names, *replacements):
        assert callable(getattr(Checks, name)), f"no such check: {name}"
    methods = dict.fromkeys(names, _believe) | replacements
    weakened: Checks = type("Weakened", (Checks,), methods)()
    return weakened


def believe_growth(self: Checks, before: Any, after: Any) -> Any:
    """An epoch may anchor anything."""
    return after


def believe_in_odd_epochs(self: Checks, own: Any, anchored: Any, *, epoch: int) -> Any:
    """A client that looks at every other epoch only."""
    return own if epoch % 2 else ALL_CHECKS.own_is_anchored(own, anchored, epoch=epoch)


def believe_in_even_epochs(self: Checks, own: Any, anchored: Any, *, epoch: int) -> Any:
    """A client that looks at the others."""
    return ALL_CHECKS.own_is_anchored(own, anchored, epoch=epoch) if epoch % 2 else own


def believe_opening(self: Checks, proof: Any, statement: Any, *, before: Any, **_: Any) -> Any:
    """The states that the server names, wherever they are listed."""
    states = tuple(one.state[0] if one.state else None for one in proof.logs)
    return before.append(opening_leaf(proof.opening)), states


def role_of(body: bytes) -> Role:
    """What a role certificate gives; nothing is checked."""
    certificate = peek_certificate(body)
    role = decode_content(certificate.kind, certificate.content)
    assert isinstance(role, Role)
    return role


def believe_role(self: object, state: Any, leaf: Any, **_: object) -> Transition:
    """A transition that asks nobody."""
    role = role_of(leaf.body)
    entry = (map_key(b"role", role.user), map_value(encode_trusted(role)))
    after = replace(
        state,
        roles={**state.roles, role.user: role.role},
        map=state.map.set(*entry),
        position=state.position.after(leaf),
    )
    return Transition(state=after)


def believe_newcomer(state: OrgState, body: bytes) -> OrgState:
    """The organization with whatever user, device or role a certificate names; nothing is
    checked."""
    certificate, index = peek_certificate(body), state.position.size
    content = decode_content(certificate.kind, certificate.content)
    value = map_value(encode_trusted(content))
    if isinstance(content, RoleRegistered):
        return replace(
            state,
            registered={**state.registered, content.certificate: index},
            map=state.map.set(map_key(b"role", content.certificate), value),
        )
    assert isinstance(content, User | Device)
    if isinstance(content, Device):
        known = DeviceEntry(device=content, index=index, key=VerifyKey(content.sign_key))
        return replace(
            state,
            devices={**state.devices, content.device: known},
            map=state.map.set(map_key(b"device", content.device), value),
        )
    generations = (generation_of(content, index),)
    return replace(
        state,
        users={**state.users, content.user: content},
        generations={**state.generations, content.user: generations},
        profiles={**state.profiles, content.user: ((index, content.profile),)},
        map=state.map.set(map_key(b"user", content.user), value),
    )


def lenient(self: Checks, state: Any, leaf: Any, **context: Any) -> Transition:
    """A leaf that the rules refuse is believed to be a role."""
    try:
        return ALL_CHECKS.realm_leaf(state, leaf, **context)
    except (DataError, VerificationError):
        return believe_role(self, state, leaf)


def ignore_digest(self: Checks, unverified: Any, ref: Any, *, realm: Any) -> bytes:
    """A block that opens under its key, whatever its digest."""
    return AESGCM(ref.key).decrypt(bytes(12), bytes(unverified), block_aad(realm) + ref.id)


def believe_votes(self: Checks, *_: Any) -> bool:
    """Whatever is said to be signed was signed."""
    return True


def _is_there(file: Path) -> bool:
    return file.exists()


def switched_auditor(off: Path) -> type[Auditor]:
    """An auditor that does nothing while there is a file `off`."""

    class Switched(Auditor):
        async def audit_once(self) -> ClientState:
            return self.client_state() if _is_there(off) else await super().audit_once()

    return Switched


def switched_checks(off: Path) -> Checks:
    """All checks; but while there is a file `off` the leaves to compare cannot be had, as if the
    server had gone away between the opening of an epoch and its comparison."""

    def leaves_to_hold(self: Checks, anchored: Any) -> int:
        if off.exists():
            raise OfflineError("the leaves cannot be had")
        return ALL_CHECKS.leaves_to_hold(anchored)

    return without(leaves_to_hold=leaves_to_hold)


WEAK: Final[dict[str, Checks]] = {
    "block": without(block=ignore_digest),
    "payload": without("payload"),
    "log_grows": without(log_grows=believe_growth),
    "own_is_anchored": without("own_is_anchored"),
    "odd_epochs": without(own_is_anchored=believe_in_odd_epochs),
    "even_epochs": without(own_is_anchored=believe_in_even_epochs),
    "promise_is_kept": without("promise_is_kept"),
    "epoch_opening": without(epoch_opening=believe_opening),
    "statement_is_anchored": without("statement_is_anchored"),
    "realm_leaf": without(realm_leaf=lenient),
    "commit_is_for": without("commit_is_for"),
    "has_signed": without(has_signed=believe_votes),
    "state_proof": without("state_proof"),
}
"""What `victim` can leave out."""
