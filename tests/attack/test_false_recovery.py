"""A server takes whoever comes with words from paper into an organization of its own.

Data flow: kit of the true organization -> attacker's server -> `use`, with and without the check.

The public keys of a paper device stand in the organization's log, which the server reads. So it can
found an organization, certify these very keys there, seal a user key of its own to them, and serve
it all, correctly signed, at the address on the paper. Only the words say that it is another one.
"""

from pathlib import Path

import pytest

from parsec_fs.config import Home
from parsec_fs.device_file import DeviceFile
from parsec_fs.protocol.errors import TrustchainError
from parsec_fs.recovering import drill, use
from parsec_fs.recovery import Kit, RecoveryChecks, RecoveryRecord, paper_keys
from tests.support.kits import lure, made
from tests.support.laptops import found
from tests.support.server import BASE_URL, in_process


class NoRecord(RecoveryChecks):
    """The check left out."""

    def record(self, unverified: RecoveryRecord, kit: Kit) -> RecoveryRecord:
        """Whatever the server offers."""
        return unverified


async def test_another_organization_is_refused(tmp_path: Path) -> None:
    new, weak = Home(root=tmp_path / "new"), Home(root=tmp_path / "weak")
    async with in_process(tmp_path / "true") as true:
        kit = await made(true, await found(true), Home(root=tmp_path / "first"))
    async with in_process(tmp_path / "false") as false:
        public = paper_keys(kit.secret).request(b"recovery kit")
        attacker = await lure(false, public, tmp_path / "attacker")

        with pytest.raises(TrustchainError, match="another organization") as caught:
            await use(new, kit, server_url=BASE_URL, device_label="new", clients=false.http)
        assert caught.value.evidence == ()  # nobody has signed it: refused, and nobody accused
        with pytest.raises(TrustchainError, match="another organization"):
            await drill(kit, server_url=BASE_URL, clients=false.http)
        assert not DeviceFile(new.device).exists()
        assert not new.org_database.exists()

        lured = await use(
            weak,
            kit,
            server_url=BASE_URL,
            device_label="new",
            checks=NoRecord(),
            clients=false.http,
        )
        # What this device writes from now on, the attacker reads.
        assert lured.anchor.org == attacker.anchor.org
        assert lured.secrets.user_keys == attacker.secrets.user_keys
