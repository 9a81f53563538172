"""The server's keys: head key, co-signature key and their registration, in 0600 files.

Data flow: `parsec-server init` draws and writes -> `run` loads -> signatures of heads, refusals and
statements. The registration is public; it goes into the genesis of the chain.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import DataError, InputError
from parsec_fs.protocol.hashing import server_log_id
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.keys import CoSigningKey, SigningKey, generate_seed
from parsec_fs.protocol.statements import ServerRegistration

HEAD_KEY_FILE: Final = "head.key"
CO_KEY_FILE: Final = "co.key"
REGISTRATION_FILE: Final = "registration"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """Both signing keys (hidden repr) and what the chain knows of them."""

    registration: ServerRegistration
    head_key: SigningKey
    co_key: CoSigningKey

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
    return ServerIdentity(registration=registration, head_key=head_key, co_key=co_key)


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


def load_identity(home: Path) -> ServerIdentity:
    """What `create_identity` wrote. Raises InputError."""
    try:
        registration = decode(ServerRegistration, (home / REGISTRATION_FILE).read_bytes())
        identity = make_identity(
            name=registration.name,
            epoch_ms=registration.epoch_ms,
            heartbeat_ms=registration.heartbeat_ms,
            head_seed=(home / HEAD_KEY_FILE).read_bytes(),
            co_seed=(home / CO_KEY_FILE).read_bytes(),
        )
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
