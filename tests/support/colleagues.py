"""People of an honest organization who hold keys, and one of them with a recovery kit.

Data flow: `HonestOrg` -> `kit_owner`, `secrets_of`, `share_for` -> shares as files.
"""

from dataclasses import replace

from parsec_fs.identity import DeviceSecrets, UserKeySeed
from parsec_fs.protocol.certificates import STANDARD
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import DeviceId
from parsec_fs.protocol.membership import org_of
from parsec_fs.recovery import Kit, paper_keys
from parsec_fs.recovery_words import kit_shares
from parsec_fs.sealed_shares import SealedShare, seal_share
from tests.support.honest_logs import HonestOrg, Person

KIT = Kit(secret=bytes(range(16)), digest=bytes(range(16, 32)))


def member(org: HonestOrg) -> Person:
    """A new person with a device."""
    person = org.new_person()
    org.append(org.user_of(person, profile=STANDARD), org.alice.device, org.alice.key)
    org.append(org.device_of(person), org.alice.device, org.alice.key)
    return person


def give_kit(org: HonestOrg, owner: Person, kit: Kit = KIT) -> DeviceId:
    """The device on paper of this kit, certified by a device of its owner."""
    paper = paper_keys(kit.secret).request(b"recovery kit")
    content = replace(
        org.device_of(owner),
        device=paper.device,
        label=paper.label,
        sign_key=paper.sign_key,
        box_key=paper.box_key,
    )
    org.append(content, owner.device, owner.key)
    return paper.device


def secrets_of(org: HonestOrg, person: Person) -> DeviceSecrets:
    """What the device of this person holds; keys as `HonestOrg` draws them."""
    return DeviceSecrets(
        org=org_of(org.state),
        device=person.device,
        user=person.user,
        sign_seed=person.key.seed(),
        box_seed=sha256(person.device) * 3,
        user_keys=(UserKeySeed(generation=1, seed=sha256(person.user) * 3),),
        local_key=bytes(32),
    )


def share_for(
    org: HonestOrg, recipient: Person, sender: Person, *, kit: Kit = KIT, place: int = 1
) -> tuple[tuple[str, ...], bytes]:
    """Words of a share of two out of three, and the file in which `sender` hands them over."""
    words = kit_shares(kit, 2, 3)[place - 1]
    about = SealedShare(
        org=org_of(org.state),
        owner=sender.user,
        kit=paper_keys(kit.secret).request(b"").device,
        recipient=recipient.user,
        generation=1,
        place=place,
        needed=2,
        count=3,
        server_url=b"https://files.acme.example",
        sender=sender.device,
        box=b"",
    )
    user = org.state.users[recipient.user]
    return words, seal_share(words, user, about=about, secrets=secrets_of(org, sender))
