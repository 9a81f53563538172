"""A new realm key when the workspace needs one, made by whichever device may and comes first.

Data flow: replica (roles, rotations), realm_keys -> this -> certificate, boxes -> server -> pull.

Rule 10: after a removal or a revocation, and while the newest key does not open here (A15: its
author sealed rubbish, or another key than the committed one), nothing is sealed for upload. After a
member renewed their user key, or somebody became a member, the work goes on, but a new realm key is
due, sealed to them. Any remaining owner, manager or contributor may sign the next rotation; all
that can do so after a random pause, so that one is first and the others find it done. Rule 8 lets
only one rotation replace the present one.
Whoever spoils keys again and again is answered ever more slowly, and named in the status.
"""

import logging
import math
import random as jitter
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from parsec_fs.enrolment import make_rotation, open_realm_name
from parsec_fs.identity import Author
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import CONTRIBUTOR, READER, sign_certificate
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import DecryptionError, ParsecFSError, StaleError
from parsec_fs.protocol.hashing import map_value
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.realm_state import RealmState
from parsec_fs.protocol.records import DeviceHeader
from parsec_fs.protocol.sealing import RealmKey
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.user_keys import make_user_key, user_key_due
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.realm_keys import RealmKeys, seal_previous_key
from parsec_fs.workspace.realm_rebuild import (
    members_without_key,
    newest_rotation,
    rotation_pending,
)
from parsec_fs.workspace.replica import RealmReplica

log = logging.getLogger(__name__)

_PAUSE_FIRST_S: Final = 2.0
_PAUSE_LONGEST_S: Final = 300.0
_FORGET_S: Final = 3600.0


