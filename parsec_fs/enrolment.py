"""What a device signs to found an organization, to create a realm, to add another device.

Data flow: secrets, verified org log, random bytes -> builders -> requests for the server.

Pure: randomness is a parameter. The organization's root key signs the first three records and is
then forgotten: nothing that it could sign later is accepted (`membership`). Key boxes are bound to
organization, realm, user, generation and device (verifiable-history 3.3).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from parsec_fs.identity import (
    UNSEEN,
    Author,
    DeviceSecrets,
    Identity,
    Random,
    TrustAnchor,
    UserKeySeed,
    label,
    new_secrets,
)
from parsec_fs.protocol.certificates import (
    ADMIN,
    Content,
    Device,
    Genesis,
    KeyBox,
    RealmCreated,
    RealmRegistered,
    Rotation,
    User,
    sign_certificate,
)
from parsec_fs.protocol.chain_types import ChainAnchor
from parsec_fs.protocol.commands import CreateOrg, CreateRealm
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import genesis_hash, realm_key_commitment, signed_hash, tag
from parsec_fs.protocol.ids import NO_HASH, OrgId, RealmId, UserId
from parsec_fs.protocol.keys import SigningKey
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.membership import OrgState, realm_context
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.records import ROOT_DEVICE, Context, DeviceHeader, Seen
from parsec_fs.protocol.sealing import (
    BOX_SIZE,
    SUITE,
    BoxKey,
    RealmKey,
    open_secret,
    realm_key_box_info,
    realm_key_context,
    seal_box,
    seal_secret,
    user_key_box_info,
)
from parsec_fs.protocol.statements import ServerRegistration

_NAME: Final = tag("realm-name")


def found_org(
    *,
    token: bytes,
    name: str,
    user_name: str,
    email: str,
    device_label: str,
    chain: ChainAnchor,
    server: ServerRegistration,
    server_url: str,
    rpc_urls: tuple[str, ...],
    random: Random,
) -> tuple[CreateOrg, Identity]:
    """The request that creates an organization, and the identity of its first device. `token`: 32
    bytes that the server's operator gave for this one founding."""
    org = OrgId(random(32))
    root = SigningKey(random(32))
    user_key = UserKeySeed(generation=1, seed=random(96))
    secrets = new_secrets(org=org, user=UserId(random(16)), user_keys=(user_key,), random=random)
    anchor = TrustAnchor(
        chain=chain,
        genesis=NO_HASH,
        org=org,
        root_key=root.verify_key.raw,
        server=server,
        server_url=server_url.encode(),
        rpc_urls=tuple(url.encode() for url in rpc_urls),
    )
    contents = _founding_contents(anchor, secrets, label(name), user_name, email, device_label)
    genesis = _root_sign(contents[0], anchor.context(), DeviceChain(), root, random)
    anchor = replace(anchor, genesis=genesis_hash(genesis))
    first = DeviceChain(sequence=1, last=signed_hash(genesis))
    user = _root_sign(contents[1], anchor.context(), first, root, random)
    second = DeviceChain(sequence=2, last=signed_hash(user))
    device = _root_sign(contents[2], anchor.context(), second, root, random)
    request = CreateOrg(token=token, genesis=genesis, user=user, device=device)
    return request, Identity(anchor=anchor, secrets=secrets, pins=())


def _founding_contents(
    anchor: TrustAnchor,
    secrets: DeviceSecrets,
    name: bytes,
    user_name: str,
    email: str,
    device_label: str,
) -> tuple[Genesis, User, Device]:
    genesis = Genesis(
        org=anchor.org,
        name=name,
        root_key=anchor.root_key,
        head_key=anchor.server.head_key,
        co_key=anchor.server.co_key,
        suite=SUITE,
    )
    user = User(
        user=secrets.user,
        name=label(user_name),
        email=label(email),
        profile=ADMIN,
        generation=1,
        box_key=secrets.user_key(1).public,
    )
    return genesis, user, device_content(secrets, label(device_label))


def device_content(secrets: DeviceSecrets, name: bytes, *, generation: int = 1) -> Device:
    """What a device's certificate says of it, without a box of the user's key."""
    return Device(
        device=secrets.device,
        user=secrets.user,
        label=name,
        sign_key=secrets.signing_key().verify_key.raw,
        box_key=secrets.box_key().public,
        generation=generation,
        user_key_box=b"",
    )


