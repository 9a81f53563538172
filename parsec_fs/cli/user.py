"""parsec-fs user invite, greet, invitations, cancel, join, revoke, list; profiles are in `profile`.

Data flow: link shown here -> pasted there -> codes read out and recognized on both sides ->
certificates -> device file there.

Links are never arguments: other users of the machine can read those.
"""

import socket
from functools import partial
from typing import Annotated

import trio
import typer

from parsec_fs.cli.connected import connected
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.greeting import AtThisSide, begin, hours_left, show_link
from parsec_fs.cli.hints import NO_KIT
from parsec_fs.cli.output import Output, table
from parsec_fs.cli.profile import Profile, profile_command
from parsec_fs.cli.questions import confirm_once
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import Connection, connect
from parsec_fs.conversation import wall_ms
from parsec_fs.greeting import PERSON, PersonInvitation
from parsec_fs.greeting_sides import cancel as take_back
from parsec_fs.identity import Identity
from parsec_fs.last_owners import owned_alone
from parsec_fs.pending import Greeting, GreetingFiles
from parsec_fs.people import (
    PROFILES,
    find_user,
    has_revoked_namesake,
    name_and_address,
    profile_name,
)
from parsec_fs.person_joining import (
    VALID_S,
    accept_person,
    greet_person,
    new_greeting,
    new_joining,
)
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.ids import UserId
from parsec_fs.revocation import Revoked, revoke_user

app = typer.Typer(no_args_is_help=True, help="The people of the organization.")
app.command("profile")(profile_command)


@app.command()
def invite(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    email: Annotated[str, typer.Option(help="E-mail address; default: NAME, if it is one.")] = "",
    profile: Annotated[
        Profile, typer.Option(help="What they may do in the organization.")
    ] = Profile.STANDARD,
    hours: Annotated[int, typer.Option(min=1, max=24 * 14, help="How long the link is valid.")] = (
        VALID_S // 3600
    ),
) -> None:
    """Invite a person: prints a link to send to them, and waits for them.

    When they open it, each of you reads a short code to the other, by voice. Ctrl-C keeps the
    invitation; go on with `parsec-fs user greet NAME`."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    address = email or name

    async def run() -> None:
        async with connect(settings.home, identity) as connection:
            org = await connection.org.pull()
            greeting = new_greeting(
                connection,
                org,
                name=name,
                email=address,
                profile=PROFILES[profile.value],
                valid_s=3600 * hours,
            )
            files = _files(settings, identity)
            files.save(greeting)
            await _greet(settings.output, connection, greeting, files)

    trio.run(run)


@app.command("greet")
def greet_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or e-mail address of the invited person.")],
) -> None:
    """Go on with an invitation: shows its link again and waits for the person."""
    settings = settings_of(context)
    identity, files, greeting = _invited(settings, name)

    async def run() -> None:
        async with connect(settings.home, identity) as connection:
            await connection.org.pull()
            await _greet(settings.output, connection, greeting, files)

    trio.run(run)


async def _greet(
    output: Output, connection: Connection, greeting: Greeting, files: GreetingFiles
) -> None:
    terms = greeting.terms()
    other = plain_name(terms.name)
    show_link(output, greeting)
    hours = hours_left(terms.expires_ms)
    output.note(
        f"Send {other} this link, valid for {hours} h. There: parsec-fs user join\n"
        f"Ctrl-C keeps the invitation; go on with: parsec-fs user greet {other}"
    )
    output.progress(f"waiting for {other}")
    person = AtThisSide(output, other)
    request = await greet_person(connection, greeting, files=files, person=person)
    device = plain_name(request.device.label)
    document = {
        "joined": other,
        "email": plain_name(terms.email),
        "profile": profile_name(terms.profile),
        "id": request.user.hex(),
        "device": device,
    }
    lines = [
        f"{other} joined (device {device}).",
        f"Share a workspace: parsec-fs workspace share WORKSPACE {other} --role contributor",
    ]
    output.result(document, lines)


@app.command()
def invitations(context: typer.Context) -> None:
    """Show the invitations of this device that can still be used."""
    settings = settings_of(context)
    identity = settings.device_file().load()
    rows, document = [], []
    for one in _files(settings, identity).all(wall_ms(), kind=PERSON):
        terms = one.terms()
        state = "joined" if one.is_over() else "answer" if one.has_request() else "waiting"
        name, email = plain_name(terms.name), plain_name(terms.email)
        profile = profile_name(terms.profile)
        rows.append([name, email, profile, f"{hours_left(terms.expires_ms)} h", state])
        document.append(
            {
                "name": name,
                "email": email,
                "profile": profile,
                "expires_ms": terms.expires_ms,
                "state": state,
            }
        )
    lines = table(["NAME", "E-MAIL", "PROFILE", "VALID FOR", "STATE"], rows)
    settings.output.result({"invitations": document}, lines if rows else ["No invitations."])


@app.command()
def cancel(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or e-mail address of the invited person.")],
) -> None:
    """Take an invitation back: its link is worth nothing then, and whoever waits with it is told.

    Not while it is greeted."""
    settings = settings_of(context)
    _, files, greeting = _invited(settings, name)
    now, told = trio.run(partial(take_back, greeting, files=files))
    other = plain_name(greeting.terms().name)
    lines = [f"The invitation of {other} is cancelled."]
    if not told:
        lines.append(f"The server could not be told: if {other} waits, they go on waiting.")
    if now.has_request():
        lines.append(
            f"{other} had sent keys and may be in the organization already: parsec-fs user list"
        )
    settings.output.result({"cancelled": other, "told": told}, lines)


@app.command()
def join(
    context: typer.Context,
    device: Annotated[str, typer.Option(help="Name of this device.")] = "",
    instead: Annotated[
        bool, typer.Option("--instead", help="Give up a join that was begun with another link.")
    ] = False,
) -> None:
    """Join an organization that you were invited to; reads the link from standard input.

    Ctrl-C loses nothing: the same command goes on, with the same link or an empty line."""
    settings = settings_of(context)
    name = device or socket.gethostname()
    file = begin(settings, PERSON, lambda link: new_joining(link, name), instead=instead)
    output, person = settings.output, AtThisSide(settings.output, "the other person")
    told: list[PersonInvitation] = []

    def invited(terms: PersonInvitation) -> None:
        told.append(terms)
        person.other = plain_name(terms.inviter_name)
        output.note(
            f"{person.other} invites you to {plain_name(terms.org_name)}, "
            f"as {plain_name(terms.name)} ({profile_name(terms.profile)})"
        )
        output.progress(f"waiting for {person.other}")

    output.progress("waiting for the other person, who types: parsec-fs user greet")

    async def run() -> Identity:
        return await accept_person(settings.home, file=file, person=person, invited=invited)

    identity = trio.run(run)
    name, org = plain_name(told[-1].name), plain_name(told[-1].org_name)
    lines = [
        f"You are in {org} now, as {name}.",
        f"Your keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "Workspaces that are shared with you: parsec-fs workspace list",
        NO_KIT,
    ]
    document = {
        "organization": identity.anchor.org.hex(),
        "name": name,
        "user": identity.secrets.user.hex(),
        "device": identity.secrets.device.hex(),
    }
    output.result(document, lines)


@app.command("revoke")
def revoke_command(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="E-mail address or name of the person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """End a person's membership, with all their devices; workspaces get new keys without them."""
    settings = settings_of(context)
    identity = settings.device_file().load()

    async def run() -> tuple[str, tuple[str, ...], Revoked]:
        async with connect(settings.home, identity) as connection:
            found = find_user(await connection.org.pull(), user)
            name = name_and_address(found)
            vacant = owned_alone(settings.home, connection, found.user)
            if connection.org.state.is_member(found.user):
                again = has_revoked_namesake(connection.org.state, user)
                question = f"{_without_owner(vacant)}Revoke {name} and all their devices, for good?"
                confirm_once(question, yes, again)
            return name, vacant, await revoke_user(connection, found)

    name, vacant, done = trio.run(run)
    lines = [
        f"{name} {'was revoked already' if done.before else 'is revoked'}.",
        "Mounted workspaces make new keys by themselves, within minutes.",
        "What they could read before they may have kept.",
        *_without_owner(vacant).splitlines(),
    ]
    document = {"revoked": name, "without_owner": list(vacant), "already": done.before}
    settings.output.result(document, lines)


