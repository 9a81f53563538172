"""The replicated state: what every validator holds after a chain block, and its hash.

Data flow: genesis -> `ChainState` -> rules append statements -> `app_hash` in the next header.

Immutable and hashed over two levels (parsec_fs.protocol.simple_map): `heads` with the newest
statement of each server, `history` over all accepted statements, `params` over the registrations.
Height and time are carried but not hashed: the hash of an empty block must not change, or the
chain would make blocks for ever.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Final

from parsec_fs.protocol.codec import U8, U64, Label, Size, decode, encode
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import chain_history_leaf
from parsec_fs.protocol.ids import Hash, ServerLogId
from parsec_fs.protocol.limits import KEY_CHANGES_MAX, KIB
from parsec_fs.protocol.merkle import Frontier
from parsec_fs.protocol.simple_map import (
    HEADS_KEY,
    HISTORY_KEY,
    PARAMS_KEY,
    log_key,
    map_root,
)
from parsec_fs.protocol.statements import ServerRegistration

STATE_FORMAT: Final = 1
MAX_SERVERS: Final = 1024
STATEMENT_MAX_SIZE: Final = 4 * KIB + 7 * KIB * KEY_CHANGES_MAX
"""A signed statement has about 2.7 KiB, and 6.3 KiB more for each change of keys that it carries;
anything longer is not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """One registered server. `tree` is E: its size is the next epoch. `newest` starts empty."""

    registration: ServerRegistration
    tree: Frontier
    newest: Annotated[bytes, Size(0, STATEMENT_MAX_SIZE)]
    time_ms: U64

    @property
    def next_epoch(self) -> int:
        """The only epoch that can be accepted now."""
        return self.tree.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    """What genesis fixed; hashed into the state so that no validator can differ in it."""

    format: U8
    chain_id: Label
    registrations: tuple[ServerRegistration, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """Everything after the chain block `height`. `servers` are sorted by server log id."""

    chain_id: Label
    servers: Annotated[tuple[ServerState, ...], Size(1, MAX_SERVERS)]
    history: Frontier
    height: U64
    changed_at: U64
    """The last height whose block changed anything that is hashed."""
    block_time_ms: U64

    def server(self, server_log: ServerLogId) -> ServerState | None:
        """The registered server with this id."""
        found = [one for one in self.servers if one.registration.server_log == server_log]
        return found[0] if found else None


def genesis_state(
    chain_id: bytes, registrations: list[ServerRegistration], *, height: int, time_ms: int
) -> ChainState:
    """State before the first block (`height` is one below it). Raises DataError."""
    ordered = sorted(registrations, key=lambda one: one.server_log)
    if len({one.server_log for one in ordered}) != len(ordered) or not ordered:
        raise DataError("genesis: servers must be registered, each once")
    servers = tuple(
        ServerState(registration=one, tree=Frontier(), newest=b"", time_ms=0) for one in ordered
    )
    return ChainState(
        chain_id=chain_id,
        servers=servers,
        history=Frontier(),
        height=height,
        changed_at=height,
        block_time_ms=time_ms,
    )


def with_statement(
    state: ChainState, server: ServerState, tree: Frontier, tx: bytes, time_ms: int
) -> ChainState:
    """The state after one accepted statement."""
    updated = replace(server, tree=tree, newest=tx, time_ms=time_ms)
    servers = tuple(updated if one is server else one for one in state.servers)
    history = state.history.append(chain_history_leaf(tx))
    return replace(state, servers=servers, history=history)


def at_block(state: ChainState, *, previous: ChainState, height: int, time_ms: int) -> ChainState:
    """The state sealed into a block that followed `previous`."""
    changed_at = previous.changed_at if state.history == previous.history else height
    return replace(state, height=height, changed_at=changed_at, block_time_ms=time_ms)


def heads(state: ChainState) -> dict[bytes, bytes]:
    """Entries of the inner map: the newest signed statement of every server that has one."""
    return {log_key(one.registration.server_log): one.newest for one in state.servers if one.newest}


def outer_entries(state: ChainState) -> dict[bytes, bytes]:
    """Entries of the outer map, whose root is the app hash."""
    params = Params(
        format=STATE_FORMAT,
        chain_id=state.chain_id,
        registrations=tuple(one.registration for one in state.servers),
    )
    return {
        HEADS_KEY: map_root(heads(state)),
        HISTORY_KEY: state.history.size.to_bytes(8, "big") + state.history.root(),
        PARAMS_KEY: encode(params),
    }


def app_hash(state: ChainState) -> Hash:
    """What validators agree on in the header after this state's block."""
    return map_root(outer_entries(state))


def encode_state(state: ChainState) -> bytes:
    """Bytes for the database."""
    return encode(state)


def decode_state(data: bytes) -> ChainState:
    """Raises DataError."""
    return decode(ChainState, data)
