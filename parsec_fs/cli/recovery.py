"""parsec-fs recovery create, use, drill.

Data flow: words on this terminal -> paper -> words typed on a new machine -> device file.

Words are never arguments, nor in the environment: they are printed once, and read from standard
input.
"""

import json
import random
import socket
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import trio
import typer

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.output import Output
from parsec_fs.cli.settings import Settings, check_free, settings_of
from parsec_fs.cli.shares import app as share_app
from parsec_fs.cli.shares import numbered, receivers, write_shares
from parsec_fs.connection import connect
from parsec_fs.identity import Identity
from parsec_fs.people import name_and_address
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import Device, User
from parsec_fs.protocol.errors import InputError
from parsec_fs.protocol.records import LogState
from parsec_fs.recovering import Drill, RevokedKitError, UnknownKitError
from parsec_fs.recovering import create as create_kit
from parsec_fs.recovering import drill as drill_kit
from parsec_fs.recovering import use as use_kit
from parsec_fs.recovery import Kit, kits_of
from parsec_fs.recovery_words import is_complete, kit_shares, kit_words, read_kit, split_words

Json = dict[str, Any]
_ASKED: Final = 3
_UNSURE: Final = (
    "! The files that were written are of a kit that counts only if it is in: parsec-fs device list"
)
_MOST_INPUT: Final = 64 * 1024

app = typer.Typer(no_args_is_help=True, help="A kit on paper, for the day you lose every device.")
app.add_typer(share_app, name="share")

_To = Annotated[
    list[str] | None,
    typer.Option(help="With --shares: a colleague who gets a sealed share; N times."),
]
_Folder = Annotated[
    Path | None,
    typer.Option(help="With --to: where the files are written; default: here."),
]


@app.command()
def create(
    context: typer.Context,
    shares: Annotated[
        str, typer.Option(metavar="K/N", help="N shares for colleagues; any K of them suffice.")
    ] = "",
    no_check: Annotated[
        bool, typer.Option("--no-check", help="Do not ask for three of the words.")
    ] = False,
    to: _To = None,
    folder: _Folder = None,
) -> None:
    """Make a device of yours on paper: prints 24 words, once, or shares of them.

    Then it asks for three of the words, on standard input; before that nothing is made. With `--to`
    nothing is shown: each colleague gets a file that only they can open."""
    settings = settings_of(context)
    _check_options(to or (), no_check=no_check, folder=folder)
    shown: Json = {}
    files: list[Path] = []
    people: tuple[User, ...] = ()
    needed, count = _parse_shares(shares, to or ()) if shares or to else (1, 1)
    identity = settings.device_file().load()
    server = plain_name(identity.anchor.server_url)

    async def confirm(kit: Kit) -> bool:
        parts = kit_shares(kit, needed, count) if shares else (kit_words(kit),)
        shown.update(_document(parts, server, is_shared=bool(shares)))
        if not settings.output.json:
            _show_parts(settings.output, server, parts, needed if shares else 0)
        elif not no_check:
            # A program that reads this line can write the paper while the command still asks.
            print(json.dumps(shown), flush=True)
        return no_check or _types_back(settings.output, parts)

    async def run() -> tuple[Device, int]:
        nonlocal people
        async with connect(settings.home, identity) as connection:
            people = receivers(await connection.org.pull(), identity, to or ())

            async def write(kit: Kit) -> bool:
                files.extend(
                    write_shares(identity, kit, people, needed, (folder or Path()).absolute())
                )
                return True

            made = await create_kit(connection, name=_name(), confirm=write if to else confirm)
            return made, len(kits_of(connection.org.state, identity.secrets.user))

    try:
        made, kits = trio.run(run)
    except BaseException:
        if files:
            settings.output.note(_UNSURE)
        raise
    title = plain_name(made.label)
    first = f"{title} is active. Try it when you like: parsec-fs recovery drill"
    lines = _handing_over(title, files, people, needed) if files else [first]
    lines += [f"You have {kits} kits now; the older ones work as well."] * (kits > 1)
    document: Json = {"kit": title, "device": made.device.hex(), "kits": kits}
    settings.output.result(document | _once(files, people, shown if no_check else {}), lines)


def _name() -> str:
    return f"recovery kit {time.strftime('%Y-%m-%d')}"


