"""The realm's keys: fetched once per rotation, proven, and all older ones by walking back.

Data flow: rotation certificates, server (key box) -> this -> opener (reading), sync (sealing).

verifiable-history 3.3, attacks A13, A15: the box is under the rotation's `boxes_root`, opens with
the user's box key, and the key is the one the rotation commits to, so that all members hold the
same. A box that is under the root and gives another key, or none, is the doing of whoever signed
the rotation, and stops nobody: the key is missing here, the log goes on, and `rekeying` makes a new
one. Each rotation carries an older key, sealed under the new one; it must match the commitment of
its own rotation. Boxes are kept, sealed as they are: mounting needs no server.
"""

import logging
from collections.abc import Sequence
from typing import Final

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import DecryptionError, OfflineError, RefusedError
from parsec_fs.protocol.hashing import realm_key_commitment, tag
from parsec_fs.protocol.ids import OrgId, RealmId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.sealing import RealmKey, open_secret, realm_key_context, seal_secret
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_writer import BOX
from parsec_fs.user_keys import hold_user_keys
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks

log = logging.getLogger(__name__)

_PREVIOUS: Final = tag("previous-realm-key")


class RealmKeys:
    """The keys of one realm that this user holds."""

    def __init__(
        self,
        store: RealmStore,
        realm: RealmId,
        secrets: DeviceSecrets,
        checks: ReplicaChecks = REPLICA_CHECKS,
    ) -> None:
        self._store = store
        self._checks = checks
        self._realm = realm
        self._secrets = secrets
        self._keys: dict[int, RealmKey] = {}
        self._missing: set[int] = set()
        self._generations = 0

    def learn(self, org: OrgState) -> None:
        """Take over new generations of the user's key; what was missing is tried again."""
        generations = len(org.generations.get(self._secrets.user, ()))
        if generations != self._generations:
            self._generations = generations
            self._secrets = hold_user_keys(org, self._secrets)
            self._missing.clear()
            held = {one.generation for one in self._secrets.user_keys}
            for missing in set(range(1, generations + 1)) - held:
                log.warning("generation %d of the user key does not open here", missing)

    def key(self, index: int) -> RealmKey:
        """The key of a rotation. Raises DecryptionError if this user does not hold it."""
        found = self._keys.get(index)
        if found is None:
            raise DecryptionError(f"no key {index} of this realm")
        return found

    def holds(self, index: int) -> bool:
        """True iff this user holds the key of that rotation."""
        return index in self._keys

    def newest(self) -> RealmKey:
        """The newest key that this user holds. Nothing is sealed for upload under it unless it is
        the realm's newest (`holds`). Raises OfflineError before the first one was fetched."""
        if not self._keys:
            raise OfflineError("the keys of this workspace were never fetched")
        return self._keys[max(self._keys)]

    def open_stored(self, rotations: Sequence[Rotation]) -> None:
        """Open the boxes that are kept, without the server, and walk back from each."""
        for rotation in reversed(rotations):
            kept = self._store.fact(_fact(rotation.index))
            if kept is not None and not self._settled(rotation):
                self._open(decode(BoxAnswer, kept), rotation, rotations)

    async def ensure(self, rotations: Sequence[Rotation], client: ServerClient) -> None:
        """Hold the keys of these verified rotations as far as they open here; `holds` tells.
        Raises RefusedError (no box of the newest: not a member), OfflineError, ProofError."""
        for rotation in reversed(rotations):
            if not self._settled(rotation):
                await self._fetch(rotation, rotations, client)

    def _settled(self, rotation: Rotation) -> bool:
        return rotation.index in self._keys or rotation.index in self._missing

    async def _fetch(
        self, rotation: Rotation, rotations: Sequence[Rotation], client: ServerClient
    ) -> None:
        try:
            answer = await client.read_box(self._realm, rotation.index, self._secrets.user)
        except RefusedError as error:
            if rotation is rotations[-1]:
                raise _explained(error, self._realm) from error
            # Not a member at that time, and the key was not handed down: it stays closed.
            self._missing.add(rotation.index)
            return
        self._open(answer, rotation, rotations)
        async with self._store.writing() as write:
            write.fact(_fact(rotation.index), encode_trusted(answer))

    def _open(
        self, unverified: BoxAnswer, rotation: Rotation, rotations: Sequence[Rotation]
    ) -> None:
        try:
            key = self._checks.realm_key(
                unverified, rotation, realm=self._realm, secrets=self._secrets
            )
        except DecryptionError as error:
            # A15: any contributor may rotate, and could otherwise stop the realm for whom they
            # like. It is not provable without our key: nobody is accused but in our own status.
            # The same for a generation of our own key whose box did not open (`learn`).
            log.warning("the key of rotation %d is missing: %s", rotation.index, error)
            self._missing.add(rotation.index)
            return
        self._keys[key.index] = key
        self._walk_back(key, rotations)

    def _walk_back(self, key: RealmKey, rotations: Sequence[Rotation]) -> None:
        org = self._secrets.org
        while (place := key.index - 1) and rotations[place].previous:
            rotation, older = rotations[place], rotations[:place]
            try:
                key = open_previous_key(rotation, key, older, org=org, realm=self._realm)
            except DecryptionError as error:
                # Whoever rotates could otherwise shut the workspace for all who come later. What
                # is older opens with its own boxes or stays closed, the rest goes on (rule 12).
                log.warning("rotation %d hides the key before it: %s", rotation.index, error)
                return
            if key.index in self._keys:
                return
            self._keys[key.index] = key


def seal_previous_key(
    previous: RealmKey, new: RealmKey, *, org: OrgId, realm: RealmId, salt: bytes
) -> bytes:
    """`Rotation.previous`: the newest older key that the author holds, sealed under the new one."""
    context = _PREVIOUS + realm_key_context(org, realm, new.index)
    return seal_secret(previous.secret(), key=new.secret(), context=context, salt=salt)


def open_previous_key(
    rotation: Rotation,
    key: RealmKey,
    older: Sequence[Rotation],
    *,
    org: OrgId,
    realm: RealmId,
) -> RealmKey:
    """The older key that a rotation hands down: that of the newest of `older` which commits to it,
    for the key in between may have been missing where this one was made. Raises DecryptionError if
    none does."""
    context = _PREVIOUS + realm_key_context(org, realm, rotation.index)
    secret = open_secret(rotation.previous, key=key.secret(), expected_context=context)
    for one in reversed(older):
        place = realm_key_context(org, realm, one.index)
        if realm_key_commitment(secret, place) == one.commitment:
            return RealmKey(one.index, secret)
    raise DecryptionError("an older realm key is not one that a rotation commits to")


def _explained(error: RefusedError, realm: RealmId) -> RefusedError:
    """Whoever reads the log and gets no box is an auditor, for all that the server says."""
    if error.outcome == "NOT_ALLOWED":
        error.args = (
            f"{error}: it gives you no key of this workspace. An auditor verifies it without "
            f"opening it: parsec-fs audit {realm.hex()[:8]}. What was not sent stays here",
        )
    return error


def _fact(index: int) -> str:
    return f"{BOX}{index}"
