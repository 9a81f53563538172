"""parsec-fs device add, join, list.

Data flow: code shown here -> typed or piped in there -> both verified -> device file.

Codes are never arguments: other users of the machine can read those.
"""

import json
import socket
import sys
from typing import Annotated

import trio
import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output, table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import connect
from parsec_fs.device_joining import invite, join
from parsec_fs.identity import Identity
from parsec_fs.joining import parse_code
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.errors import OfflineError
from parsec_fs.snapshots import realm_states

app = typer.Typer(no_args_is_help=True, help="Your devices.")


@app.command()
def add(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before adding it.")] = False,
) -> None:
    """Add another device of yours: prints a one-time code for `parsec-fs device join` there."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    name = trio.run(_invite, settings, identity, yes)
    settings.output.result({"added": name}, [f"{name} joined."])


async def _invite(settings: Settings, identity: Identity, yes: bool) -> str:
    output = settings.output

    def show_code(code: str) -> None:
        # A program that reads this line can hand it on before the command ends.
        print(json.dumps({"code": code}) if output.json else code, flush=True)
        output.note(
            "Type or paste this code on the new device, within ten minutes:\n"
            "  parsec-fs device join\n"
            "Show it to nobody: it makes whoever has it a device of yours."
        )
        output.progress("waiting for the other device")

    async def confirm(name: str) -> bool:
        if yes or not sys.stdin.isatty():
            return True
        output.clear()
        return await trio.to_thread.run_sync(typer.confirm, f'Add "{name}" to your devices?')

    async with connect(settings.home, identity) as connection:
        states = realm_states(settings.home, identity)
        return await invite(connection, states=states, show_code=show_code, confirm=confirm)


@app.command("join")
def join_command(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Name of this device.")] = "",
) -> None:
    """Become a device of yours; reads the code of `parsec-fs device add` from standard input."""
    settings = settings_of(context)
    if settings.device_file().exists():
        raise CommandError(
            ExitCode.BUSY,
            f"{settings.home.device} has a device already; for another: --home DIR",
        )
    code = parse_code(_read_code(settings.output))
    settings.output.progress("joining: waiting to be added by the other device")
    identity = trio.run(join, settings.home, code, name or socket.gethostname())
    lines = [
        "This device is one of yours now.",
        f"Its keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "Mount a workspace: parsec-fs workspace list",
    ]
    document = {"device": identity.secrets.device.hex(), "organization": identity.anchor.org.hex()}
    settings.output.result(document, lines)


def _read_code(output: Output) -> str:
    if sys.stdin.isatty():
        output.note("Code that `parsec-fs device add` shows on your other device:")
        return sys.stdin.readline()
    return sys.stdin.read(4096)


@app.command("list")
def list_devices(context: typer.Context) -> None:
    """Show the devices of the organization."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    rows = trio.run(_devices, settings, identity)
    lines = table(["DEVICE", "USER", "ID"], [[name, user, id] for name, user, id, _ in rows])
    document = [
        {"name": name, "user": user, "id": id, "this": this} for name, user, id, this in rows
    ]
    settings.output.result({"devices": document}, lines)


async def _devices(settings: Settings, identity: Identity) -> list[tuple[str, str, str, bool]]:
    async with connect(settings.home, identity) as connection:
        try:
            org = await connection.org.pull()
        except OfflineError:
            settings.output.note("! the server cannot be reached: what is known here")
            org = connection.org.state
        return [
            (
                plain_name(entry.device.label),
                plain_name(org.users[entry.device.user].name),
                id.hex(),
                id == identity.secrets.device,
            )
            for id, entry in org.devices.items()
        ]