def _check_options(to: Sequence[str], *, no_check: bool, folder: Path | None) -> None:
    """Nothing that was asked for is left out in silence. Raises CommandError."""
    if folder is not None and not to:
        raise CommandError(ExitCode.USAGE, "--folder is for the files of --to; without: no file")
    if no_check and to:
        raise CommandError(ExitCode.USAGE, "--no-check means nothing with --to: no word is shown")


def _once(files: Sequence[Path], people: Sequence[User], shown: Json) -> Json:
    """What the document has for programs beside the kit itself."""
    if not files:
        return shown
    handed = [
        {"name": plain_name(one.name), "email": plain_name(one.email), "file": str(file)}
        for file, one in zip(files, people, strict=True)
    ]
    return {"files": [str(one) for one in files], "shares": handed}


def _handing_over(
    title: str, files: Sequence[Path], people: Sequence[User], needed: int
) -> list[str]:
    return [
        f"{title} is active, in {len(files)} shares of which {needed} are needed:",
        *(f"  {file}  {name_and_address(one)}" for file, one in zip(files, people, strict=True)),
        "Give each colleague their file, on any way: nobody else can open it. "
        "There: parsec-fs recovery share keep FILE",
    ]


def _document(parts: Sequence[Sequence[str]], server: str, *, is_shared: bool) -> Json:
    if is_shared:
        return {"shares": [list(one) for one in parts], "server": server}
    return {"words": list(parts[0]), "server": server}


def _parse_shares(text: str, to: Sequence[str] = ()) -> tuple[int, int]:
    needed, slash, count = text.partition("/")
    if not (slash and needed.isdecimal() and count.isdecimal()):
        raise CommandError(ExitCode.USAGE, "--shares takes K/N, for two of three: --shares 2/3")
    if to and len(to) != int(count):
        raise CommandError(
            ExitCode.USAGE, "one --to for each share: --shares 2/3 --to BOB --to CAROL --to DAVE"
        )
    return int(needed), int(count)


def _show_parts(output: Output, server: str, parts: Sequence[Sequence[str]], needed: int) -> None:
    """The one time that the words are shown, whatever is not to be shown."""
    for place, words in enumerate(parts, start=1):
        title = (
            f"Share {place} of {len(parts)}, of which {needed} are needed" if needed else "Words"
        )
        print(f"{title}:\n", *numbered(words), sep="\n")
        print(f"\n  Server: {server}\n  Use: parsec-fs recovery use --server {server}\n")
    sys.stdout.flush()
    keep = "one share for each who keeps it" if needed else "on paper, not in a file or a picture"
    output.note(
        f"Write this down, {keep}. Whoever has {'enough of them' if needed else 'it'} can become "
        "a device of yours. It is not shown again."
    )


def _types_back(output: Output, parts: Sequence[Sequence[str]]) -> bool:
    """Three words that the person was not told beforehand: a kit that nobody wrote down is none."""
    draw = random.SystemRandom()
    share = draw.randrange(len(parts))
    places = sorted(draw.sample(range(len(parts[share])), _ASKED))
    numbers = ", ".join(str(place + 1) for place in places)
    where = f" of share {share + 1}" if len(parts) > 1 else ""
    output.important(f"Type words {numbers}{where}, from your paper:")
    typed = split_words(sys.stdin.readline(_MOST_INPUT))
    return list(typed) == [parts[share][place] for place in places]


@app.command()
def use(
    context: typer.Context,
    server: Annotated[str, typer.Option(help="URL of the server, as on your paper.")],
    name: Annotated[str, typer.Option(help="Name of this device.")] = "",
    share: Annotated[
        list[Path] | None, typer.Option(help="A file with the words of one share; K times.")
    ] = None,
) -> None:
    """Become a device of yours again, by words or shares from standard input, or from files."""
    settings = settings_of(context)
    check_free(settings)
    kit = _given_kit(settings.output, share or ())
    settings.output.progress("replaying the organization's history")
    label = name or socket.gethostname()
    identity: Identity = _run(
        partial(use_kit, settings.home, kit, server_url=server, device_label=label)
    )
    lines = [
        "This device is one of yours now.",
        f"Its keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "Mount a workspace: parsec-fs workspace list",
        "Your kit still works. If it was read on the way, make a new user key:"
        " parsec-fs device rotate-user-key",
    ]
    document = {
        "device": identity.secrets.device.hex(),
        "organization": identity.anchor.org.hex(),
    }
    settings.output.result(document, lines)


