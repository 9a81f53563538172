"""parsec-fs device add, join, list, revoke, rotate-user-key; passphrase and keyring are in `locks`.

Data flow: code shown here -> typed or piped in there -> fingerprint shown there -> compared here ->
both verified -> device file.

Codes are never arguments: other users of the machine can read those.
"""

import json
import socket
import sys
from functools import partial
from typing import Annotated

import trio
import typer

from parsec_fs.cli.connected import connected
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.fingerprint import device_fingerprint, same_fingerprint
from parsec_fs.cli.locks import keyring_app, passphrase_app
from parsec_fs.cli.output import Output, table
from parsec_fs.cli.questions import confirm_once
from parsec_fs.cli.settings import Settings, check_free, settings_of
from parsec_fs.connection import connect
from parsec_fs.device_joining import invite, join
from parsec_fs.identity import Identity
from parsec_fs.joining import JoinRequest, parse_code
from parsec_fs.key_renewal import renew_user_key
from parsec_fs.people import find_device, has_revoked_namesake
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device
from parsec_fs.revocation import Revoked, revoke_device
from parsec_fs.snapshots import realm_states

app = typer.Typer(no_args_is_help=True, help="Your devices.")
app.add_typer(passphrase_app, name="passphrase")
app.add_typer(keyring_app, name="keyring")


@app.command()
def add(
    context: typer.Context,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask: add whoever answers the code first.")
    ] = False,
) -> None:
    """Add another device of yours: prints a one-time code for `parsec-fs device join` there.

    Then it asks whether the fingerprint is the one that the new device shows. Where standard input
    is no terminal, the new device's fingerprint is read from there."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    added = trio.run(_invite, settings, identity, yes)
    name = plain_name(added.label)
    document = {"added": name, "fingerprint": device_fingerprint(added)}
    settings.output.result(document, [f"{name} joined."])


async def _invite(settings: Settings, identity: Identity, yes: bool) -> JoinRequest:
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

    async def confirm(request: JoinRequest) -> bool:
        if yes:
            return True
        output.clear()
        return _is_the_same(request)

    async with connect(settings.home, identity) as connection:
        states = realm_states(settings.home, identity)
        return await invite(connection, states=states, show_code=show_code, confirm=confirm)


def _is_the_same(request: JoinRequest) -> bool:
    """A person's answer, or the fingerprint on standard input. Raises CommandError."""
    name, mark = plain_name(request.label), device_fingerprint(request)
    if sys.stdin.isatty():
        typer.echo(f'"{name}" wants to be a device of yours. Its fingerprint: {mark}', err=True)
        return typer.confirm("Does the new device show the same, and shall it be added?", err=True)
    expected = sys.stdin.readline()
    if same_fingerprint(expected, mark):
        return True
    reason = "it has another fingerprint: somebody else has answered the code"
    if not expected.strip():
        reason = "nobody compared fingerprints; write the new device's to standard input"
    raise CommandError(ExitCode.WRONG_SECRET, f"{name} was not added: {reason}")


@app.command("join")
def join_command(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Name of this device.")] = "",
) -> None:
    """Become a device of yours; reads the code of `parsec-fs device add` from standard input."""
    settings = settings_of(context)
    check_free(settings)
    code = parse_code(_read_code(settings.output))
    requests: list[JoinRequest] = []

    def show_request(request: JoinRequest) -> None:
        requests.append(request)
        settings.output.important(f"fingerprint of this device: {device_fingerprint(request)}")
        settings.output.progress("waiting for the other device, where you compare it")

    label = name or socket.gethostname()
    identity = trio.run(partial(join, show_request=show_request), settings.home, code, label)
    lines = [
        "This device is one of yours now.",
        f"Its keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "Lock them by a passphrase: parsec-fs device passphrase set",
        "Mount a workspace: parsec-fs workspace list",
    ]
    document = {
        "device": identity.secrets.device.hex(),
        "organization": identity.anchor.org.hex(),
        "fingerprint": device_fingerprint(requests[-1]),
    }
    settings.output.result(document, lines)


def _read_code(output: Output) -> str:
    if sys.stdin.isatty():
        output.note("Code that `parsec-fs device add` shows on your other device:")
        return sys.stdin.readline()
    return sys.stdin.read(4096)


@app.command("rotate-user-key")
def rotate_user_key(context: typer.Context) -> None:
    """Make a new key for you, for all your devices; workspaces get new keys sealed to it."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    generation, devices = trio.run(_renew, settings, identity)
    document = {
        "generation": generation,
        "devices": [{"name": plain_name(one.label), "id": one.device.hex()} for one in devices],
    }
    names = ", ".join(plain_name(one.label) for one in devices)
    lines = [
        f"You have a new key, number {generation}, for {names}.",
        "Mounted workspaces make new keys by themselves, within minutes.",
        "What was written before stays readable to whoever holds the old keys.",
    ]
    settings.output.result(document, lines)


async def _renew(settings: Settings, identity: Identity) -> tuple[int, tuple[Device, ...]]:
    async with connect(settings.home, identity) as connection:
        return await renew_user_key(connection)


@app.command("revoke")
def revoke_command(
    context: typer.Context,
    device: Annotated[str, typer.Argument(help="Name of the device, its id, or how that begins.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a device, lost or stolen: it gets and sends nothing more, and keys change without it."""
    settings = settings_of(context)
    identity = settings.device_file().load()

    async def run() -> tuple[str, str, Revoked]:
        async with connect(settings.home, identity) as connection:
            org = await connection.org.pull()
            found = find_device(org, device)
            name, person = plain_name(found.device.label), org.users[found.device.user]
            owner = f"{plain_name(person.name)} <{plain_name(person.email)}>"
            if found.revoked is None:
                again = has_revoked_namesake(org, device)
                question = f"Revoke {name} of {owner}, for good?"
                confirm_once(question, yes, again)
            return name, owner, await revoke_device(connection, found)

    name, owner, done = trio.run(run)
    lines = [
        f"{name} of {owner} {'was revoked already' if done.before else 'is revoked'}.",
        *["Your new user key was missing: it is made now."] * (done.before and done.renewed),
        "Mounted workspaces make new keys by themselves, within minutes.",
        "What it could read before it may have kept.",
    ]
    document = {
        "revoked": name,
        "user": owner,
        "new_user_key": done.renewed,
        "already": done.before,
    }
    settings.output.result(document, lines)


@app.command("list")
def list_devices(context: typer.Context) -> None:
    """Show the devices of the organization."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    rows = trio.run(_devices, settings, identity)
    lines = table(
        ["DEVICE", "USER", "STATE", "ID"],
        [[name, user, "revoked" * gone, id] for name, user, id, _, gone in rows],
    )
    document = [
        {"name": name, "user": user, "id": id, "this": this, "revoked": gone}
        for name, user, id, this, gone in rows
    ]
    settings.output.result({"devices": document}, lines)


async def _devices(
    settings: Settings, identity: Identity
) -> list[tuple[str, str, str, bool, bool]]:
    async with connected(settings, identity) as connection:
        org = connection.org.state
        return [
            (
                plain_name(entry.device.label),
                plain_name(org.users[entry.device.user].name),
                id.hex(),
                id == identity.secrets.device,
                entry.revoked is not None,
            )
            for id, entry in org.devices.items()
        ]
