"""Command line of the metadata server.

Data flow: operator -> parsec-server -> keys and configuration -> app -> listener.
"""

import json
import logging
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer

from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import ParsecFSError
from server import listener
from server.app import Outside, running, wall_ms
from server.blocks.base import BlockStore
from server.blocks.directory import DirectoryStore
from server.blocks.s3 import S3Store, is_s3, parse_address
from server.chain import HttpChainNode, new_client
from server.config import DEFAULT_EPOCH_MS, DEFAULT_HEARTBEAT_MS, Config
from server.identity import REGISTRATION_FILE, create_identity, load_identity
from server.identity import change_keys as new_statement_keys
from server.inspection import report
from server.log.verify import verify_database
from server.store.database import Database
from server.store.server_row import chain_of
from server.tokens import permit_founding

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Home = Annotated[Path, typer.Option(help="Folder of the server's keys and data.")]
DATABASE: Final = "server.sqlite"
BLOCKS: Final = "blocks"


@app.command()
def init(
    home: Home,
    name: Annotated[str, typer.Option(help="Name of the server, part of its identity.")],
    epoch_ms: Annotated[int, typer.Option(min=100, help="Time between epochs.")] = DEFAULT_EPOCH_MS,
    heartbeat_ms: Annotated[
        int, typer.Option(min=100, help="Time between blocks of an idle chain.")
    ] = DEFAULT_HEARTBEAT_MS,
) -> None:
    """Draw the server's keys; print its registration in hex, which the chain's genesis takes."""
    identity = create_identity(
        home, name=name.encode(), epoch_ms=epoch_ms, heartbeat_ms=heartbeat_ms
    )
    print(encode(identity.registration).hex())
    print(f"registration file: {home / REGISTRATION_FILE}", file=sys.stderr)


@app.command()
def run(
    home: Home,
    chain_id: Annotated[str, typer.Option(help="Id of the chain that anchors this server.")],
    rpc: Annotated[list[str], typer.Option(help="URL of a CometBFT node; one or more.")],
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:8800",
    database: Annotated[str, typer.Option(help="SQLAlchemy URL; SQLite if not given.")] = "",
    blocks: Annotated[
        str, typer.Option(help="Folder for blocks, or s3+https://host:port/bucket.")
    ] = "",
    s3_credentials: Annotated[
        Path | None, typer.Option(help="JSON file with accessKey and secretKey.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key, PEM.")] = None,
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="A log line per request, without its sender.")
    ] = False,
) -> None:
    """Serve devices and publish epochs."""
    logging.getLogger("server.requests").setLevel(logging.DEBUG if log_requests else logging.INFO)
    identity = load_identity(home)
    config = Config(chain_id=chain_id.encode(), rpc_urls=tuple(rpc))
    address = listener.parse_address(listen, tls_cert, tls_key)
    url = database or f"sqlite:///{(home / DATABASE).resolve()}"
    store = _block_store(blocks or str(home / BLOCKS), s3_credentials)

    async def serve() -> None:
        async with new_client() as client:
            outside = Outside(
                database=Database(url),
                blocks=store,
                nodes=[HttpChainNode(one, client) for one in config.rpc_urls],
            )
            with listener.bind(address) as bound:
                async with running(config, identity, outside) as server:
                    await listener.serve(
                        server.app, bound, address, closing=server.services.announcer.close
                    )

    try:
        anyio.run(serve)
    except BaseExceptionGroup as group:
        raise first_cause(group) from group


@app.command()
def change_keys(
    home: Home,
    chain_id: Annotated[str, typer.Option(help="Id of the chain that anchors this server.")],
) -> None:
    """Draw a new pair of keys for statements; it signs from the next start of the server on.

    Old and new keys sign the change; after it the chain's validators refuse the old ones. Heads go
    on under the head key. With several server processes: give all of them the new files first."""
    identity = new_statement_keys(home, chain_id=chain_id.encode())
    pair = identity.statement_keys
    print(json.dumps({"change": len(identity.changes), "key": pair[0].verify_key.raw.hex()}))
    print("restart the server: its next epoch tells the chain", file=sys.stderr)


@app.command()
def token(
    home: Home,
    database: Annotated[str, typer.Option(help="SQLAlchemy URL; SQLite if not given.")] = "",
) -> None:
    """Draw a one-time token for founding an organization; print the file that holds it.

    The server may be running. Give the file's content to the founder over a private channel, for
    `parsec-fs org create`, and delete the file."""
    load_identity(home)
    opened = Database(database or f"sqlite:///{(home / DATABASE).resolve()}")
    try:
        opened.migrate()
        permit = permit_founding(opened, home, token=os.urandom(32), now_ms=wall_ms())
    finally:
        opened.close()
    expires = datetime.fromtimestamp(permit.expires_ms // 1000, UTC)
    print(permit.file)
    print(f"founds one organization, until {expires:%Y-%m-%d %H:%M} UTC", file=sys.stderr)


@app.command()
def show(
    home: Home,
    database: Annotated[str, typer.Option(help="SQLAlchemy URL; SQLite if not given.")] = "",
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute everything from the leaves.")
    ] = False,
) -> None:
    """Print logs, sizes and epochs as JSON."""
    identity = load_identity(home)
    opened = Database(database or f"sqlite:///{(home / DATABASE).resolve()}")
    opened.migrate()
    with opened.reading() as transaction:
        result = report(transaction)
        if verify:
            chain_id = chain_of(transaction, identity.server_log)
            result["verified"] = asdict(verify_database(transaction, identity, chain_id))
    opened.close()
    print(json.dumps(result, indent=2))


def _block_store(place: str, s3_credentials: Path | None) -> BlockStore:
    if not is_s3(place):
        return DirectoryStore(Path(place))
    store = S3Store(parse_address(place, s3_credentials))
    store.set_up()
    return store


def first_cause(error: BaseException) -> BaseException:
    """What a task group wraps, for one line on the terminal."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main() -> None:
    """Entry point: expected errors become one line and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for noisy in ("alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except ParsecFSError as error:
        print(f"parsec-server: {error}", file=sys.stderr)
        sys.exit(2)