@app.command()
def drill(
    context: typer.Context,
    server: Annotated[
        str, typer.Option(help="URL of the server; default: that of this device.")
    ] = "",
    share: Annotated[
        list[Path] | None, typer.Option(help="A file with the words of one share; K times.")
    ] = None,
) -> None:
    """Check that words or shares from standard input work, as if every device were lost.

    Nothing is changed, neither here nor in the organization."""
    settings = settings_of(context)
    own = settings.device_file().load() if settings.device_file().exists() else None
    if not server and own is None:
        raise CommandError(
            ExitCode.USAGE, "this machine knows no server: --server URL, as on your paper"
        )
    url = server or (own.anchor.server_url.decode() if own else "")
    kit = _given_kit(settings.output, share or ())
    found: Drill = _run(partial(_drill, settings, own, kit, url))
    _check_mine(found, own)
    _show_drill(settings, found)


async def _drill(settings: Settings, own: Identity | None, kit: Kit, url: str) -> Drill:
    """Where this device knows the organization, the server must not show another log."""
    pins: tuple[LogState, ...] = ()
    if own is not None:
        async with connect(settings.home, own) as connection:
            pins = (connection.org.roots_at(connection.org.size()),)
    return await drill_kit(kit, server_url=url, pins=pins)


def _check_mine(found: Drill, own: Identity | None) -> None:
    theirs = found.identity
    if own is None or (own.anchor.org, own.secrets.user) == (
        theirs.anchor.org,
        theirs.secrets.user,
    ):
        return
    user = plain_name(found.org.users[theirs.secrets.user].name)
    org = plain_name(found.org.genesis.name)
    raise CommandError(
        ExitCode.WRONG_SECRET, f"these words work, but they are not yours: of {user}, in {org}"
    )


def _show_drill(settings: Settings, found: Drill) -> None:
    user = plain_name(found.org.users[found.device.user].name)
    org, kit = plain_name(found.org.genesis.name), plain_name(found.device.label)
    lines = [
        f"These words work: {kit}, of {user} in {org}.",
        f"They open every key of yours, up to number {found.generations}. Nothing was changed.",
    ]
    document: Json = {
        "works": True,
        "kit": kit,
        "device": found.device.device.hex(),
        "user": user,
        "organization": org,
        "generations": found.generations,
    }
    settings.output.result(document, lines)


def _run(work: Any) -> Any:
    """The result, or an error with the exit code that scripts know."""
    try:
        return trio.run(work)
    except UnknownKitError as error:
        raise CommandError(ExitCode.NOT_FOUND, str(error)) from error
    except RevokedKitError as error:
        raise CommandError(ExitCode.REVOKED, str(error)) from error


def _given_kit(output: Output, files: Sequence[Path]) -> Kit:
    """From files, else as typed. Raises CommandError, which never shows a word."""
    words = _words_in(files) if files else _typed_words(output)
    try:
        return read_kit(words)
    except InputError as error:
        raise CommandError(ExitCode.WRONG_SECRET, f"{error}. Nothing was asked or sent") from error


def _words_in(files: Sequence[Path]) -> tuple[str, ...]:
    words: tuple[str, ...] = ()
    for path in files:
        try:
            with path.open("rb") as file:
                words += split_words(file.read(_MOST_INPUT).decode("ascii"))
        except OSError as error:
            raise CommandError(ExitCode.NOT_FOUND, f"{path}: {error.strerror}") from error
        except UnicodeDecodeError:
            raise CommandError(
                ExitCode.WRONG_SECRET,
                f"{path} holds no words. A sealed share is opened by the colleague who keeps it: "
                "parsec-fs recovery share show --output FILE",
            ) from None
    return words


def _typed_words(output: Output) -> tuple[str, ...]:
    if not sys.stdin.isatty():
        return split_words(sys.stdin.read(_MOST_INPUT))
    output.important("The 24 words of your kit, or enough shares; an empty line ends:")
    words: tuple[str, ...] = ()
    while not is_complete(words):
        line = sys.stdin.readline(_MOST_INPUT)
        if not line.strip():
            break
        words += split_words(line)
    return words
