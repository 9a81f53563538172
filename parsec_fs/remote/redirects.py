"""Where a server may send this device for a block, and where not.

Data flow: redirect of the server, address that it came from -> this -> blocks -> storage.

What comes back is ciphertext with a known digest, so a redirect cannot lie. But a hostile server
could make the device knock at doors that only the device reaches: its own services, its network,
the metadata service of its cloud. So nobody is sent further inside than the server itself is: a
server of the internet only to the internet, one of a private network there too, one of this machine
anywhere but to link-local addresses. Names are resolved once, and that address is connected to.
"""

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio

from parsec_fs.plain_text import plain
from parsec_fs.protocol.errors import OfflineError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, best first. Raises OSError."""

MOST_ADDRESSES: Final = 4
_PORTS: Final = {"http": 80, "https": 443}
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_THIS_HOST: Final = ipaddress.ip_network("0.0.0.0/8")


class Reach(IntEnum):
    """From where an address can be reached; each is further inside than those before."""

    ANYWHERE = 0
    NETWORK = 1
    MACHINE = 2
    NOWHERE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One request: a URL with an address in place of the name, the name beside it."""

    url: str
    host: str
    name: str


async def by_system(host: str, port: int) -> Sequence[str]:
    """Resolve as the system does."""
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def targets(
    location: str, *, base_url: str, peer: str | None, resolve: Resolve = by_system
) -> list[Target]:
    """The addresses behind a redirect of the server at `base_url`, whose answer came from the
    address `peer`. Raises OfflineError if there is none that it may name."""
    parts = _parts(location, base_url)
    try:
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname or ""
        addresses = [host] if _is_address(host) else await resolve(host, port)
    except (OSError, ValueError) as error:
        raise OfflineError(f"block storage at {plain(parts.netloc)} is not found") from error
    inside = Reach.ANYWHERE if peer is None else reach(peer)
    allowed = [
        one for one in addresses if one == peer or (reach(one) <= inside and _is_somewhere(one))
    ]
    if not allowed:
        raise OfflineError(
            f"the server sends us to {plain(parts.netloc)}, which is not its to name"
        )
    return [_target(parts, one, port) for one in allowed[:MOST_ADDRESSES]]


def reach(address: str) -> Reach:
    """Raises ValueError for what is no address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or _behind_nat64(ip)
        if inner is not None:
            return reach(str(inner))
    if ip.is_loopback:
        return Reach.MACHINE
    odd = ip.is_unspecified or ip.is_multicast or ip.is_link_local or ip.is_reserved
    if odd or ip in _THIS_HOST:
        return Reach.NOWHERE
    return Reach.ANYWHERE if ip.is_global else Reach.NETWORK


def _is_somewhere(address: str) -> bool:
    return reach(address) is not Reach.NOWHERE


def _behind_nat64(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _parts(location: str, base_url: str) -> SplitResult:
    """Raises OfflineError: only http and https, never from https to http, no user, one line."""
    if not location.isascii() or not location.isprintable() or " " in location:
        raise OfflineError("block storage redirects to nowhere")
    try:
        parts = urlsplit(location)
    except ValueError as error:
        raise OfflineError("block storage redirects to nowhere") from error
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        raise OfflineError("block storage redirects to nowhere")
    if parts.scheme == "http" and not base_url.lower().startswith("http://"):
        raise OfflineError("block storage redirects from https to http")
    return parts


def _target(parts: SplitResult, address: str, port: int) -> Target:
    at = f"[{address}]" if ":" in address else address
    url = parts._replace(netloc=f"{at}:{port}", fragment="").geturl()
    return Target(url=url, host=parts.netloc, name=parts.hostname or "")
