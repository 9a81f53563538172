"""A removed member is let in again by appending the old certificate once more.

Data flow: a role is granted and taken -> server appends the grant again -> mallory writes.

| attack                            | state     | errno | exit | evidence | epochs | check        |
|-----------------------------------|-----------|-------|------|----------|--------|--------------|
| an old certificate appended again | convicted | EROFS | 30   | P4       | 0      | `realm_leaf` |

The certificate is genuine, byte for byte, and signed by an owner; but it names the map value that
it replaced, and its place in the owner's chain of records (rules 1 and 8). The server has signed a
head over it, so the leaf itself is the evidence. Without the check mallory's price is read.
"""

import os
import signal
from dataclasses import replace
from pathlib import Path

import httpx
import trio

from parsec_fs.protocol.certificates import CONTRIBUTOR, NO_ROLE
from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.manifests import encode_manifest
from parsec_fs.protocol.sealing import ManifestContext, seal_manifest
from tests.support.devices import RawDevice
from tests.support.insider import Insider
from tests.support.product import Machine, Product

HONEST, FORGED = b"price: 100", b"price: 1"
GRANT = 2
"""Number of the certificate that made mallory a contributor: after creation and first key."""


class Members:
    """The people of the realm, where no command line exists yet: alice's second device as the
    administrator, and mallory, who was a contributor."""

    def __init__(self, product: Product, administrator: Machine) -> None:
        self._product = product
        self._identity = administrator.identity()
        self._realm: RealmId = product.realm()

    async def come_and_go(self, http: httpx.AsyncClient) -> RawDevice:
        """Mallory becomes a contributor, and is removed. His device, as it was at the end."""
        owner = RawDevice(http, self._identity.anchor, self._identity.secrets)
        await owner.pull(self._realm)
        mallory = await owner.add_user(http)
        await owner.pull(self._realm)
        for role in (CONTRIBUTOR, NO_ROLE):
            await owner.give(self._realm, mallory.secrets.user, role)
            if role == CONTRIBUTOR:
                await mallory.pull(self._realm)
        return mallory

    async def write(self, mallory: RawDevice, insider: Insider) -> None:
        """Another price, by mallory, who still knows the key of the realm."""
        file = insider.file("price")
        manifest = replace(file.manifest, inline=FORGED, size=len(FORGED))
        context = ManifestContext(
            org=self._identity.anchor.org,
            realm=self._realm,
            object=file.id,
            version=file.row.state.version + 1,
            author=mallory.id,
        )
        sealed = seal_manifest(
            encode_manifest(manifest), key=insider.key(), context=context, salt=os.urandom(32)
        )
        record = mallory.record(self._realm, file.id, payload=sealed)
        commit = mallory.sign(self._realm, record, payloads=(sealed,))
        report = await mallory.send(self._realm, commit)
        assert [one.refusal for one in report.fates] == [None]


def test_an_old_certificate_appended_again(hostile: Product, tmp_path: Path) -> None:
    alice = hostile.first_device("alice").mount()
    (alice.path / "price").write_bytes(HONEST)
    alice.wait("audited")
    administrator = hostile.next_device(alice, "administrator")
    members = Members(hostile, administrator)
    bob = hostile.victim(alice, "bob")
    carol = hostile.victim(alice, "carol", without="realm_leaf")
    insider = Insider(alice, tmp_path / "insider.db")

    async def attack() -> None:
        async with httpx.AsyncClient(base_url=hostile.server_url, trust_env=False) as http:
            mallory = await members.come_and_go(http)
            hostile.tell(do="fork", name="readmitted")
            hostile.show("readmitted", bob, carol)
            hostile.tell(do="route", devices=[mallory.id.hex()], branch="readmitted")
            hostile.tell(
                do="append_again",
                branch="readmitted",
                realm=hostile.realm().hex(),
                number=GRANT,
            )
            hostile.tell(do="anchor", plan=["readmitted"])
            await members.write(mallory, insider)

    alice.unmount()
    before = hostile.final_epochs()
    # Whoever sees the removal makes a new key, and mallory would write under an old one.
    for victim in (bob, carol):
        hostile.programs.send(victim.program, signal.SIGSTOP)
    trio.run(attack)
    for victim in (bob, carol):
        hostile.programs.send(victim.program, signal.SIGCONT)
    insider.close()
    carol.wait_file("price", FORGED)
    carol.wait("audited")
    carol.in_peace()
    bob.convicted_of("P4")
    assert bob.read("price") == HONEST
    assert bob.epochs() - before <= 3
