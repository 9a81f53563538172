"""Sealed mail between a new device and whoever invited it."""

import pytest

from parsec_fs.greeting import ADMISSION, REQUEST, Reveal
from parsec_fs.identity import Identity
from parsec_fs.joining import JoinRequest, mailbox_address, open_mail, seal_mail
from parsec_fs.protocol.errors import DecryptionError
from parsec_fs.protocol.ids import DeviceId
from tests.support.identities import founded

SECRET = bytes(range(16))
SALT = bytes(32)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founded()[1]


def test_mail_is_bound_to_slot_and_secret(identity: Identity) -> None:
    request = JoinRequest(
        device=DeviceId(bytes(16)),
        label=b"desktop",
        sign_key=bytes(32),
        box_key=identity.secrets.box_key().public,
    )
    mail = seal_mail(request, slot=REQUEST, secret=SECRET, salt=SALT)
    assert open_mail(mail, JoinRequest, slot=REQUEST, secret=SECRET) == request
    with pytest.raises(DecryptionError):
        open_mail(mail, JoinRequest, slot=ADMISSION, secret=SECRET)
    with pytest.raises(DecryptionError):
        open_mail(mail, JoinRequest, slot=REQUEST, secret=bytes(16))
    with pytest.raises(DecryptionError):
        open_mail(mail[:-1], JoinRequest, slot=REQUEST, secret=SECRET)


def test_mail_of_another_kind_is_refused() -> None:
    mail = seal_mail(Reveal(nonce=bytes(32)), slot=REQUEST, secret=SECRET, salt=SALT)
    with pytest.raises(DecryptionError, match="malformed"):
        open_mail(mail, JoinRequest, slot=REQUEST, secret=SECRET)


def test_address_hides_the_secret() -> None:
    address = mailbox_address(SECRET)
    assert len(address) == 32
    assert SECRET not in address
    assert address != mailbox_address(bytes(16))