class Rekeying:
    """Judges whether one realm needs a new key, and signs it."""

    def __init__(
        self,
        replica: RealmReplica,
        org: OrgReplica,
        keys: RealmKeys,
        client: ServerClient,
        *,
        author: Author,
    ) -> None:
        self._replica = replica
        self._org = org
        self._keys = keys
        self._client = client
        self._author = author
        self._due = trio.Event()
        self._judged: tuple[object, object] | None = None
        self._removed = False
        self._added = False
        self._newest: DeviceHeader | None = None
        self._seen = 0

    # Judging

    def problem(self) -> str:
        """Why nothing is sealed for upload now, and what to do; empty if nothing stands in the
        way."""
        state = self._replica.state
        if state.key is None:
            return ""
        self._judge(state)
        if not self._keys.holds(state.key.index):
            found = f"key {state.key.index} of this workspace, made by {self._who()}, does not open"
            return f"{found} here: {self._remedy(state)}"
        if self._removed:
            return (
                "a member was removed, or is an auditor now: the workspace needs a new key; "
                f"{self._remedy(state)}"
            )
        if self._revoked(state):
            return (
                "a person or device was revoked: the workspace needs a new key; "
                f"{self._remedy(state)}"
            )
        return ""

    def check(self) -> None:
        """Raises StaleError while nothing may be sealed for upload."""
        if problem := self.problem():
            raise StaleError(problem)

    def wanted(self) -> bool:
        """True iff the workspace needs a new key and this device can make it, or its own user needs
        one, whatever their role."""
        state = self._replica.state
        due = self.problem() or self._added or self._outlived(state) or self._unserved(state)
        return self._renewal_due() or (bool(due) and self._can(state))

    def look(self) -> None:
        """The log has grown."""
        if self.wanted():
            self._due.set()

    def _judge(self, state: RealmState) -> None:
        """What the certificates say, read again only when there are new ones."""
        now = (state.roles, state.rotations)
        if self._judged is None or any(a is not b for a, b in zip(now, self._judged, strict=True)):
            self._removed = rotation_pending(self._replica.store)
            self._added = members_without_key(self._replica.store)
            self._newest, self._seen = newest_rotation(self._replica.store) or (None, 0)
            self._judged = now

    def _outlived(self, state: RealmState) -> bool:
        """A member's user key is younger than the newest realm key: whoever got hold of the old
        one, on a lost device, could open that box. What its author had seen is not known if that
        was before the snapshot that this device began with: then any renewal counts."""
        if not self._org.size():
            return False
        members = (user for user, role in state.roles.items() if role >= READER)
        keys = (self._org.state.generations.get(user, ()) for user in members)
        return any(len(known) > 1 and known[-1].index >= self._seen for known in keys)

    def _unserved(self, state: RealmState) -> bool:
        """A member has a device, but had none when the newest realm key was made, as far as its
        author had seen: it was not sealed to them."""
        if not self._org.size() or self._newest is None:
            return False
        org = self._org.state
        members = {user for user, role in state.roles.items() if role >= READER}
        served = {
            one.device.user
            for one in org.devices.values()
            if one.index < self._seen and (one.revoked is None or one.revoked >= self._seen)
        }
        return any(org.takes_keys(user) for user in members - served)

    def _revoked(self, state: RealmState) -> bool:
        """A member, or a member's device, was revoked that the newest realm key was sealed to, as
        far as its author had seen: computed from the logs, whatever the server says (rule 10)."""
        if not self._org.size():
            return False
        org = self._org.state
        ended = [
            (one.device.user, one.revoked)
            for one in org.devices.values()
            if one.revoked is not None
        ]
        # A person whose devices were all ended before is a member until this.
        ended += org.revoked_users.items()
        return any(at >= self._seen and state.role(user) >= READER for user, at in ended)

    def _renewal_due(self) -> bool:
        return bool(self._org.size()) and user_key_due(self._org.state, self._author.secrets.user)

    def _can(self, state: RealmState) -> bool:
        """A device that holds no key at all would cut off everything that was written before."""
        allowed = state.role(self._author.secrets.user) >= CONTRIBUTOR
        return allowed and any(self._keys.holds(one.index) for one in state.rotations)

    def _remedy(self, state: RealmState) -> str:
        if self._can(state):
            return "this device or another one makes a new key; until then changes stay here"
        return "a contributor, manager or owner must make a new key, or an owner end that role"

    def _who(self) -> str:
        org = self._org.state
        entry = None if self._newest is None else org.devices.get(self._newest.device)
        if entry is None:
            return "an unknown device"
        user = plain_name(org.users[entry.device.user].name)
        return f"{user} ({plain_name(entry.device.label)})"

    # Making

    async def rotate(self) -> None:
        """Sign the next rotation for all present members and send it; a reader's device no more
        than their user key, if that is due. It is sent once: if the answer is lost, the log tells
        whether it was taken. Raises RefusedError (another device was first), OfflineError,
        VerificationError, RollbackError."""
        self._replica.check_may_sign()
        if self._renewal_due():
            await self._renew_user_key()
            if not self._can(self._replica.state):
                return
        state, org, random = self._replica.state, self._org.state, self._author.random
        secrets, realm = self._author.secrets, RealmId(state.context.log)
        assert state.key is not None
        key = RealmKey(state.key.index + 1, random(32))
        previous = seal_previous_key(
            self._keys.newest(), key, org=secrets.org, realm=realm, salt=random(32)
        )
        rotation, boxes = make_rotation(
            self._name(state),
            key,
            previous=previous,
            members=[
                org.users[user]
                for user, role in state.roles.items()
                if role >= READER and org.takes_keys(user)
            ],
            realm=realm,
            org=secrets.org,
            random=random,
        )
        chain = state.chains.get(secrets.device, DeviceChain())
        body = sign_certificate(
            rotation,
            header=self._author.header(state.context, chain, self._replica.seen()),
            replaces=map_value(encode_trusted(state.key)),
            key=secrets.signing_key(),
        )
        await self._client.append_certificate(self._replica.log, body, boxes)
        log.info("made key %d of the workspace", key.index)

    async def _renew_user_key(self) -> None:
        """The revoked device holds the present one, and could open every box sealed to it."""
        try:
            body = make_user_key(org=self._org.state, seen=self._org.seen(), author=self._author)
        except DecryptionError as error:
            # Nobody's lie: this device was given no generation that opens. Another one has to.
            raise StaleError(
                "your user key does not open here; make a new one on another device of yours: "
                "parsec-fs device rotate-user-key"
            ) from error
        await self._client.append_certificate(self._org.log, body)
        self._keys.learn(await self._org.pull())
        log.info("made a new user key: a device was revoked")

    def _name(self, state: RealmState) -> bytes:
        """As the newest rotation that opens here has it."""
        for rotation in reversed(state.rotations):
            if self._keys.holds(rotation.index):
                key, realm = self._keys.key(rotation.index), RealmId(state.context.log)
                try:
                    return open_realm_name(rotation, key, realm=realm, secrets=self._author.secrets)
                except DecryptionError:
                    continue
        return b"workspace"

    async def run(
        self,
        turn: Callable[[], Awaitable[None]],
        report: Callable[[ParsecFSError, str], None],
    ) -> None:
        """Until cancelled. `turn` pulls, and rotates if that is still wanted."""
        pause, last = _PAUSE_FIRST_S, -math.inf
        while True:
            await self._due.wait()
            self._due = trio.Event()
            if trio.current_time() - last > _FORGET_S:
                pause = _PAUSE_FIRST_S
            await trio.sleep(jitter.uniform(0, pause))
            pause, last = min(2 * pause, _PAUSE_LONGEST_S), trio.current_time()
            try:
                await turn()
            except ParsecFSError as error:
                report(error, "new key")
            self.look()
