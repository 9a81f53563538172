"""parsec-fs device add, cancel, join, list, revoke, rotate-user-key; its lock is in `locks`.

Data flow: link shown here -> typed or piped in there -> a code on each screen, picked on the other
-> certificate -> device file there.
"""

import socket
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import trio
import typer

from parsec_fs.cli.connected import connected
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.greeting import AtThisSide, begin, hours_left, show_link
from parsec_fs.cli.locks import keyring_app, passphrase_app
from parsec_fs.cli.output import table
from parsec_fs.cli.questions import confirm_once
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import connect
from parsec_fs.conversation import wall_ms
from parsec_fs.device_joining import (
    VALID_S,
    accept_device,
    greet_device,
    new_device_greeting,
    new_device_joining,
)
from parsec_fs.greeting import DEVICE, DeviceInvitation
from parsec_fs.greeting_sides import cancel as take_back
from parsec_fs.greeting_sides import tell_again
from parsec_fs.identity import Identity
from parsec_fs.joining import JoinRequest
from parsec_fs.key_renewal import renew_user_key
from parsec_fs.pending import Greeting, GreetingFiles
from parsec_fs.people import find_device, has_revoked_namesake, name_and_address
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device
from parsec_fs.protocol.errors import InputError, RefusedError
from parsec_fs.revocation import Revoked, revoke_device
from parsec_fs.snapshots import realm_states

Json = dict[str, Any]

app = typer.Typer(no_args_is_help=True, help="Your devices.")
app.add_typer(passphrase_app, name="passphrase")
app.add_typer(keyring_app, name="keyring")


@app.command()
def add(
    context: typer.Context,
    hours: Annotated[int, typer.Option(min=1, max=48, help="How long the link is valid.")] = (
        VALID_S // 3600
    ),
) -> None:
    """Add another device of yours: prints a link for `parsec-fs device join` there, and waits.

    Then each of the two screens shows a code, which you pick on the other one. Ctrl-C keeps the
    invitation; the same command goes on with it."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    name = plain_name(trio.run(_invite, settings, identity, hours).label)
    settings.output.result({"added": name}, [f"{name} joined."])


async def _invite(settings: Settings, identity: Identity, hours: int) -> JoinRequest:
    output, files = settings.output, _files(settings, identity)
    async with connect(settings.home, identity) as connection:
        org = await connection.org.pull()
        greeting = await _under_way(files)
        if greeting is None:
            greeting = new_device_greeting(connection, org, valid_s=3600 * hours)
            files.save(greeting)
        show_link(output, greeting)
        output.note(
            "Type or paste this link on the new device, within "
            f"{hours_left(greeting.expires_ms())} h:\n"
            "  parsec-fs device join\n"
            "Ctrl-C keeps it; go on with: parsec-fs device add. Or: parsec-fs device cancel"
        )
        output.progress("waiting for the new device")
        states = realm_states(settings.home, identity)
        person = AtThisSide(output, "the new device", screen=True)
        return await greet_device(connection, greeting, states=states, files=files, person=person)


async def _under_way(files: GreetingFiles) -> Greeting | None:
    """The invitation that nobody has joined by yet. A device that joined by an earlier one may not
    have heard of it while the server kept the answer: it is told again."""
    found = None
    for one in files.all(wall_ms(), kind=DEVICE):
        if one.is_over():
            with suppress(InputError, RefusedError):
                await tell_again(one)
        else:
            found = one
    return found


@app.command()
def cancel(context: typer.Context) -> None:
    """Take the invitation of a device back: its link is worth nothing then, and whoever waits with
    it is told. Not while `parsec-fs device add` runs."""
    settings = settings_of(context)
    files = _files(settings, settings.device_file().load())
    waiting = [one for one in files.all(wall_ms(), kind=DEVICE) if not one.is_over()]
    if not waiting:
        raise CommandError(
            ExitCode.NOT_FOUND, "no device is invited here; one is: parsec-fs device add"
        )
    done = [trio.run(partial(take_back, one, files=files)) for one in waiting]
    lines = ["The invitation of a device is cancelled."]
    if not all(told for _, told in done):
        lines.append("The server could not be told: whoever waits goes on waiting.")
    if any(one.has_request() for one, _ in done):
        lines.append("Keys had been sent: it may be a device already: parsec-fs device list")
    settings.output.result({"cancelled": True, "told": all(told for _, told in done)}, lines)


def _files(settings: Settings, identity: Identity) -> GreetingFiles:
    return GreetingFiles(settings.home.invitations, identity.secrets.local_key)


@app.command("join")
def join_command(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="Name of this device.")] = "",
    instead: Annotated[
        bool, typer.Option("--instead", help="Give up a join that was begun with another link.")
    ] = False,
) -> None:
    """Become a device of yours; reads the link of `parsec-fs device add` from standard input.

    Ctrl-C loses nothing: the same command goes on, with the same link or an empty line."""
    settings = settings_of(context)
    output, label = settings.output, name or socket.gethostname()
    file = begin(settings, DEVICE, lambda link: new_device_joining(link, label), instead=instead)
    person = AtThisSide(output, "the other device", screen=True)

    def invited(terms: DeviceInvitation) -> None:
        person.other = plain_name(terms.inviter_name)
        output.note(
            f"{person.other} invites a device of {plain_name(terms.user_name)} to "
            f"{plain_name(terms.org_name)}"
        )
        output.progress(f"waiting for {person.other}")

    output.progress("waiting for the other device, where you type: parsec-fs device add")
    identity = trio.run(
        partial(accept_device, settings.home, file=file, person=person, invited=invited)
    )
    lines = [
        "This device is one of yours now.",
        f"Its keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "Lock them by a passphrase: parsec-fs device passphrase set",
        "Mount a workspace: parsec-fs workspace list",
    ]
    document = {
        "device": identity.secrets.device.hex(),
        "organization": identity.anchor.org.hex(),
    }
    output.result(document, lines)


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
            owner = name_and_address(person)
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
    found = trio.run(_devices, settings, identity)
    ids = settings.output.verbose
    lines = table(
        ["DEVICE", "NAME", "E-MAIL", "STATE", *["ID"] * ids],
        [
            [one["name"], one["user"], one["email"], _state(one), *[one["id"]] * ids]
            for one in found
        ],
    )
    settings.output.result({"devices": found}, lines)


def _state(device: Json) -> str:
    return "revoked" if device["revoked"] else "this device" if device["this"] else "-"


async def _devices(settings: Settings, identity: Identity) -> list[Json]:
    async with connected(settings, identity) as connection:
        org = connection.org.state
        return [
            {
                "name": plain_name(entry.device.label),
                "user": plain_name(org.users[entry.device.user].name),
                "email": plain_name(org.users[entry.device.user].email),
                "id": id.hex(),
                "this": id == identity.secrets.device,
                "revoked": entry.revoked is not None,
            }
            for id, entry in org.devices.items()
        ]
