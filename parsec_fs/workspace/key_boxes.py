"""A realm's key out of a member's box, as the server hands it out.

Data flow: box, verified rotation, the user's secrets -> realm key, or whose doing it is that not.
"""

from parsec_fs.identity import DeviceSecrets
from parsec_fs.protocol.certificates import Rotation
from parsec_fs.protocol.commands import BoxAnswer
from parsec_fs.protocol.errors import DecryptionError, TrustchainError
from parsec_fs.protocol.hashing import realm_key_commitment
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.merkle import verify_inclusion
from parsec_fs.protocol.sealing import RealmKey, realm_key_box_info, realm_key_context


def open_realm_key(
    unverified: BoxAnswer, rotation: Rotation, *, realm: RealmId, secrets: DeviceSecrets
) -> RealmKey:
    """The realm key of a rotation, from this user's box. Raises ProofError, TrustchainError (the
    server's doing), DecryptionError (the doing of the rotation's author)."""
    box = unverified.box
    if box.user != secrets.user:
        raise TrustchainError("the server sent another user's key box")
    verify_inclusion(
        box.leaf(),
        unverified.position,
        unverified.count,
        unverified.proof,
        expected_root=rotation.boxes_root,
    )
    info = realm_key_box_info(secrets.org, realm, rotation.index, box.user, box.generation)
    secret = secrets.user_key(box.generation).open(box.box, info=info)
    context = realm_key_context(secrets.org, realm, rotation.index)
    if realm_key_commitment(secret, context) != rotation.commitment:
        # Another key than the other members hold: reads and writes would silently part (A15).
        raise DecryptionError("realm key is not the one that the rotation commits to")
    return RealmKey(rotation.index, secret)
