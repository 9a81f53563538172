"""Where the state of a device lies, and what a mount can be told.

Data flow: command line and environment, already read -> frozen values -> composition roots.

Pure: nothing here looks at a disk or at the environment. Each part is given the few paths and
values that it needs, never the whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.limits import MIB

HOME_VARIABLE: Final = "PARSEC_FS_HOME"
CACHE_DEFAULT_SIZE: Final = 10 * 1024 * MIB
"""Bytes of blocks on this device, those that wait for their upload and those that are kept."""


class Durability(StrEnum):
    """What a mount option promises to wait for: the words of a piece of data's journey."""

    LOCAL = "local"
    LOGGED = "logged"
    ANCHORED = "anchored"
    AUDITED = "audited"


class Consistency(StrEnum):
    """`local`: system calls answer from this device. `strict`: `open` asks the server first."""

    LOCAL = "local"
    STRICT = "strict"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspacePaths:
    """Folder of one workspace on this device."""

    root: Path

    @property
    def database(self) -> Path:
        """The replica: sealed manifests, heads, outbox."""
        return self.root / "realm.db"

    @property
    def audit_database(self) -> Path:
        """The log as an audit without keys replays it: no manifest, no key box."""
        return self.root / "audit.db"

    @property
    def journal(self) -> Path:
        """Changes that are not logged yet."""
        return self.root / "journal"

    @property
    def blocks(self) -> Path:
        """Ciphertext blocks: pending and cached."""
        return self.root / "blocks"

    @property
    def socket(self) -> Path:
        """Where a running daemon listens."""
        return self.root / "daemon.sock"

    @property
    def lock(self) -> Path:
        """Locked by the one daemon that uses this folder; holds its pid and mountpoint."""
        return self.root / "daemon.pid"

    @property
    def log(self) -> Path:
        """What the daemon writes about itself."""
        return self.root / "logs" / "daemon.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The state folder."""

    root: Path

    @property
    def device(self) -> Path:
        """Keys and organization."""
        return self.root / "device"

    @property
    def org_database(self) -> Path:
        """Org log, heads, audit state."""
        return self.device / "org.db"

    @property
    def invitations(self) -> Path:
        """Invitations of this device that have not expired."""
        return self.device / "invitations"

    @property
    def evidence(self) -> Path:
        """Proofs of misbehaviour, one file each."""
        return self.device / "evidence"

    @property
    def workspaces(self) -> Path:
        """One folder per workspace."""
        return self.device / "workspaces"

    @property
    def services(self) -> Path:
        """Servers that the quickstart runs here."""
        return self.root / "services"

    def workspace(self, realm: RealmId) -> WorkspacePaths:
        """Paths of a workspace; its folder need not exist."""
        return WorkspacePaths(root=self.workspaces / realm.hex())


@dataclass(frozen=True, slots=True, kw_only=True)
class MountOptions:
    """What a mount can be told. `cache_size` in bytes; `stored_owners`: show them as they are."""

    fsync: Durability = Durability.LOCAL
    consistency: Consistency = Consistency.LOCAL
    cache_size: int = CACHE_DEFAULT_SIZE
    allow_other: bool = False
    stored_owners: bool = False


def home_of(given: Path | None, environment: Mapping[str, str], *, working_directory: Path) -> Home:
    """The state folder: as given, else of the environment, else the user's data folder."""
    chosen = given or _from_environment(environment)
    return Home(root=working_directory / chosen)


def _from_environment(environment: Mapping[str, str]) -> Path:
    if environment.get(HOME_VARIABLE):
        return Path(environment[HOME_VARIABLE])
    if environment.get("XDG_DATA_HOME"):
        return Path(environment["XDG_DATA_HOME"]) / "parsec-fs"
    if environment.get("HOME"):
        return Path(environment["HOME"]) / ".local/share/parsec-fs"
    raise InputError(f"no state folder: give --home DIR or set {HOME_VARIABLE}")
