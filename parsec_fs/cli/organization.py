"""parsec-fs org create.

Data flow: server's registration, chain's genesis -> found_org -> device file, server -> summary.
"""

import os
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from parsec_fs.audit.trusted_state import is_self_anchored
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.fingerprint import fingerprint
from parsec_fs.cli.hints import NO_KIT
from parsec_fs.cli.output import Output, count_text
from parsec_fs.cli.settings import Settings, check_free, settings_of
from parsec_fs.connection import connect
from parsec_fs.enrolment import found_org
from parsec_fs.identity import Identity
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.chain_rpc import parse_genesis
from parsec_fs.protocol.chain_types import ChainAnchor
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.commands import CreateOrg, Outcome, ServerInfo
from parsec_fs.protocol.errors import DataError, RefusedError
from parsec_fs.remote.chain_node import HttpChainNode
from parsec_fs.remote.server_client import PublicClient
from parsec_fs.remote.transport import Transport, http_client

GET_TOKEN: Final = "the server's operator draws one with: parsec-server token --home DIR"

app = typer.Typer(no_args_is_help=True, help="Organizations.")


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the organization.")],
    server: Annotated[str, typer.Option(help="URL of the metadata server.")],
    chain: Annotated[
        list[str], typer.Option(help="RPC URL of a chain node; several are better: give each.")
    ],
    genesis: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Genesis file of the chain; without it the first node is believed once.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="File with the one-time token of the server's operator; else standard input.",
        ),
    ] = None,
    user: Annotated[str, typer.Option(help="Your name.")] = "",
    email: Annotated[str, typer.Option(help="Your e-mail address.")] = "",
    device: Annotated[str, typer.Option(help="Name of this device.")] = "",
) -> None:
    """Found an organization on a server; this becomes its first device."""
    settings = settings_of(context)
    check_free(settings)
    token = parse_token(_read_token(token_file, settings.output))
    user = user or os.environ.get("USER") or "owner"
    trio.run(
        _create,
        settings,
        token,
        name,
        server,
        tuple(chain),
        genesis.read_bytes() if genesis else None,
        (user, email or f"{user}@{socket.gethostname()}", device or socket.gethostname()),
    )


async def _create(
    settings: Settings,
    token: bytes,
    name: str,
    server_url: str,
    rpc_urls: tuple[str, ...],
    genesis: bytes | None,
    labels: tuple[str, str, str],
) -> None:
    async with http_client() as http:
        public = PublicClient(Transport(http, server_url))
        info = await public.info()
        document = genesis or await HttpChainNode(rpc_urls[0], http).call("genesis", {})
        anchor = chain_anchor(document, info)
        user, email, device = labels
        request, identity = found_org(
            token=token,
            name=name,
            user_name=user,
            email=email,
            device_label=device,
            chain=anchor,
            server=info.registration,
            server_url=server_url,
            rpc_urls=rpc_urls,
            random=os.urandom,
        )
        file = settings.device_file()
        file.create(identity, random=os.urandom)
        try:
            await _send(public, request)
            await _verify(settings, identity)
        except BaseException:
            # Nothing was achieved that a second try could not do: leave no half device behind.
            file.remove()
            settings.home.org_database.unlink(missing_ok=True)
            raise
    _show(settings, name, identity, believed=genesis is None)


@app.command()
def anchor(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
) -> None:
    """Write this device's trust anchor, for checking proofs and evidence elsewhere. It is public,
    but take it to where it is used yourself: whoever exchanges it decides what is believed."""
    settings = settings_of(context)
    trusted = settings.device_file().load().anchor
    file.write_bytes(encode(trusted))
    mark = fingerprint(trusted.chain.chain_id, trusted.chain.validators)
    lines = [f"{file}: trust anchor of organization {trusted.org.hex()[:16]} (validators {mark})"]
    document = {"file": str(file), "organization": trusted.org.hex(), "validators": mark}
    settings.output.result(document, lines)


def parse_token(text: str) -> bytes:
    """32 bytes in hex. Raises CommandError, which never shows what was given."""
    try:
        token = bytes.fromhex(text.strip())
    except ValueError:
        token = b""
    if len(token) != 32:
        raise CommandError(
            ExitCode.USAGE,
            "founding an organization takes a one-time token, 64 hexadecimal digits, from"
            f" --token-file FILE or standard input; {GET_TOKEN}",
        )
    return token


def _read_token(file: Path | None, output: Output) -> str:
    if file is not None:
        with file.open(errors="replace") as opened:
            return opened.read(4096)
    if sys.stdin.isatty():
        output.note("One-time token of the server's operator (parsec-server token --home DIR):")
        return sys.stdin.readline()
    return sys.stdin.read(4096)


async def _send(public: PublicClient, request: CreateOrg) -> None:
    try:
        await public.create_org(request)
    except RefusedError as error:
        if error.outcome != Outcome.NOT_ALLOWED.name:
            raise
        raise CommandError(
            ExitCode.NOT_ALLOWED,
            "the server does not take this token: it is unknown, expired or used already;"
            f" {GET_TOKEN}",
        ) from error


def chain_anchor(genesis: bytes, info: ServerInfo) -> ChainAnchor:
    """What to pin of the chain that the server publishes on."""
    parsed = parse_genesis(genesis)
    if parsed.chain_id != info.chain_id:
        raise DataError(
            f"the server publishes on chain {plain_name(info.chain_id)}, "
            f"the genesis is of {plain_name(parsed.chain_id)}"
        )
    return ChainAnchor(
        chain_id=parsed.chain_id,
        validators=parsed.validators,
        operators=parsed.operators,
        trusted_from_ns=time.time_ns(),
    )


async def _verify(settings: Settings, identity: Identity) -> None:
    """The server's log of the new organization holds what was sent, under a signed head."""
    async with connect(settings.home, identity) as connection:
        state = await connection.org.pull()
        state.device(identity.secrets.device)


def _show(settings: Settings, name: str, identity: Identity, *, believed: bool) -> None:
    chain = identity.anchor.chain
    mark = fingerprint(chain.chain_id, chain.validators)
    chain_name = plain_name(chain.chain_id)
    count = len(chain.validators)
    lines = [
        f"Organization {name} created. You are its administrator.",
        f"This device's keys: {settings.home.device} (opened by a key file beside them, mode 0600)",
        "  lock them by a passphrase: parsec-fs device passphrase set",
        f"Trust anchor: chain {chain_name}, {count_text(count, 'validator')} ({mark})",
        f"  run by {count_text(chain.operators, 'independent operator')}, as its genesis declares",
    ]
    if believed:
        lines.append("  taken from the node: compare these two lines with your chain's operator")
    if is_self_anchored(chain.operators, count):
        lines.append(
            "  self-anchored: fewer than four independent operators. Nobody without their keys can"
            " forge or roll back; forks show only by comparing devices."
        )
    lines.append(NO_KIT)
    document = {
        "organization": identity.anchor.org.hex(),
        "name": name,
        "device": identity.secrets.device.hex(),
        "chain_id": chain_name,
        "validators": count,
        "operators": chain.operators,
        "validators_fingerprint": mark,
        "believed_node": believed,
        "recovery": [],
    }
    settings.output.result(document, lines)
