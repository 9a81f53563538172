"""parsec-fs trust show, export, renew.

Data flow: audit states of this device <-> trust file, carried by a person.
"""

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import trio
import typer

from parsec_fs.audit.headers import TRUSTING_PERIOD_NS
from parsec_fs.cli import running
from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.cli.fingerprint import fingerprint
from parsec_fs.cli.settings import settings_of
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.chain_types import TrustState
from parsec_fs.trust import decode_trust, encode_trust, newest_trust, renew_trust

app = typer.Typer(no_args_is_help=True, help="Trust in the chain.")
_S: Final = 1_000_000_000


@app.command()
def show(context: typer.Context) -> None:
    """Show the newest chain header that this device verified."""
    settings = settings_of(context)
    chain = newest_trust(settings.home, settings.device_file().load()).chain
    settings.output.result(_document(chain), _lines(chain))


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
) -> None:
    """Write that header, for a device of the organization that was away for too long."""
    settings = settings_of(context)
    trust = newest_trust(settings.home, settings.device_file().load())
    file.write_bytes(encode_trust(trust))
    lines = [f"{file}:", *_lines(trust.chain), "Compare these characters on the other device."]
    settings.output.result({"file": str(file), **_document(trust.chain)}, lines)


@app.command()
def renew(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Of: parsec-fs trust export FILE.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: I have compared it.")] = False,
) -> None:
    """Trust a header that another device of the organization verified."""
    settings = settings_of(context)
    if running.mounted(settings):
        raise CommandError(ExitCode.BUSY, "unmount first: parsec-fs umount")
    identity = settings.device_file().load()
    given = decode_trust(file.read_bytes())
    for line in _lines(given.chain):
        settings.output.note(line)
    if not yes and not typer.confirm("Does the other device show the same?"):
        raise CommandError(ExitCode.FAILED, "nothing was changed")
    renewed = trio.run(renew_trust, settings.home, identity, given)
    settings.device_file().save(renewed, random=os.urandom)
    settings.output.result(_document(given.chain), ["Trust renewed."])


def _document(chain: TrustState) -> dict[str, object]:
    return {
        "chain_id": plain_name(chain.chain_id),
        "height": chain.height,
        "header": chain.header_hash.hex(),
        "time_ns": chain.time_ns,
        "validators": len(chain.validators),
        "validators_fingerprint": fingerprint(chain.chain_id, chain.validators),
        "expires_ns": chain.time_ns + TRUSTING_PERIOD_NS,
    }


def _lines(chain: TrustState) -> list[str]:
    seen = datetime.fromtimestamp(chain.time_ns // _S)
    left = (chain.time_ns + TRUSTING_PERIOD_NS - time.time_ns()) // (86_400 * _S)
    count = len(chain.validators)
    return [
        f"  chain       {plain_name(chain.chain_id)}",
        f"  header      {chain.height:,} of {seen:%Y-%m-%d %H:%M}, {chain.header_hash.hex()[:16]}",
        f"  validators  {count} ({fingerprint(chain.chain_id, chain.validators)})",
        f"  trusted for {max(left, 0)} more days without a newer one",
    ]
