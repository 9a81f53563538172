"""What replicas and sync need to know of the audit.

Data flow: audit/auditor -> this interface -> replicas (rule 23), headers of signed records.
"""

from typing import Final, Protocol

from parsec_fs.protocol.ids import NO_HASH, Hash

_ANY_EPOCH: Final = 2**63 - 1


class AuditView(Protocol):
    """The newest state that this device has audited."""

    @property
    def epochs(self) -> int:
        """How many epochs are verified, without a gap."""

    @property
    def chain_header(self) -> Hash:
        """Hash of the chain header that anchored the last of them (zeros: none)."""

    def most_due(self) -> int:
        """The largest due epoch that a head may promise (rule 23): newest verified + 2."""

    def may_send(self) -> bool:
        """False while the history is in doubt, too old or refuted: changes stay local (rule 24)."""

    async def catch_up(self, epochs: int) -> None:
        """Verify until `epochs` epochs are. Raises OfflineError, VerificationError."""


class Unaudited:
    """For commands that only read or append certificates: they rely on no promise."""

    epochs: int = 0
    chain_header: Hash = NO_HASH

    def most_due(self) -> int:
        """Any."""
        return _ANY_EPOCH

    def may_send(self) -> bool:
        """Always."""
        return True

    async def catch_up(self, epochs: int) -> None:
        """Nothing to wait for."""
