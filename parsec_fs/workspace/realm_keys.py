"""The realm's keys: fetched once per rotation, proven, and all older ones by walking back.

Data flow: rotation certificates, server (key box) -> this -> opener (reading), sync (sealing).

verifiable-history 3.3, attacks A13, A15: the box is under the rotation's `boxes_root`, opens with
the user's box key, and the key is the one the rotation commits to, so that all members hold the
same. Each rotation carries the key before it, sealed under the new one; that one must match the
commitment of its own rotation. Boxes are kept, sealed as they are: mounting needs no server.
"""

import logging
from collections.abc import Sequence
from typing import Final

from parsec_fs.enrolment import open_realm_key
from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.codec import decode, encode_trusted
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import DataError, DecryptionError, OfflineError
from parsec_fs.protocol.hashing import realm_key_commitment, tag
from parsec_fs.protocol.ids import OrgId, RealmId
from parsec_fs.protocol.sealing import RealmKey, open_secret, realm_key_context, seal_secret
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.storage.realm_store import RealmStore

log = logging.getLogger(__name__)

_PREVIOUS: Final = tag("previous-realm-key")


class RealmKeys:
    """The keys of one realm that this user holds."""

    def __init__(self, store: RealmStore, realm: RealmId, secrets: DeviceSecrets) -> None:
        self._store = store
        self._realm = realm
        self._secrets = secrets
        self._keys: dict[int, RealmKey] = {}

    def key(self, index: int) -> RealmKey:
        """The key of a rotation. Raises DecryptionError if this user does not hold it."""
        found = self._keys.get(index)
        if found is None:
            raise DecryptionError(f"no key {index} of this realm")
        return found

    def newest(self) -> RealmKey:
        """The key to seal under. Raises OfflineError before the first one was fetched."""
        if not self._keys:
            raise OfflineError("the keys of this workspace were never fetched")
        return self._keys[max(self._keys)]

    def open_stored(self, rotations: Sequence[Rotation]) -> None:
        """Open the newest box that is kept, without the server, and walk back from it."""
        for rotation in reversed(rotations):
            kept = self._store.fact(_fact(rotation.index))
            if kept is not None:
                self._open(decode(BoxAnswer, kept), rotations[: rotation.index])
                return

    async def ensure(self, rotations: Sequence[Rotation], client: ServerClient) -> None:
        """Hold the key of the newest of these verified rotations. Raises RefusedError (not a
        member), OfflineError, ProofError, DecryptionError."""
        if not rotations or rotations[-1].index in self._keys:
            return
        index = rotations[-1].index
        answer = await client.read_box(self._realm, index, self._secrets.user)
        self._open(answer, rotations)
        async with self._store.writing() as write:
            write.fact(_fact(index), encode_trusted(answer))

    def _open(self, unverified: BoxAnswer, rotations: Sequence[Rotation]) -> None:
        newest = rotations[-1]
        key = open_realm_key(unverified, newest, realm=self._realm, secrets=self._secrets)
        self._keys[key.index] = key
        org = self._secrets.org
        for rotation, older in zip(reversed(rotations), reversed(rotations[:-1]), strict=False):
            if older.index in self._keys or not rotation.previous:
                return
            try:
                key = open_previous_key(rotation, key, older, org=org, realm=self._realm)
            except (DataError, DecryptionError) as error:
                # Whoever rotates could otherwise shut the workspace for all who come later. What
                # is older stays closed, the rest goes on (rule 12).
                log.warning("rotation %d hides the key before it: %s", rotation.index, error)
                return
            self._keys[key.index] = key


def seal_previous_key(
    previous: RealmKey, new: RealmKey, *, org: OrgId, realm: RealmId, salt: bytes
) -> bytes:
    """`Rotation.previous`: the key before, sealed under the new one."""
    context = _PREVIOUS + realm_key_context(org, realm, new.index)
    return seal_secret(previous.secret(), key=new.secret(), context=context, salt=salt)


def open_previous_key(
    rotation: Rotation, key: RealmKey, older: Rotation, *, org: OrgId, realm: RealmId
) -> RealmKey:
    """The key of the rotation before. Raises DecryptionError if it is not the committed one."""
    context = _PREVIOUS + realm_key_context(org, realm, rotation.index)
    secret = open_secret(rotation.previous, key=key.secret(), expected_context=context)
    place = realm_key_context(org, realm, older.index)
    if realm_key_commitment(secret, place) != older.commitment:
        raise DecryptionError("an older realm key is not the one its rotation commits to")
    return RealmKey(older.index, secret)


def _fact(index: int) -> str:
    return f"box:{index}"
