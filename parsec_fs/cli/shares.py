"""parsec-fs recovery share keep, list, show; and the files that `recovery create --to` writes.

Data flow: shares of a kit -> one sealed file per colleague -> handed over -> kept on a device of
theirs -> shown, the day the kit is needed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from parsec_fs.cli.connected import connected
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.kept_shares import SUFFIX, Kept, keep_share, read_kept, read_share_file
from parsec_fs.cli.output import table
from parsec_fs.cli.settings import Settings, settings_of
from parsec_fs.connection import Connection
from parsec_fs.device_file import write_beside_others
from parsec_fs.identity import Identity
from parsec_fs.people import find_user, name_and_address
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import User
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import DeviceId, OrgId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.recovery import Kit, paper_keys
from parsec_fs.recovery_words import check_share, kit_shares
from parsec_fs.sealed_shares import (
    SealedShare,
    Standing,
    check_in_force,
    check_kit_in_force,
    check_share_file,
    open_share,
    seal_share,
    standing,
)

Json = dict[str, Any]
_NO_SHARE: Final = "is no share, or is damaged; nothing was kept; ask for it again"
_DAMAGED: Final = "damaged, ask for that share again:"

app = typer.Typer(no_args_is_help=True, help="Shares of colleagues' kits that you keep.")


def receivers(org: OrgState, identity: Identity, to: Sequence[str]) -> tuple[User, ...]:
    """Whom the words of `--to` mean. Raises CommandError."""
    people = tuple(find_user(org, one) for one in to)
    if len({one.user for one in people}) != len(people):
        raise CommandError(ExitCode.USAGE, "one person gets one share: name each of them once")
    if identity.secrets.user in {one.user for one in people}:
        raise CommandError(ExitCode.USAGE, "a share for yourself is lost with your devices")
    for one in people:
        if not org.takes_keys(one.user):
            raise CommandError(
                ExitCode.NOT_ALLOWED,
                f"{name_and_address(one)} has no device that could open it, or was revoked. "
                "Nothing was made",
            )
    return people


def write_shares(
    identity: Identity, kit: Kit, people: Sequence[User], needed: int, folder: Path
) -> list[Path]:
    """One file per colleague, in order, durable when this returns; all of them or, after an error,
    none. Raises CommandError, OSError, InputError."""
    shares = kit_shares(kit, needed, len(people))
    paths = [
        folder / f"share-{place}-of-{len(people)}-for-{_file_name(one)}{SUFFIX}"
        for place, one in enumerate(people, start=1)
    ]
    for path in paths:
        if path.exists():
            raise CommandError(
                ExitCode.FAILED, f"{path} exists; nothing was made. Use --folder DIR"
            )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    begun: list[Path] = []
    try:
        for place, (words, person) in enumerate(zip(shares, people, strict=True), start=1):
            about = _about(identity, kit, person, place=place, needed=needed, count=len(shares))
            sealed = seal_share(words, person, about=about, secrets=identity.secrets)
            begun.append(paths[place - 1])
            write_beside_others(paths[place - 1], sealed)
    except BaseException:
        # Of a kit that will not be made; left there, they would be in the way of the next try.
        for path in begun:
            path.unlink(missing_ok=True)
        raise
    return paths


def _about(
    identity: Identity, kit: Kit, person: User, *, place: int, needed: int, count: int
) -> SealedShare:
    return SealedShare(
        org=identity.anchor.org,
        owner=identity.secrets.user,
        kit=paper_keys(kit.secret).request(b"").device,
        recipient=person.user,
        generation=person.generation,
        place=place,
        needed=needed,
        count=count,
        server_url=identity.anchor.server_url,
        sender=identity.secrets.device,
        box=b"",
    )


def _file_name(person: User) -> str:
    name = "".join(one for one in plain_name(person.name) if one.isalnum() or one in "-_")
    return name[:40] or person.user.hex()[:8]


@app.command()
def keep(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file that a colleague gave you.")],
) -> None:
    """Check a share that a colleague gave you, and keep it on this device."""
    settings = settings_of(context)
    data = _read(file)

    def run(org: OrgState, identity: Identity) -> Json:
        share = check_in_force(_checked(file, data, org, expected_org=identity.anchor.org), org)
        check_share(open_share(share, org, identity.secrets))
        keep_share(_folder(settings), data, share, org)
        return _document(share, org)

    one = _with_org(settings, run)
    lines = [
        f"Kept: {_title(one)}. {one['needed']} of {one['count']} are needed.",
        f"If {one['name']} loses every device: parsec-fs recovery share show",
    ]
    settings.output.result({"kept": one}, lines)


@app.command("list")
def list_shares(context: typer.Context) -> None:
    """Show whose shares you keep on this device."""
    settings = settings_of(context)
    found = _with_org(settings, lambda org, identity: _listed(_kept(settings, org, identity), org))
    rows = [_row(one) for one in found]
    lines = table(["OF", "E-MAIL", "KIT", "SHARE", "NEEDED", "STATE"], rows)
    settings.output.result({"shares": found}, lines if found else ["You keep no shares here."])


@app.command()
def show(
    context: typer.Context,
    person: Annotated[
        str, typer.Argument(help="Whose; needed if you keep shares of several people.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option("--output", help="Write the words to this file, mode 0600.")
    ] = None,
) -> None:
    """Open a share: prints its 33 words for the colleague who lost every device.

    Make sure that it is them who ask: enough shares make whoever has them a device of theirs."""
    settings = settings_of(context)

    def run(org: OrgState, identity: Identity) -> tuple[Json, tuple[str, ...]]:
        kept = _kept(settings, org, identity)
        for path in kept.damaged:
            settings.output.note(f"! {_DAMAGED} {path}")
        share = check_kit_in_force(_chosen(kept, org, person), org)
        return _document(share, org), open_share(share, org, identity.secrets)

    one, words = _with_org(settings, run)
    if one["state"] == Standing.SENDER_REVOKED:
        settings.output.important(_may_be_a_thiefs(one))
    if output is not None:
        if output.exists():
            raise CommandError(ExitCode.FAILED, f"{output} exists; nothing was written")
        write_beside_others(output.absolute(), (" ".join(words) + "\n").encode())
        settings.output.result({"share": one, "file": str(output)}, [f"{output}: {_title(one)}"])
        return
    lines = [
        f"{_title(one)}; {one['needed']} are needed:",
        "",
        *numbered(words),
        "",
        f"There: parsec-fs recovery use --server {one['server']}",
        "Read it to nobody else, and only when you know that it is them who ask.",
    ]
    settings.output.result({"share": one, "words": list(words)}, lines)


def numbered(words: Sequence[str], per_line: int = 6) -> list[str]:
    """Words with their places, as they are written on paper."""
    cells = [f"{place:3} {word:10}" for place, word in enumerate(words, start=1)]
    starts = range(0, len(cells), per_line)
    return ["".join(cells[at : at + per_line]).rstrip() for at in starts]


def _with_org(settings: Settings, work: Any) -> Any:
    identity = settings.device_file().load()

    async def run() -> Any:
        connection: Connection
        async with connected(settings, identity) as connection:
            return work(connection.org.state, identity)

    return trio.run(run)


def _folder(settings: Settings) -> Path:
    return settings.home.device / "shares"


def _checked(file: Path, data: bytes, org: OrgState, *, expected_org: OrgId) -> SealedShare:
    try:
        return check_share_file(data, org, expected_org=expected_org)
    except DataError as error:
        raise CommandError(ExitCode.FAILED, f"{file} {_NO_SHARE}") from error


def _kept(settings: Settings, org: OrgState, identity: Identity) -> Kept:
    return read_kept(_folder(settings), org, expected_org=identity.anchor.org)


def _chosen(kept: Kept, org: OrgState, person: str) -> SealedShare:
    """That of the newest kit in force, if all are of one person. Raises CommandError."""
    owner = find_user(org, person).user if person else None
    fitting = [one.share for one in kept.files if owner in (None, one.share.owner)]
    if len({one.owner for one in fitting}) != 1:
        problem = "you keep shares of several people: say whose" if fitting else "no such share"
        raise CommandError(ExitCode.NOT_FOUND, f"{problem}; see: parsec-fs recovery share list")
    order, best = list(org.devices), list(Standing)
    return min(fitting, key=lambda one: (best.index(standing(one, org)), -order.index(one.kit)))


def _listed(kept: Kept, org: OrgState) -> list[Json]:
    """Every file: what it says, or that it is damaged."""
    blank = dict.fromkeys(("name", "email", "kit", "place", "count", "needed", "server"))
    damaged = [blank | {"state": f"damaged: {path}"} for path in kept.damaged]
    return [_document(one.share, org) for one in kept.files] + damaged


def _row(one: Json) -> list[str]:
    if one["name"] is None:
        return ["?"] * 5 + [one["state"]]
    place = f"{one['place']} of {one['count']}"
    return [one["name"], one["email"], one["kit"], place, str(one["needed"]), one["state"]]


def _may_be_a_thiefs(one: Json) -> str:
    return (
        f"! The device of {one['name']} that made this share was revoked since you kept it. If it "
        "was stolen before, the share may be from the thief: it then gives no kit back"
    )


def _document(share: SealedShare, org: OrgState) -> Json:
    owner, kit = org.users[share.owner], org.device(DeviceId(share.kit)).device
    return {
        "name": plain_name(owner.name),
        "email": plain_name(owner.email),
        "kit": plain_name(kit.label),
        "place": share.place,
        "count": share.count,
        "needed": share.needed,
        "server": plain_name(share.server_url),
        "state": standing(share, org).value,
    }


def _title(one: Json) -> str:
    return (
        f"share {one['place']} of {one['count']} of {one['kit']}, of {one['name']} <{one['email']}>"
    )


def _read(path: Path) -> bytes:
    try:
        return read_share_file(path)
    except OSError as error:
        raise CommandError(ExitCode.NOT_FOUND, f"{path}: {error.strerror}") from error
