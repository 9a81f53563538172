"""The genesis `app_state`: which servers the chain accepts statements from, and who runs it.

Data flow: registrations, operators -> `app_state` JSON in the genesis file -> InitChain -> state.

Readable JSON, because operators review a genesis before they start a validator on it; every value
is checked again when it is read, and the id of a server follows from its name and keys. `operators`
is the policy of rule 29: how many independent operators share the validators. Starting a validator
on this genesis is to agree with the number; devices pin it with the validator set.
"""

import json
from collections.abc import Sequence
from typing import Any

from abci_app.rules import registered_keys
from parsec_fs.protocol.chain_types import MAX_VALIDATORS
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import ServerLogId
from parsec_fs.protocol.statements import ServerRegistration

JsonObject = dict[str, str | int]


def app_state(
    registrations: Sequence[ServerRegistration], *, operators: int = 1
) -> dict[str, int | list[JsonObject]]:
    """Value for `app_state` in the genesis document."""
    servers = [_to_json(one) for one in sorted(registrations, key=lambda one: one.server_log)]
    return {"operators": operators, "servers": servers}


def parse_app_state(data: bytes) -> tuple[list[ServerRegistration], int]:
    """Registrations and number of operators in genesis bytes. Raises DataError for anything odd."""
    try:
        document = json.loads(data)
        if set(document) != {"operators", "servers"}:
            raise DataError("genesis: app_state holds operators and servers")
        operators = document["operators"]
        if type(operators) is not int or not 1 <= operators <= MAX_VALIDATORS:
            raise DataError(f"genesis: 1 to {MAX_VALIDATORS} operators run a chain")
        return [_from_json(one) for one in document["servers"]], operators
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError("genesis: app_state does not list server registrations") from error


def _to_json(registration: ServerRegistration) -> JsonObject:
    return {
        "name": registration.name.hex(),
        "server_log": registration.server_log.hex(),
        "head_key": registration.head_key.hex(),
        "co_key": registration.co_key.hex(),
        "epoch_ms": registration.epoch_ms,
        "heartbeat_ms": registration.heartbeat_ms,
    }


def _from_json(fields: Any) -> ServerRegistration:
    registration = ServerRegistration(
        name=bytes.fromhex(fields["name"]),
        server_log=ServerLogId(bytes.fromhex(fields["server_log"])),
        head_key=bytes.fromhex(fields["head_key"]),
        co_key=bytes.fromhex(fields["co_key"]),
        epoch_ms=fields["epoch_ms"],
        heartbeat_ms=fields["heartbeat_ms"],
    )
    encode(registration)  # checks types, lengths and ranges
    registered_keys(registration.head_key, registration.co_key)
    return registration
