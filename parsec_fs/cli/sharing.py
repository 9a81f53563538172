"""parsec-fs workspace share, workspace unshare, workspace take-over, members.

Data flow: names -> verified org log -> daemon, or this process if nothing is mounted -> table.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import trio
import typer

from parsec_fs.blind_audit import blind_audit
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import Connection, connect
from parsec_fs.control import call
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.directory import matching, unnamed
from parsec_fs.discovery import find_all
from parsec_fs.lockfile import held, holder
from parsec_fs.people import ROLES, find_user, members_of
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import NO_ROLE, User
from parsec_fs.workspace.assembly import Outside, Workspace, assemble
from parsec_fs.workspace.audit_view import Unaudited

Json = dict[str, Any]
T = TypeVar("T")


class RoleName(StrEnum):
    """The words of `ROLES`."""

    OWNER = "owner"
    MANAGER = "manager"
    CONTRIBUTOR = "contributor"
    READER = "reader"
    AUDITOR = "auditor"


def share(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")],
    user: Annotated[str, typer.Argument(help="Name or e-mail address of the person.")],
    role: Annotated[RoleName, typer.Option(help="What they may do.")],
) -> None:
    """Give a person a role in a workspace, or another one; all but auditors read past versions."""
    settings = settings_of(context)
    named, found, changed = _set_role(settings, workspace, user, ROLES[role.value])
    name, id = plain_name(found.name), named.realm.hex()
    verb = "is now" if changed else "is already"
    lines = [f"{name} {verb} {role} of {workspace}."]
    if role is RoleName.AUDITOR:
        lines.append(f"They verify it without opening it: parsec-fs audit {id[:8]}")
    document = {"user": name, "role": str(role), "changed": changed, "workspace_id": id}
    settings.output.result(document, lines)


def unshare(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")],
    user: Annotated[str, typer.Argument(help="Name or e-mail address of the person.")],
) -> None:
    """Take a person's role in a workspace; what is written from then on has a new key."""
    settings = settings_of(context)
    _, found, changed = _set_role(settings, workspace, user, NO_ROLE)
    name = plain_name(found.name)
    lines = [f"{name} has no role in {workspace}" + (" any more." if changed else ".")]
    lines += ["What they could read before they may have kept."] * changed
    settings.output.result({"user": name, "role": "none", "changed": changed}, lines)


def take_over(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")],
) -> None:
    """Become owner of a workspace whose owners were all revoked; the highest role left may."""
    settings = settings_of(context)
    _, found, changed = _set_role(settings, workspace, None, ROLES[RoleName.OWNER.value])
    name = plain_name(found.name)
    lines = [f"{name} {'is now' if changed else 'is already'} owner of {workspace}."]
    settings.output.result({"user": name, "role": "owner", "changed": changed}, lines)


def members(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name of the workspace, or how its id begins.")],
) -> None:
    """Show who may do what in a workspace; also to its auditors."""
    settings = settings_of(context)

    async def run(connection: Connection, named: NamedWorkspace) -> list[Json]:
        if holder(settings.home.workspace(named.realm).lock):
            socket = settings.home.workspace(named.realm).socket
            answer: list[Json] = (await call(socket, "members"))["members"]
            return answer
        if named == unnamed(named.realm):
            async with blind_audit(settings.home, connection, named) as blind:
                await blind.replica.pull()
                return members_of(connection.org.state, blind.replica.state)
        async with opened(settings, connection, named) as here:
            await here.replica.pull()
            return members_of(connection.org.state, here.replica.state)

    found = trio.run(_with_workspace, settings, workspace, run)
    rows = [[one["name"], one["email"], _role(one), str(one["devices"])] for one in found]
    lines = table(["NAME", "E-MAIL", "ROLE", "DEVICES"], rows)
    settings.output.result({"members": found}, lines)


def _role(member: Json) -> str:
    return f"{member['role']} (revoked)" if member["revoked"] else str(member["role"])


def _set_role(
    settings: Settings, workspace: str, text: str | None, role: int
) -> tuple[NamedWorkspace, User, bool]:
    """`text`: who is meant; this device's user if it is None."""

    async def run(
        connection: Connection, named: NamedWorkspace
    ) -> tuple[NamedWorkspace, User, bool]:
        org, own = connection.org.state, connection.identity.secrets.user
        user = org.users[own] if text is None else find_user(org, text)
        paths = settings.home.workspace(named.realm)
        if holder(paths.lock):
            parameters = {"user": user.user.hex(), "role": role}
            changed: bool = (await call(paths.socket, "share", parameters))["changed"]
            return named, user, changed
        async with opened(settings, connection, named) as here:
            return named, user, await here.sharing.set_role(user.user, role)

    return trio.run(_with_workspace, settings, workspace, run)


async def _with_workspace(
    settings: Settings, text: str, run: Callable[[Connection, NamedWorkspace], Awaitable[T]]
) -> T:
    identity = settings.device_file().load()
    async with connect(settings.home, identity) as connection:
        everything = sum(await find_all(connection), start=())
        found = matching(everything, text)
        if len(found) != 1:
            problem = f"{len(found)} workspaces are called" if found else "there is no workspace"
            text = f"{problem} {text}; see: parsec-fs workspace list"
            raise CommandError(ExitCode.NOT_FOUND, text)
        return await run(connection, found[0])


@asynccontextmanager
async def opened(
    settings: Settings, connection: Connection, named: NamedWorkspace
) -> AsyncIterator[Workspace]:
    """The workspace's log and keys in this process, while nothing is mounted."""
    paths = settings.home.workspace(named.realm)
    outside = Outside(
        server=connection.server,
        signer=connection.signer,
        org=connection.org,
        author=connection.author,
        audit=Unaudited(),
        pins=connection.identity.pins,
        label=lambda: b"",
        root_owner=(os.getuid(), os.getgid()),
    )
    with held(paths.lock, "no folder"):
        workspace = assemble(paths.root, named.realm, outside)
        try:
            if workspace.bootstrap.is_first():
                await workspace.bootstrap.open_first()
            yield workspace
        finally:
            workspace.close()
