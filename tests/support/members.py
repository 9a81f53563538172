"""Two people in one workspace, and what one of them can do to the other's keys.

Data flow: test -> two users' devices -> a rotation that spoils keys -> server.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from parsec_fs.enrolment import make_rotation
from parsec_fs.protocol.certificates import CONTRIBUTOR, KeyBox, sign_certificate
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.hashing import map_value
from parsec_fs.protocol.ids import RealmId, UserId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.merkle import tree_root
from parsec_fs.protocol.sealing import BOX_SIZE, RealmKey
from parsec_fs.workspace.realm_keys import seal_previous_key
from tests.support.laptops import Laptop, found, give_role, laptop, second_user
from tests.support.server import InProcess, in_process


@asynccontextmanager
async def two_users(folder: Path, role: int = CONTRIBUTOR) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """Alice, owner, and Bob, with the same workspace open, in step."""
    async with in_process(folder / "server") as server, users(server, folder, role) as both:
        yield both


@asynccontextmanager
async def users(
    server: InProcess, folder: Path, role: int = CONTRIBUTOR
) -> AsyncIterator[tuple[Laptop, Laptop]]:
    """The same at a server that runs already."""
    async with laptop(server, await found(server), folder / "one", "one") as one:
        realm = await one.create_realm()
        await one.open(realm)
        await one.push()
        identity = await second_user(one)
        await give_role(one, identity.secrets.user, role)
        async with laptop(server, identity, folder / "two", "two") as two:
            await two.open(realm)
            yield one, two


def rubbish(box: KeyBox) -> KeyBox:
    """A box that holds nothing."""
    return replace(box, box=os.urandom(BOX_SIZE))


async def spoil(
    author: Laptop, *victims: UserId, instead: Callable[[KeyBox], KeyBox] = rubbish
) -> None:
    """The next rotation, lawful in every check of the log, with other boxes for the victims."""
    state, secrets = author.workspace.replica.state, author.author.secrets
    org, realm = author.org.state, RealmId(author.workspace.replica.log)
    assert state.key is not None
    key = RealmKey(state.key.index + 1, os.urandom(32))
    previous = seal_previous_key(
        author.workspace.keys.newest(), key, org=secrets.org, realm=realm, salt=os.urandom(32)
    )
    rotation, boxes = make_rotation(
        b"docs",
        key,
        previous=previous,
        members=[org.users[user] for user, role in state.roles.items() if role],
        realm=realm,
        org=secrets.org,
        random=os.urandom,
    )
    spoilt = tuple(instead(one) if one.user in victims else one for one in boxes)
    rotation = replace(rotation, boxes_root=tree_root([one.leaf() for one in spoilt]))
    body = sign_certificate(
        rotation,
        header=author.author.header(
            state.context,
            state.chains.get(secrets.device, DeviceChain()),
            author.workspace.replica.seen(),
        ),
        replaces=map_value(encode_trusted(state.key)),
        key=secrets.signing_key(),
    )
    await author.client.append_certificate(author.workspace.replica.log, body, spoilt)
    await author.pull()


def user(one: Laptop) -> UserId:
    """Whose device it is."""
    return one.author.secrets.user
