"""No key is found in any byte that devices and their server keep on a disk (A49).

Data flow: two people's devices, used -> every file of theirs and of the server -> search.

Keys of devices and of users, of what a device stores, of workspaces old and new, of blocks; and
once a passphrase is set, it and the key that it protects. What people name and write is searched
for in `test_secrets_at_rest`. As in there the search has to find all of it where it may be found:
for the keys that is the device file, once whoever has the file beside it has opened it.
"""

import os
from pathlib import Path

from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from parsec_fs.device_lock import open_identity, passphrase_lock, split
from parsec_fs.identity import DeviceSecrets
from parsec_fs.passphrase import FLOOR
from parsec_fs.protocol.certificates import CONTRIBUTOR
from parsec_fs.protocol.manifests import FileManifest
from tests.support.encodings import encodings, in_base32
from tests.support.laptops import Laptop, found, give_role, in_step, laptop, second_user
from tests.support.server import in_process

PASSPHRASE = b"not written down anywhere"


def own_keys(secrets: DeviceSecrets) -> dict[str, bytes]:
    """What the device file is for."""
    keys = {"signing": secrets.sign_seed, "box": secrets.box_seed, "local": secrets.local_key}
    return keys | {f"user {one.generation}": one.seed for one in secrets.user_keys}


def shared_keys(device: Laptop) -> dict[str, bytes]:
    """Of the workspace and of the blocks of a file in it."""
    parts, id = device.workspace, device.node("large").id
    manifest = parts.loader.load(id)
    assert isinstance(manifest, FileManifest)
    realm = {f"realm {index}": parts.keys.key(index).secret() for index in (1, 2)}
    return realm | {f"block {number}": ref.key for number, ref in enumerate(manifest.refs)}


def holders(folder: Path, keys: dict[str, bytes]) -> dict[str, set[str]]:
    """Names of files in which a key is, in whatever encoding, by the name of the key."""
    patterns = {name: {*encodings(key), *in_base32(key)} for name, key in keys.items()}
    there: dict[str, set[str]] = {}
    for path in (one for one in folder.rglob("*") if one.is_file()):
        data = path.read_bytes()
        for name, shapes in patterns.items():
            if any(shape in data for shape in shapes):
                there.setdefault(name, set()).add(path.name)
    return there


async def used(folder: Path) -> dict[str, bytes]:
    """Everything was written, shared, read and rotated; only what is on disk is left, and the keys
    that were used."""
    async with in_process(folder / "server") as server:
        identity = await found(server)
        DeviceFile(Home(root=folder / "home").device).create(identity, random=os.urandom)
        async with laptop(server, identity, folder / "one", "one") as alice:
            await alice.open(await alice.create_realm())
            alice.make("small", b"small")
            alice.make("large", os.urandom(2_500_000))
            await alice.push()
            bob = await second_user(alice)
            await give_role(alice, bob.secrets.user, CONTRIBUTOR)
            async with laptop(server, bob, folder / "two", "two") as other:
                await other.open(alice.workspace.replica.realm)
                other.write("small", b"by bob")
                await in_step(alice, other)
                his = {f"bob's {name}": key for name, key in own_keys(bob.secrets).items()}
                known = own_keys(identity.secrets) | his | shared_keys(other)
                assert holders(folder, known) == {}
    return known


async def test_no_key_is_found_anywhere(tmp_path: Path) -> None:
    keys = await used(tmp_path)
    assert len(keys) == 13
    assert holders(tmp_path, keys) == {}
    file = DeviceFile(Home(root=tmp_path / "home").device)
    opened_without_the_seal(tmp_path, file, keys)
    locked_by_a_passphrase(tmp_path, file, keys)


def opened_without_the_seal(folder: Path, file: DeviceFile, keys: dict[str, bytes]) -> None:
    """For whoever has the key file: the search finds them, however they are written."""
    lock, sealed = split(file.data_path.read_bytes())
    plain = open_identity(sealed, lock=lock, key=file.key_path.read_bytes())
    opened = folder / "opened"
    for data in (plain, plain.hex().encode()):
        opened.write_bytes(data)
        assert holders(folder, keys) == {
            name: {opened.name} for name in own_keys(file.load().secrets)
        }
    opened.unlink()


def locked_by_a_passphrase(folder: Path, file: DeviceFile, keys: dict[str, bytes]) -> None:
    """Neither the old key of the file is left, nor is the new one or the passphrase anywhere."""
    identity, key = file.load(), os.urandom(32)
    before = {"key file": file.key_path.read_bytes()}
    assert holders(folder, before) == {"key file": {"device.key"}}
    lock = passphrase_lock(PASSPHRASE, cost=FLOOR, key=key, random=os.urandom)
    file.replace_lock(identity, lock, key, random=os.urandom)
    secret = {"passphrase": PASSPHRASE, "file key": key}
    assert holders(folder, keys | before | secret) == {}
