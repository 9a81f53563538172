"""A kit on paper against the real server: made, tried, used when every device is lost.

Data flow: `create` on a device -> kit -> `drill`, `use` on a new machine -> files, keys, errors.
"""

import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from parsec_fs.cli.exit_codes import CommandError
from parsec_fs.cli.shares import receivers, write_shares
from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.device_file import DeviceFile
from parsec_fs.enrolling import certify
from parsec_fs.identity import Identity
from parsec_fs.protocol.certificates import DeviceRevoked
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import (
    InputError,
    OfflineError,
    RefusedError,
    TrustchainError,
    VerificationError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import UserId
from parsec_fs.recovering import (
    RevokedKitError,
    UnknownKitError,
    create,
    drill,
    fetch_record,
    use,
)
from parsec_fs.recovery import Kit, RecoveryRecord, kits_of, make_kit, paper_keys
from parsec_fs.recovery_words import kit_shares, kit_words, read_kit
from parsec_fs.revocation import revocation
from parsec_fs.sealed_shares import check_in_force, check_share_file, open_share
from parsec_fs.user_keys import hold_user_keys
from tests.support.kits import made
from tests.support.laptops import Laptop, found, laptop, renew_user_key, second_user
from tests.support.server import BASE_URL, InProcess, in_process


@dataclass(kw_only=True)
class World:
    """A server, and the only device of its only user, with a folder to make more in."""

    server: InProcess
    folder: Path
    one: Laptop

    def home(self, name: str) -> Home:
        """Of another machine."""
        return Home(root=self.folder / name)

    async def kit(self) -> Kit:
        """Made on the only device."""
        return await made(self.server, self.one.identity, self.home("one"))

    async def use(self, kit: Kit, name: str = "new") -> Identity:
        """On a new machine."""
        return await use(
            self.home(name),
            kit,
            server_url=BASE_URL,
            device_label=name,
            clients=self.server.http,
        )


class InterruptedServer(InProcess):
    """As somebody reaches it whose line is cut."""

    def http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=Interrupted(self), base_url=BASE_URL)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with in_process(tmp_path / "server") as server:
        alice = await found(server)
        async with laptop(server, alice, tmp_path / "laptop", "laptop") as one:
            yield World(server=server, folder=tmp_path, one=one)


async def test_every_device_is_lost_and_the_files_are_read(world: World) -> None:
    """Also what was sealed under user keys and workspace keys made after the kit."""
    one = world.one
    realm = await one.create_realm()
    await one.open(realm)
    one.make("before", b"before the kit")
    await one.push()
    kit = read_kit(kit_words(await world.kit()))
    await renew_user_key(one)
    await one.workspace.sync.rekey_once()
    one.make("after", b"after two new keys")
    one.make("large", bytes(2_000_000))
    await one.push()

    identity = await world.use(kit)
    assert DeviceFile(world.home("new").device).load() == identity
    assert [key.generation for key in identity.secrets.user_keys] == [1, 2]
    async with laptop(world.server, identity, world.folder / "again", "again") as new:
        await new.open(realm)
        assert await new.walk() == {
            "before": b"before the kit",
            "after": b"after two new keys",
            "large": bytes(2_000_000),
        }
        new.make("written", b"by the new device")
        await new.push()
        await one.pull()
        assert (await one.walk())["written"] == b"by the new device"


