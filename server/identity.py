"""The server's keys: head key, co-signature key and their registration, in 0600 files.

Data flow: `parsec-server init` draws and writes -> `run` loads -> signatures of heads, refusals and
statements. The registration is public; it goes into the genesis of the chain.

The head key signs heads and refusals for ever, for organizations pin it. The pair that signs
statements begins as head key and co-key and can change (rule 17): every change writes new files,
and `key-changes` last, so that a crash leaves the old pair in force.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from parsec_fs.protocol.codec import Size, decode, encode
from parsec_fs.protocol.errors import DataError, InputError
from parsec_fs.protocol.hashing import server_log_id
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.keys import CoSigningKey, SigningKey, generate_seed
from parsec_fs.protocol.limits import KEY_CHANGES_MAX
from parsec_fs.protocol.statements import (
    KeyChange,
    ServerRegistration,
    SignedKeyChange,
    sign_key_change,
)

HEAD_KEY_FILE: Final = "head.key"
CO_KEY_FILE: Final = "co.key"
REGISTRATION_FILE: Final = "registration"
KEY_CHANGES_FILE: Final = "key-changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanges:
    """Content of the file `key-changes`."""

    changes: Annotated[tuple[SignedKeyChange, ...], Size(1, KEY_CHANGES_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Both signing keys (hidden repr) and what the chain knows of them."""

    registration: ServerRegistration
    head_key: SigningKey
    co_key: CoSigningKey
    statement_keys: tuple[SigningKey, CoSigningKey]
    """The pair that signs statements now."""
    changes: tuple[SignedKeyChange, ...] = ()
    """How it came from the registered pair."""

    @property
    def server_log(self) -> ServerLogId:
        """Identity of the server on the chain."""
        return self.registration.server_log


def make_identity(
    *, name: bytes, epoch_ms: int, heartbeat_ms: int, head_seed: bytes, co_seed: bytes
) -> ServerIdentity:
    """Identity that follows from name, intervals and two secret seeds. Raises DataError."""
    head_key, co_key = SigningKey(head_seed), CoSigningKey(co_seed)
    public, co_public = head_key.verify_key.raw, co_key.verify_key.raw
    registration = ServerRegistration(
        name=name,
        server_log=ServerLogId(server_log_id(name, public, co_public)),
        head_key=public,
        co_key=co_public,
        epoch_ms=epoch_ms,
        heartbeat_ms=heartbeat_ms,
    )
    encode(registration)  # checks lengths and ranges
    return ServerIdentity(
        registration=registration,
        head_key=head_key,
        co_key=co_key,
        statement_keys=(head_key, co_key),
    )


def create_identity(
    home: Path,
    *,
    name: bytes,
    epoch_ms: int,
    heartbeat_ms: int,
    random: Callable[[int], bytes] = os.urandom,
) -> ServerIdentity:
    """Draw keys and write every file; an existing identity is never replaced. Raises InputError."""
    head_seed, co_seed = generate_seed(random), generate_seed(random)
    try:
        identity = make_identity(
            name=name,
            epoch_ms=epoch_ms,
            heartbeat_ms=heartbeat_ms,
            head_seed=head_seed,
            co_seed=co_seed,
        )
    except DataError as error:
        raise InputError(f"not a usable name or interval: {error}") from error
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_new(home / HEAD_KEY_FILE, head_seed, mode=0o600)
    write_new(home / CO_KEY_FILE, co_seed, mode=0o600)
    write_new(home / REGISTRATION_FILE, encode(identity.registration), mode=0o644)
    return identity


def change_keys(
    home: Path, *, chain_id: bytes, random: Callable[[int], bytes] = os.urandom
) -> ServerIdentity:
    """Draw a new pair of keys for statements, and sign the change with it and with the pair before.
    The next statement that a server with these files signs carries it. Raises InputError."""
    identity = load_identity(home)
    number = len(identity.changes)
    if number >= KEY_CHANGES_MAX:
        raise InputError(f"the keys were changed {number} times; make a new server")
    seeds = generate_seed(random), generate_seed(random)
    after = SigningKey(seeds[0]), CoSigningKey(seeds[1])
    change = sign_key_change(
        chain_id=chain_id,
        server_log=identity.server_log,
        number=number,
        before=identity.statement_keys,
        after=after,
    )
    _write_pair(home, number, seeds)
    changes = (*identity.changes, change)
    _replace(home / KEY_CHANGES_FILE, encode(KeyChanges(changes=changes)))
    return replace(identity, statement_keys=after, changes=changes)


def _write_pair(home: Path, number: int, seeds: tuple[bytes, bytes]) -> None:
    """Left over from a change that was interrupted: nothing was signed with them, begin again."""
    for path, seed in zip(_pair_files(home, number), seeds, strict=True):
        path.unlink(missing_ok=True)
        write_new(path, seed, mode=0o600)


def _pair_files(home: Path, number: int) -> tuple[Path, Path]:
    return home / f"statement-{number + 1}.key", home / f"statement-{number + 1}-co.key"


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    write_new(temporary, data, mode=0o644)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _with_changes(home: Path, identity: ServerIdentity) -> ServerIdentity:
    """The identity with the newest pair, if there was a change. Raises DataError, OSError."""
    if not (home / KEY_CHANGES_FILE).exists():
        return identity
    changes = decode(KeyChanges, (home / KEY_CHANGES_FILE).read_bytes()).changes
    key, co_key = (path.read_bytes() for path in _pair_files(home, len(changes) - 1))
    pair = SigningKey(key), CoSigningKey(co_key)
    newest = decode(KeyChange, changes[-1].change)
    if (newest.statement_key, newest.co_key) != (pair[0].verify_key.raw, pair[1].verify_key.raw):
        raise DataError("key files and key changes do not belong together")
    return replace(identity, statement_keys=pair, changes=changes)


def load_identity(home: Path) -> ServerIdentity:
    """What `create_identity` and `change_keys` wrote. Raises InputError."""
    try:
        registration = decode(ServerRegistration, (home / REGISTRATION_FILE).read_bytes())
        identity = make_identity(
            name=registration.name,
            epoch_ms=registration.epoch_ms,
            heartbeat_ms=registration.heartbeat_ms,
            head_seed=(home / HEAD_KEY_FILE).read_bytes(),
            co_seed=(home / CO_KEY_FILE).read_bytes(),
        )
        identity = _with_changes(home, identity)
    except FileNotFoundError as error:
        raise InputError(f"{home}: no server here; run `parsec-server init` first") from error
    except (OSError, ValueError, DataError) as error:
        raise InputError(f"{home}: the server's files are damaged or unreadable") from error
    if identity.registration != registration:
        raise InputError(f"{home}: key files and registration do not belong together")
    return identity


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """A new file, synced. Raises InputError if there is one of that name."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; keys are never replaced") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
