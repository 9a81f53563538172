"""Who may do what in a workspace: giving and taking roles, and the key that follows.

Data flow: daemon or command -> `Sharing` -> registration, role certificate, rotation -> server ->
pull.

The new member's public key comes from the verified org log alone (A02). A role is registered in the
org log before it is given in the workspace's (rule 9): where that ends in between, nothing has
changed, and whoever does it again registers another. After a role was given or
taken the next key is made at once (rule 10); if that fails, any device that may makes it later.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from parsec_fs.identity import Author
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import (
    CONTRIBUTOR,
    MANAGER,
    OUTSIDER,
    OWNER,
    Role,
    RoleRegistered,
    sign_certificate,
)
from parsec_fs.protocol.errors import ForbiddenError, InputError, RefusedError, StaleError
from parsec_fs.protocol.hashing import map_key, signed_hash
from parsec_fs.protocol.ids import NO_HASH, UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.ownership import leaves_vacant, live_owners, may_take_over
from parsec_fs.protocol.records import Seen
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.rekeying import Rekeying
from parsec_fs.workspace.replica import RealmReplica


class Sharing:
    """Of one workspace, by this device's user."""

    def __init__(
        self,
        replica: RealmReplica,
        org: OrgReplica,
        rekeying: Rekeying,
        client: ServerClient,
        *,
        author: Author,
        signing: Callable[[], AbstractAsyncContextManager[bool]],
    ) -> None:
        self._replica = replica
        self._org = org
        self._rekeying = rekeying
        self._client = client
        self._author = author
        self._signing = signing

    async def set_role(self, user: UserId, role: int) -> bool:
        """Give a role (0: take it); False if that is the user's role already. Judged by the logs as
        the server has them now: `signing` has pulled both. Raises ForbiddenError, InputError
        (nobody would own it), StaleError, OfflineError, RefusedError, VerificationError."""
        async with self._signing() as free:
            if not free:
                raise StaleError("changes of this device are still on their way; try again")
            changed = self._replica.state.role(user) != role
            if changed:
                self._check_allowed(user, role)
                await self._append(self._sign(user, role))
                await self._org.pull()
                await self._replica.pull()
            if self._rekeying.wanted():
                await self._make_key()
        return changed

    async def _make_key(self) -> None:
        """All devices learn of a role at once, and another one may be the first to make the key."""
        try:
            await self._rekeying.rotate()
        except RefusedError:
            await self._org.pull()
            await self._replica.pull()
            if self._rekeying.wanted():
                raise
            return
        await self._replica.pull()

    async def _append(self, body: bytes) -> None:
        """A role, in both logs."""
        org = self._org
        registered = registration(body, org=org.state, seen=org.seen(), author=self._author)
        await self._client.append_certificate(org.log, registered)
        await self._client.append_certificate(self._replica.log, body)

    def _check_allowed(self, user: UserId, role: int) -> None:
        """The rules of the log, told before anything is sent."""
        state, org = self._replica.state, self._org.state
        own, before = state.role(self._author.secrets.user), state.role(user)
        takes_over = user == self._author.secrets.user and role == OWNER
        if not takes_over and (
            own < MANAGER or (own == MANAGER and max(role, before) > CONTRIBUTOR)
        ):
            raise ForbiddenError(
                "your role does not allow this: owners set every role, managers those of "
                "auditors, readers and contributors"
            )
        if takes_over:
            self._check_vacant()
        if role >= MANAGER and org.users[user].profile == OUTSIDER:
            raise ForbiddenError(
                "an outsider of the organization is neither owner nor manager; nothing was "
                "changed. Give another role: --role contributor or --role reader"
            )
        if role and not org.is_member(user):
            raise InputError("this person was revoked, and gets no role")
        if leaves_vacant(state.roles, user, role, org=org, org_size=org.position.size):
            raise InputError(
                "a workspace keeps an owner who is not revoked: make somebody else owner first"
            )

    def _check_vacant(self) -> None:
        """A member makes themselves owner only where no owner is left (A20)."""
        state, org, user = self._replica.state, self._org.state, self._author.secrets.user
        size = org.position.size
        if may_take_over(state.roles, user, org=org, org_size=size):
            return
        owners = live_owners(state.roles, org=org, org_size=size)
        names = ", ".join(sorted(plain_name(org.users[one].name) for one in owners))
        if owners:
            raise ForbiddenError(
                f"your role does not allow this: the workspace has an owner, ask {names}; nothing "
                "was changed"
            )
        raise ForbiddenError(
            "your role does not allow this: whoever has the highest role takes over a workspace "
            "that has no owner left; see: parsec-fs members WORKSPACE"
        )

    def _sign(self, user: UserId, role: int) -> bytes:
        self._replica.check_may_sign()
        state, secrets = self._replica.state, self._author.secrets
        chain = state.chains.get(secrets.device, DeviceChain())
        return sign_certificate(
            Role(user=user, role=role),
            header=self._author.header(state.context, chain, self._replica.seen()),
            replaces=state.map.get(map_key(b"role", user)) or NO_HASH,
            key=secrets.signing_key(),
        )


def registration(role: bytes, *, org: OrgState, seen: Seen, author: Author) -> bytes:
    """Body of the org log's certificate that registers a signed role."""
    chain = org.chains.get(author.secrets.device, DeviceChain())
    header = author.header(org.context, chain, seen)
    return author.sign(RoleRegistered(certificate=signed_hash(role)), header=header)