class Interrupted(httpx.AsyncBaseTransport):
    """A line that is cut once a certificate was taken, before anybody is told."""

    def __init__(self, server: InProcess) -> None:
        self._inner = httpx.ASGITransport(app=server.server.app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        if request.url.path.endswith("/append"):
            raise httpx.ReadError("cut")
        return answer


async def test_what_was_interrupted_goes_on_with_the_same_device(world: World) -> None:
    kit, other = await world.kit(), await world.kit()
    before = len((await world.one.org.pull()).devices)
    cut = replace(world, server=InterruptedServer(**vars(world.server)))
    with pytest.raises(OfflineError):
        await cut.use(kit)
    assert len((await world.one.org.pull()).devices) == before + 1
    (begun,) = world.home("new").device.iterdir()
    assert stat.S_IMODE(begun.stat().st_mode) == 0o600

    identity = await world.use(kit)
    assert len((await world.one.org.pull()).devices) == before + 1
    assert identity.secrets.device in world.one.org.state.devices
    assert not begun.exists()

    with pytest.raises(OfflineError):
        await replace(cut).use(kit, "newer")
    await world.use(other, "newer")  # other words: another device, whatever was begun there
    assert len((await world.one.org.pull()).devices) == before + 3


async def test_a_drill_changes_nothing_and_says_which(world: World) -> None:
    kit = await world.kit()
    before = (await world.one.org.pull()).position.size
    held = await drill(kit, server_url=BASE_URL, clients=world.server.http)
    assert held.device.label == b"recovery kit 2026-01-01"
    assert held.device.user == world.one.identity.secrets.user
    assert (held.generations, held.org.genesis.name) == (1, b"acme")
    await renew_user_key(world.one)
    assert (await drill(kit, server_url=BASE_URL, clients=world.server.http)).generations == 2
    assert (await world.one.org.pull()).position.size == before + 1


@pytest.mark.parametrize(
    ("told", "error", "match"),
    [
        ({"log_root": sha256(b"another history")}, VerificationError, "."),
        ({"size": 50}, TrustchainError, "hides the end"),
    ],
)
async def test_a_drill_is_shown_what_this_device_knows(
    world: World, told: dict[str, Any], error: type[Exception], match: str
) -> None:
    """The paper alone pins less: a server could show an older or another log, and the words would
    seem to work."""
    kit, org = await world.kit(), world.one.org
    await org.pull()
    known = org.roots_at(org.size())
    await drill(kit, server_url=BASE_URL, pins=(known,), clients=world.server.http)
    pins = (replace(known, **told),)
    with pytest.raises(error, match=match):
        await drill(kit, server_url=BASE_URL, pins=pins, clients=world.server.http)


async def test_shares_are_the_same_kit_and_it_works_again(world: World) -> None:
    kit = await world.kit()
    first, _, third = kit_shares(kit, 2, 3)
    both = [await world.use(read_kit(first + third)), await world.use(kit, "newer")]
    org = await world.one.org.pull()
    mine = org.devices_of(world.one.identity.secrets.user)
    assert {one.label for one in mine} >= {b"new", b"newer", b"recovery kit 2026-01-01"}
    assert [one.label for one in kits_of(org, mine[0].user)] == [b"recovery kit 2026-01-01"]
    assert {hold_user_keys(org, one.secrets).user_keys for one in both} == {
        world.one.identity.secrets.user_keys
    }


async def test_shares_that_colleagues_keep_bring_somebody_back(world: World) -> None:
    """Also after a colleague has a new key: their devices hold the one before."""
    own, files = world.one.identity, list[Path]()
    colleagues = [await second_user(world.one, name) for name in ("bob", "carol")]
    with pytest.raises(CommandError, match="one person gets one share"):
        receivers(world.one.org.state, own, ["bob", "bob"])
    with pytest.raises(CommandError, match="lost with your devices"):
        receivers(world.one.org.state, own, ["alice", "bob"])
    people = receivers(world.one.org.state, own, ["bob", "carol"])

    async def write(kit: Kit) -> bool:
        files.extend(write_shares(own, kit, people, 2, world.folder / "shares"))
        return True

    async with connect(world.home("one"), own, clients=world.server.http) as connection:
        stop = world.folder / "shares" / ".share-2-of-2-for-carol.share.new"
        stop.mkdir(parents=True)
        with pytest.raises(OSError, match="new"):
            await create(connection, name="recovery kit", confirm=write)
        assert list(stop.parent.iterdir()) == [stop], "a file is left that stops the next try"
        stop.rmdir()
        await create(connection, name="recovery kit", confirm=write)
    async with laptop(world.server, colleagues[0], world.folder / "bob", "bob") as bob:
        await renew_user_key(bob)
    org, words = await world.one.org.pull(), tuple[str, ...]()
    for file, colleague in zip(files, colleagues, strict=True):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        share = check_share_file(file.read_bytes(), org, expected_org=own.anchor.org)
        words += open_share(check_in_force(share, org), org, colleague.secrets)
    identity = await world.use(read_kit(words))
    assert identity.secrets.user_keys == own.secrets.user_keys


async def test_words_that_nobody_wrote_down_make_nothing(world: World) -> None:
    async def no(kit: Kit) -> bool:
        return False

    async with connect(
        world.home("one"), world.one.identity, clients=world.server.http
    ) as connection:
        with pytest.raises(InputError, match="nothing was made"):
            await create(connection, name="kit", confirm=no)
        assert len((await connection.org.pull()).devices) == 1


async def put(world: World, record: RecoveryRecord, secret: bytes) -> Kit:
    """A record that the words pin, but no certificate, and perhaps no truth."""
    async with connect(
        world.home("one"), world.one.identity, clients=world.server.http
    ) as connection:
        device = paper_keys(secret).request(b"").device
        await connection.server.put_recovery(device, encode(record))
    return make_kit(secret, record)


async def honest(world: World) -> RecoveryRecord:
    """As the only device sees its organization."""
    org, identity = world.one.org, world.one.identity
    await org.pull()
    return RecoveryRecord(
        anchor=identity.anchor, user=identity.secrets.user, org_state=org.roots_at(org.size())
    )


async def expect_nothing(world: World, kit: Kit, error: type[Exception], match: str) -> None:
    home = world.home("new")
    with pytest.raises(error, match=match):
        await world.use(kit)
    assert not DeviceFile(home.device).exists()
    assert not home.org_database.exists()


async def test_words_of_no_kit_here(world: World) -> None:
    kit = Kit(secret=bytes(16), digest=bytes(16))
    await expect_nothing(world, kit, UnknownKitError, "is its address the one on your paper")


async def test_words_that_are_no_device_of_anybody(world: World) -> None:
    kit = await put(world, await honest(world), bytes(16))
    await expect_nothing(world, kit, RevokedKitError, "these words are not taken")
    with pytest.raises(RevokedKitError):
        await drill(kit, server_url=BASE_URL, clients=world.server.http)


@pytest.mark.allows_log("REVOKED|this device was revoked")
async def test_words_of_a_kit_that_was_revoked(world: World) -> None:
    """Its device stands in the log for good: words that somebody else read bring nobody back."""
    kit = await world.kit()
    org = await world.one.org.pull()
    (paper,) = kits_of(org, world.one.identity.secrets.user)
    body = revocation(
        DeviceRevoked(device=paper.device),
        org=org,
        seen=world.one.org.seen(),
        author=world.one.author,
    )
    await world.one.client.append_certificate(world.one.org.log, body)
    await expect_nothing(world, kit, RevokedKitError, "these words are not taken")
    with pytest.raises(RevokedKitError):
        await drill(kit, server_url=BASE_URL, clients=world.server.http)
    assert kits_of(await world.one.org.pull(), paper.user) == ()


async def test_a_record_is_kept_for_good(world: World) -> None:
    record = await honest(world)
    await put(world, record, bytes(16))
    await put(world, record, bytes(16))
    with pytest.raises(RefusedError, match="EXISTS"):
        await put(world, replace(record, user=UserId(bytes(16))), bytes(16))
    for number in range(1, world.server.config.quotas.recoveries):
        await put(world, record, bytes((number,)) * 16)
    with pytest.raises(RefusedError, match="QUOTA"):
        await put(world, record, b"x" * 16)


async def test_a_server_that_moved_is_found_by_its_new_address(world: World) -> None:
    kit = await world.kit()
    record = await fetch_record(kit, BASE_URL + "/", clients=world.server.http)
    assert record.anchor.server_url == (BASE_URL + "/").encode()


@pytest.mark.parametrize(
    ("told", "error", "match"),
    [
        ({"log_root": sha256(b"another history")}, VerificationError, "."),
        ({"size": 50}, TrustchainError, "hides the end"),
    ],
)
async def test_history_must_pass_through_what_the_paper_pins(
    world: World, told: dict[str, Any], error: type[Exception], match: str
) -> None:
    record = await honest(world)
    record = replace(record, org_state=replace(record.org_state, **told))
    kit = await put(world, record, bytes(16))
    async with connect(
        world.home("one"), world.one.identity, clients=world.server.http
    ) as connection:
        await certify(connection, paper_keys(kit.secret).request(b"kit"))
    await expect_nothing(world, kit, error, match)
    # Refused before anything was signed.
    assert len((await world.one.org.pull()).devices) == 2
