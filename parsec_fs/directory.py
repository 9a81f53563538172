"""The workspaces that this device knows, by name.

Data flow: discovery -> sealed in org.db -> this -> commands, also offline.

Names are kept sealed under the device's local key: org.db shows nobody what workspaces are called.
"""

import os
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.identity import DeviceSecrets
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.codec import Increasing, Label, decode, encode
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.sealing import LocalSealer
from parsec_fs.storage.org_store import OrgStore

_FACT: Final = "workspaces"
_CONTEXT: Final = tag("workspace-names")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A workspace and its name."""

    realm: RealmId
    name: Label

    @property
    def title(self) -> str:
        """The name for people: printable, on one line."""
        return plain_name(self.name)


def unnamed(realm: RealmId) -> Workspace:
    """A workspace whose name does not open here, as an auditor's: called by how its id begins."""
    return Workspace(realm=realm, name=realm.hex()[:8].encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Directory:
    workspaces: Annotated[tuple[Workspace, ...], Increasing()]


def known_workspaces(store: OrgStore, secrets: DeviceSecrets) -> tuple[Workspace, ...]:
    """What was found before, without the server. Raises DataError, DecryptionError."""
    sealed = store.fact(_FACT)
    if sealed is None:
        return ()
    plain = LocalSealer(secrets.local_key).open(sealed, expected_context=_CONTEXT)
    return decode(_Directory, plain).workspaces


async def keep_workspaces(
    store: OrgStore, secrets: DeviceSecrets, found: tuple[Workspace, ...]
) -> None:
    """Replace what is known; durable when this returns."""
    ordered = tuple(sorted(found, key=lambda one: one.realm))
    plain = encode(_Directory(workspaces=ordered))
    sealed = LocalSealer(secrets.local_key).seal(plain, context=_CONTEXT, salt=os.urandom(32))
    await store.save_fact(_FACT, sealed)


def matching(workspaces: tuple[Workspace, ...], text: str) -> list[Workspace]:
    """By name, as it is or as it is shown, else by the beginning of the id (8 characters or
    more)."""
    exact = text.encode(errors="surrogateescape")
    named = [one for one in workspaces if one.name == exact or one.title == text]
    by_id = [one for one in workspaces if len(text) >= 8 and one.realm.hex().startswith(text)]
    return named or by_id
