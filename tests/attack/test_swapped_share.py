"""Whoever carries a share puts one of a kit of their own in its place.

Data flow: kit of Alice -> share for Bob -> carrier, who is the server or a member -> Bob, with and
without the check.

The recipient's public key stands in the organization's log: anybody can seal to it. A colleague
who keeps a false share finds out on the day the true one is needed, and then the data is lost; or
Alice, recovering from enough false shares, becomes a device of the carrier's and shows them what
she writes.
"""

import os
from dataclasses import replace

import pytest

from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.errors import SignatureError
from parsec_fs.protocol.hashing import tag
from parsec_fs.protocol.membership import OrgState, org_of
from parsec_fs.recovery import Kit
from parsec_fs.sealed_shares import (
    SHARE_CHECKS,
    SealedShare,
    ShareChecks,
    ShareFile,
    check_share_file,
    open_share,
    seal_share,
)
from tests.support.colleagues import KIT, give_kit, member, secrets_of, share_for
from tests.support.honest_logs import HonestOrg, Person


class NoSender(ShareChecks):
    """The check left out."""

    def sender(self, unverified: ShareFile, share: SealedShare, org: OrgState) -> SealedShare:
        """Whoever it is from."""
        return share


def swapped(org: HonestOrg, carrier: Person, bob: Person) -> tuple[tuple[str, ...], bytes]:
    """Words of the carrier's own kit, in a file that says in all else what Alice's said."""
    false = Kit(secret=os.urandom(16), digest=os.urandom(16))
    words, own = share_for(org, bob, carrier, kit=false)
    _, true = share_for(org, bob, org.alice)
    about = decode(SealedShare, decode(ShareFile, true).share)
    user, secrets = org.state.users[bob.user], secrets_of(org, org.alice)
    false_file = decode(ShareFile, seal_share(words, user, about=about, secrets=secrets))
    signature = decode(ShareFile, own).signature  # the only one that the carrier can make
    return words, encode(ShareFile(share=false_file.share, signature=signature))


@pytest.mark.parametrize("checks", [SHARE_CHECKS, NoSender()])
def test_a_swapped_share_is_noticed_when_it_is_handed_over(checks: ShareChecks) -> None:
    org = HonestOrg()
    give_kit(org, org.alice, KIT)
    carrier, bob = member(org), member(org)
    words, file = swapped(org, carrier, bob)

    def kept() -> tuple[str, ...]:
        share = check_share_file(file, org.state, expected_org=org_of(org.state), checks=checks)
        return open_share(share, org.state, secrets_of(org, bob))

    if checks is SHARE_CHECKS:
        with pytest.raises(SignatureError) as caught:
            kept()
        assert caught.value.evidence == ()  # nobody has signed it: refused, and nobody accused
    else:
        assert kept() == words


@pytest.mark.parametrize("checks", [SHARE_CHECKS, NoSender()])
def test_a_member_cannot_send_a_share_in_the_name_of_another(checks: ShareChecks) -> None:
    """Correctly signed, but by a device that is none of Alice's."""
    org = HonestOrg()
    give_kit(org, org.alice, KIT)
    carrier, bob = member(org), member(org)
    body = decode(ShareFile, share_for(org, bob, org.alice)[1]).share
    about = decode(SealedShare, body)
    file = hostile_file(org, carrier, bob, about)
    if checks is SHARE_CHECKS:
        with pytest.raises(SignatureError, match="not from the person whose kit it is"):
            check_share_file(file, org.state, expected_org=org_of(org.state), checks=checks)
    else:
        share = check_share_file(file, org.state, expected_org=org_of(org.state), checks=checks)
        assert (share.owner, share.sender) == (org.alice.user, carrier.device)


def hostile_file(org: HonestOrg, carrier: Person, bob: Person, about: SealedShare) -> bytes:
    """`about` with the carrier as its sender and signer."""
    body = encode(replace(about, sender=carrier.device))
    signature = carrier.key.sign(tag("recovery-share-file") + body)
    return encode(ShareFile(share=body, signature=signature))
