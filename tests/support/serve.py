"""Program: the real server on a real socket, with no chain behind it. Started by `socket_server`.

    python -m tests.support.serve HOME PORT

Everything is as in `parsec-server run` but the chain: no epoch is ever published.
"""

import sys
from pathlib import Path

import anyio

from server import listener
from server.app import running
from server.identity import load_identity
from tests.support.server import config_for_tests, outside


async def serve(home: Path, port: int) -> None:
    address = listener.Address(host="127.0.0.1", port=port)
    with listener.bind(address) as bound:
        async with running(config_for_tests(), load_identity(home), outside(home)) as server:
            await listener.serve(
                server.app, bound, address, closing=server.services.announcer.close
            )


if __name__ == "__main__":
    anyio.run(serve, Path(sys.argv[1]), int(sys.argv[2]))
