"""Leaf 0 of an org log: what founds an organization.

Data flow: bytes of the first leaf -> `genesis_of`, `check_genesis` -> `membership.found`.
"""

from parsec_fs.protocol.certificates import GENESIS, Authored, Genesis, decode_content
from parsec_fs.protocol.errors import DataError, TrustchainError
from parsec_fs.protocol.ids import NO_HASH
from parsec_fs.protocol.keys import CoVerifyKey
from parsec_fs.protocol.records import ROOT_DEVICE
from parsec_fs.protocol.sealing import SUITE


def genesis_of(kind: int, content: bytes) -> Genesis:
    """The genesis in a certificate that is NOT verified: it holds the key to do that. Raises
    DataError."""
    genesis = decode_content(kind, content) if kind == GENESIS else None
    if not isinstance(genesis, Genesis):
        raise DataError("an org log begins with its genesis")
    return genesis


def check_genesis(authored: Authored, genesis: Genesis) -> Genesis:
    """The root key's first record, in the context that it founds (rule 1). Raises DataError,
    TrustchainError."""
    header = authored.header
    context = header.context
    if (bytes(context.log), context.org) != (bytes(genesis.org), genesis.org):
        raise TrustchainError("genesis: context of another organization")
    if (context.genesis, authored.replaces) != (NO_HASH, NO_HASH):
        raise TrustchainError("genesis: nothing comes before it")
    if (header.device, header.sequence, header.previous) != (ROOT_DEVICE, 0, NO_HASH):
        raise TrustchainError("genesis: not the first record of the root key")
    if genesis.suite != SUITE:
        raise TrustchainError(f"genesis: unknown suite {genesis.suite}")
    CoVerifyKey(genesis.co_key)
    return genesis
