"""The generations of a user's box key: which of them this device holds, and making the next one.

Data flow: verified org log, device secrets -> `hold_user_keys` -> realm_keys, discovery, joining;
           `make_user_key` -> certificate -> org log -> every device of the user.

A generation is opened from the verified log alone (attack A01): from this device's own certificate,
from its box in the `UserKey` certificate, or handed down by a later generation. What opens counts
only if it is the secret half of the key that the log names. Old generations stay: they open old
boxes. A box that does not open is the doing of the device that signed it, not of the server; that
generation is missing here, and any device of the user can make the next one.
"""

from collections.abc import Iterator
from dataclasses import replace

from parsec_fs.enrolment import open_user_key
from parsec_fs.identity import Author, DeviceSecrets, UserKeySeed
from parsec_fs.protocol.certificates import Device, DeviceBox, UserKey, sign_certificate
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.enrolled import Generation
from parsec_fs.protocol.errors import DataError, DecryptionError
from parsec_fs.protocol.hashing import map_value
from parsec_fs.protocol.ids import UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Seen
from parsec_fs.protocol.sealing import (
    USER_BOX_SIZE,
    BoxKey,
    previous_user_key_info,
    seal_box,
    user_key_box_info,
)


def hold_user_keys(org: OrgState, secrets: DeviceSecrets) -> DeviceSecrets:
    """These secrets with every generation of the user's key that opens on this device."""
    known = org.generations.get(secrets.user, ())
    held = {one.generation: one.seed for one in secrets.user_keys}
    for number in range(len(known), 0, -1):
        seed = held.get(number) or _own(org, secrets, number, known[number - 1])
        if seed is not None:
            held[number] = seed
            for older, handed in _handed_down(secrets, known, number, seed):
                held.setdefault(older, handed)
    keys = (UserKeySeed(generation=number, seed=seed) for number, seed in sorted(held.items()))
    return replace(secrets, user_keys=tuple(keys))


def newest_user_key(org: OrgState, secrets: DeviceSecrets) -> UserKeySeed:
    """The user's present key. Raises DecryptionError if it does not open on this device."""
    present = org.users[secrets.user].generation
    for one in hold_user_keys(org, secrets).user_keys:
        if one.generation == present:
            return one
    raise DecryptionError(
        f"generation {present} of your user key does not open on this device; "
        "make a new one: parsec-fs device rotate-user-key"
    )


def user_key_due(org: OrgState, user: UserId) -> bool:
    """True iff a device of the user was revoked that holds the user's present key (rule 10)."""
    present = org.generations[user][-1].index
    ended = (one.revoked for one in org.devices.values() if one.device.user == user)
    return any(index is not None and index > present for index in ended)


def make_user_key(*, org: OrgState, seen: Seen, author: Author) -> bytes:
    """Body of the org log's certificate for the author's next user key. Raises DecryptionError if
    no generation at all opens here: the new one would cut off everything that was sealed before."""
    held, random = hold_user_keys(org, author.secrets), author.random
    user = org.users[held.user]
    generation, key = user.generation + 1, BoxKey(random(96))
    content = UserKey(
        user=held.user,
        generation=generation,
        box_key=key.public,
        previous=seal_box(
            held.newest_user_key().seed,
            recipient=key.public,
            info=previous_user_key_info(held.org, held.user, generation),
        ),
        boxes=tuple(
            DeviceBox(device=one.device, box=_device_box(one, key, generation, author))
            for one in org.devices_of(held.user)
        ),
    )
    chain = org.chains.get(held.device, DeviceChain())
    return sign_certificate(
        content,
        header=author.header(org.context, chain, seen),
        replaces=map_value(encode_trusted(user)),
        key=held.signing_key(),
    )


def _device_box(device: Device, key: BoxKey, generation: int, author: Author) -> bytes:
    info = user_key_box_info(author.secrets.org, device.user, generation, device.device)
    try:
        return seal_box(key.seed(), recipient=device.box_key, info=info)
    except DataError:
        # A device whose public key is none would otherwise keep all others from a new key.
        return author.random(USER_BOX_SIZE)


def _own(org: OrgState, secrets: DeviceSecrets, number: int, known: Generation) -> bytes | None:
    """Seed of a generation from this device's own box; None if none opens."""
    entry = org.devices.get(secrets.device)
    if entry is None:
        return None
    device = entry.device
    if number != device.generation and secrets.device in known.boxes:
        box = known.boxes[secrets.device]
        device = replace(device, generation=number, user_key_box=box)
    if number != device.generation or not device.user_key_box:
        return None
    try:
        seed = open_user_key(device, secrets_box=secrets.box_key(), org=secrets.org).seed
    except DecryptionError:
        seed = b""
    if len(seed) != 96 or BoxKey(seed).public != known.box_key:
        return None
    return seed


def _handed_down(
    secrets: DeviceSecrets, known: tuple[Generation, ...], number: int, seed: bytes
) -> Iterator[tuple[int, bytes]]:
    """Older generations, each from the one after it that its author held."""
    numbers = {one.box_key: place for place, one in enumerate(known, start=1)}
    while known[number - 1].previous:
        info = previous_user_key_info(secrets.org, secrets.user, number)
        try:
            seed = BoxKey(seed).open(known[number - 1].previous, info=info)
            older = numbers.get(BoxKey(seed).public, number)
        except (DecryptionError, DataError):
            older = number
        if older >= number:
            # Whoever renews could otherwise lead in circles, or stop those who come later.
            return
        number = older
        yield number, seed
