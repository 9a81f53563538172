"""What a server says of each block of a request is to the device what it says of a whole one.

Data flow: encoded outcomes -> BlockClient, a signer that needs no server -> errors.
"""

from typing import cast

import pytest
from httpx import Headers

from parsec_fs.protocol.block_batches import BlocksPut
from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.commands import Answer, Outcome
from parsec_fs.protocol.errors import (
    DeviceRevokedError,
    OfflineError,
    ParsecFSError,
    RefusedError,
    StorageFullError,
)
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import RealmId
from parsec_fs.remote.blocks import BlockClient
from parsec_fs.remote.sessions import Signer, body_of
from parsec_fs.remote.transport import HttpAnswer

OF_EACH = {
    Outcome.OK: type(None),
    Outcome.EXISTS: RefusedError,
    Outcome.QUOTA: StorageFullError,
    Outcome.UNAVAILABLE: OfflineError,
    Outcome.REVOKED: DeviceRevokedError,
}


def answered(outcome: Outcome, body: bytes = b"", status: int = 200) -> HttpAnswer:
    return HttpAnswer(
        status=status, headers=Headers(), body=encode_trusted(Answer(outcome=outcome, body=body))
    )


class Said:
    """Stands in for a signer: whatever is sent, this is the answer."""

    def __init__(self, *outcomes: Outcome) -> None:
        self._body = encode_trusted(BlocksPut(outcomes=tuple(map(int, outcomes))))

    async def send(self, *args: object, **kwargs: object) -> HttpAnswer:
        return answered(Outcome.OK, self._body)


async def test_each_block_has_the_error_of_its_outcome() -> None:
    client = BlockClient(cast(Signer, Said(*OF_EACH)), RealmId(b"r" * 32))
    found = await client.put_many(b"", len(OF_EACH), digest=sha256(b""))
    assert [type(one) for one in found] == list(OF_EACH.values())


@pytest.mark.parametrize(("outcome", "status"), [(one, 400) for one in OF_EACH if one])
def test_and_so_has_a_whole_request(outcome: Outcome, status: int) -> None:
    status = 507 if outcome is Outcome.QUOTA else status
    with pytest.raises(ParsecFSError) as found:
        body_of(answered(outcome, status=status))
    assert found.type is OF_EACH[outcome]
