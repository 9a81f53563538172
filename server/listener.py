"""The listening side of a real server: one socket, uvicorn, signals, TLS where it must be.

Data flow: address -> bound socket -> uvicorn serves the application until a signal or cancellation.
"""

import ipaddress
import signal
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from parsec_fs.protocol.errors import InputError

GRACE_S = 2
"""What is still under way at shutdown is cut off after this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen. TLS files are a must for anything that is not loopback."""

    host: str
    port: int
    tls_cert: Path | None = None
    tls_key: Path | None = None


def parse_address(text: str, tls_cert: Path | None, tls_key: Path | None) -> Address:
    """`host:port` with a numeric host. Raises InputError."""
    host, _, port = text.rpartition(":")
    try:
        loopback = ipaddress.ip_address(host.strip("[]")).is_loopback
        number = int(port)
    except ValueError as error:
        raise InputError(f"{text}: expected an IP address and a port, as 127.0.0.1:8800") from error
    if not loopback and (tls_cert is None or tls_key is None):
        raise InputError(f"{text} is not loopback: give --tls-cert and --tls-key")
    return Address(host=host.strip("[]"), port=number, tls_cert=tls_cert, tls_key=tls_key)


def bind(address: Address) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises InputError."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Inherited by what is accepted. asyncio sets it only on sockets made with an explicit protocol;
    # without it a block's body waits for the delayed acknowledgement of its headers: 40 ms each.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError as error:
        listener.close()
        raise InputError(f"cannot listen on {address.host}:{address.port}: {error}") from error
    return listener


async def serve(
    app: Starlette,
    listener: socket.socket,
    address: Address,
    *,
    closing: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then the caller closes what is behind the application.
    `closing` ends answers that would otherwise never end."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        ssl_certfile=address.tls_cert,
        ssl_keyfile=address.tls_key,
    )
    await _Listener(config, closing).serve(sockets=[listener])


class _Listener(uvicorn.Server):
    """uvicorn that does not raise the signal again: there is still something to close."""

    def __init__(self, config: uvicorn.Config, closing: Callable[[], None]) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        caught = (signal.SIGTERM, signal.SIGINT)
        before = [(number, signal.signal(number, self.handle_exit)) for number in caught]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)