def _root_sign(
    content: Content, context: Context, chain: DeviceChain, root: SigningKey, random: Random
) -> bytes:
    header = DeviceHeader(
        context=context,
        device=ROOT_DEVICE,
        sequence=chain.sequence,
        previous=chain.last,
        incarnation=random(16),
        nonce=random(32),
        seen=UNSEEN,
    )
    return sign_certificate(content, header=header, replaces=NO_HASH, key=root)


def create_realm(
    *, name: str, org: OrgState, seen: Seen, author: Author
) -> tuple[CreateRealm, RealmKey]:
    """The request that creates a realm: registered in the org log, created in its own, with a
    first key sealed to the author's user. `seen` is the author's verified org log."""
    secrets, random = author.secrets, author.random
    realm = RealmId(random(32))
    context = realm_context(org, realm)
    unseen = replace(UNSEEN, org_size=seen.size, org_root=seen.log_root)
    created = author.sign(
        RealmCreated(realm=realm, owner=secrets.user),
        header=author.header(context, DeviceChain(), unseen),
    )
    key = RealmKey(1, random(32))
    owner = org.users[secrets.user]
    rotation, boxes = make_rotation(
        label(name),
        key,
        previous=b"",
        members=(owner,),
        realm=realm,
        org=secrets.org,
        random=random,
    )
    second = DeviceChain(sequence=1, last=signed_hash(created))
    chain = org.chains.get(secrets.device, DeviceChain())
    registered = author.sign(
        RealmRegistered(realm=realm, creation=signed_hash(created)),
        header=author.header(org.context, chain, seen),
    )
    request = CreateRealm(
        realm=realm,
        registered=registered,
        created=created,
        rotation=author.sign(rotation, header=author.header(context, second, unseen)),
        boxes=boxes,
    )
    return request, key


def make_rotation(
    name: bytes,
    key: RealmKey,
    *,
    previous: bytes,
    members: Iterable[User],
    realm: RealmId,
    org: OrgId,
    random: Random,
) -> tuple[Rotation, tuple[KeyBox, ...]]:
    """A rotation to `key` for these members, and their boxes in order of user ids. `previous`:
    the key before, sealed under this one; `name`: of the workspace."""
    ordered = sorted(members, key=lambda one: one.user)
    boxes = tuple(_realm_box(one, key, realm, org, random) for one in ordered)
    context = realm_key_context(org, realm, key.index)
    rotation = Rotation(
        index=key.index,
        commitment=realm_key_commitment(key.secret(), context),
        previous=previous,
        boxes_root=tree_root([box.leaf() for box in boxes]),
        name=seal_secret(name, key=key.secret(), context=_NAME + context, salt=random(32)),
    )
    return rotation, boxes


def _realm_box(member: User, key: RealmKey, realm: RealmId, org: OrgId, random: Random) -> KeyBox:
    info = realm_key_box_info(org, realm, key.index, member.user, member.generation)
    try:
        box = seal_box(key.secret(), recipient=member.box_key, info=info)
    except DataError:
        # A member whose public key is none would otherwise keep all others from a new key.
        box = random(BOX_SIZE)
    return KeyBox(user=member.user, generation=member.generation, box=box)


def open_realm_name(
    rotation: Rotation, key: RealmKey, *, realm: RealmId, secrets: DeviceSecrets
) -> bytes:
    """The workspace's name. Raises DecryptionError."""
    context = realm_key_context(secrets.org, realm, key.index)
    return open_secret(rotation.name, key=key.secret(), expected_context=_NAME + context)


def add_device(
    new: Device, *, org: OrgState, seen: Seen, author: Author, user_key: UserKeySeed
) -> bytes:
    """Body of the org log's certificate for a new device of the author's own user, with the
    user's box key sealed to it. `new.user_key_box` is filled in here."""
    secrets = author.secrets
    info = user_key_box_info(secrets.org, new.user, user_key.generation, new.device)
    sealed = replace(
        new,
        generation=user_key.generation,
        user_key_box=seal_box(user_key.seed, recipient=new.box_key, info=info),
    )
    chain = org.chains.get(secrets.device, DeviceChain())
    return author.sign(sealed, header=author.header(org.context, chain, seen))


def open_user_key(device: Device, *, secrets_box: BoxKey, org: OrgId) -> UserKeySeed:
    """The user's key from this device's own certificate. Raises DecryptionError."""
    info = user_key_box_info(org, device.user, device.generation, device.device)
    seed = secrets_box.open(device.user_key_box, info=info)
    return UserKeySeed(generation=device.generation, seed=seed)