def _without_owner(vacant: tuple[str, ...]) -> str:
    if not vacant:
        return ""
    return (
        f"Nobody else is owner of: {', '.join(vacant)}. Whoever has the highest role there then "
        "takes it over:\n  parsec-fs workspace take-over WORKSPACE\n"
    )


@app.command("list")
def list_users(context: typer.Context) -> None:
    """Show the people of the organization."""
    settings = settings_of(context)
    identity = settings.device_file().load()

    async def run() -> None:
        async with connected(settings, identity) as connection:
            org = connection.org.state
            rows, document = [], []
            for id, user in org.users.items():
                count = len(org.devices_of(id))
                name, email = plain_name(user.name), plain_name(user.email)
                profile = profile_name(user.profile)
                shown = profile if org.is_member(id) else "revoked"
                rows.append([name, email, shown, str(count), *_ids(settings, id)])
                document.append(
                    {
                        "name": name,
                        "email": email,
                        "profile": profile,
                        "devices": count,
                        "revoked": not org.is_member(id),
                        "id": id.hex(),
                        "you": id == identity.secrets.user,
                    }
                )
            heads = ["NAME", "E-MAIL", "PROFILE", "DEVICES", *(["ID"] * settings.output.verbose)]
            settings.output.result({"users": document}, table(heads, rows))

    trio.run(run)


def _ids(settings: Settings, id: UserId) -> list[str]:
    return [id.hex()] * settings.output.verbose


def _files(settings: Settings, identity: Identity) -> GreetingFiles:
    return GreetingFiles(settings.home.invitations, identity.secrets.local_key)


def _invited(settings: Settings, name: str) -> tuple[Identity, GreetingFiles, Greeting]:
    """The invitation that is meant by a name or an address. Raises CommandError."""
    identity = settings.device_file().load()
    files, text = _files(settings, identity), name.strip().encode()
    known = files.all(wall_ms(), kind=PERSON)
    found = [one for one in known if text in (one.terms().name, one.terms().email)]
    if len(found) == 1:
        return identity, files, found[0]
    problem = "several invitations" if found else "no invitation"
    raise CommandError(
        ExitCode.NOT_FOUND,
        f"{problem} of {name} on this device; see: parsec-fs user invitations",
    )
