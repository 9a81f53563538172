"""Command line of the chain application.

Data flow: operator -> parsec-abci -> store, application, server; genesis and state for reading.
"""

import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import trio
import typer

from abci_app.application import Application
from abci_app.genesis import app_state, parse_app_state
from abci_app.server import serve
from abci_app.state import ChainState, app_hash
from abci_app.store import SqliteStore
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.errors import DataError, InputError, ParsecFSError
from parsec_fs.protocol.statements import ServerRegistration

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Home = Annotated[Path, typer.Option(help="Folder of the application's database.")]
DATABASE = "app.sqlite"


@app.command()
def run(
    home: Home,
    socket: Annotated[str, typer.Option(help="unix:///path or tcp://127.0.0.1:port")],
    retain_blocks: Annotated[
        int, typer.Option(min=0, help="Chain blocks to keep; 0 keeps all.")
    ] = 0,
) -> None:
    """Serve one CometBFT node."""
    home.mkdir(parents=True, exist_ok=True)
    with _open(home) as store:
        application = Application(store, version=version("parsec-fs"), retain_blocks=retain_blocks)
        trio.run(serve, application, socket)


@app.command()
def genesis(
    registration: Annotated[list[Path], typer.Option(help="Registration file of a server.")],
    merge: Annotated[
        Path | None, typer.Option(help="Genesis file to put the servers into.")
    ] = None,
    operators: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How many independent operators share the validators; devices pin this number, "
            "and say self-anchored below four. Default: what the file says, else 1.",
        ),
    ] = None,
) -> None:
    """Print the genesis app_state for these servers, or write it into a genesis file."""
    registrations = [_read_registration(path) for path in registration]
    if merge is None:
        print(json.dumps(app_state(registrations, operators=operators or 1), indent=2))
        return
    document = json.loads(merge.read_text())
    known = document.get("app_state") or app_state([])
    present, declared = parse_app_state(json.dumps(known).encode())
    document["app_state"] = app_state([*present, *registrations], operators=operators or declared)
    merge.write_text(json.dumps(document, indent=2))


@app.command()
def inspect(home: Home) -> None:
    """Show the newest committed state as JSON."""
    with _open(home) as store:
        state = store.load()
    print(json.dumps(_report(state), indent=2))


@app.command()
def rollback(home: Home) -> None:
    """Go one height back, to follow `cometbft rollback`."""
    with _open(home) as store:
        print(f"newest state is now of height {store.rollback()}")


def _open(home: Path) -> SqliteStore:
    if not home.is_dir():
        raise InputError(f"{home}: no such folder")
    return SqliteStore(home / DATABASE)


def _read_registration(path: Path) -> ServerRegistration:
    try:
        return decode(ServerRegistration, path.read_bytes())
    except (OSError, DataError) as error:
        raise InputError(f"{path}: not a server registration ({error})") from error


def _report(state: ChainState | None) -> dict[str, Any]:
    if state is None:
        return {"height": 0}
    return {
        "chain_id": state.chain_id.decode(errors="replace"),
        "height": state.height,
        "changed_at": state.changed_at,
        "block_time_ms": state.block_time_ms,
        "app_hash": app_hash(state).hex(),
        "statements": state.history.size,
        "servers": [
            {
                "name": one.registration.name.decode(errors="replace"),
                "server_log": one.registration.server_log.hex(),
                "next_epoch": one.next_epoch,
                "root": one.tree.root().hex(),
                "time_ms": one.time_ms,
            }
            for one in state.servers
        ],
    }


def main() -> None:
    """Entry point: expected errors become one line and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        app()
    except ParsecFSError as error:
        print(f"parsec-abci: {error}", file=sys.stderr)
        sys.exit(2)
