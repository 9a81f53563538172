"""The one-time code and the mail under it."""

from dataclasses import replace

import pytest

from parsec_fs.cli.fingerprint import device_fingerprint, same_fingerprint
from parsec_fs.identity import Identity
from parsec_fs.joining import (
    ADMISSION,
    INVITATION,
    REQUEST,
    Invitation,
    JoinCode,
    JoinRequest,
    format_code,
    invitation_digest,
    mailbox_address,
    open_invitation,
    open_mail,
    parse_code,
    seal_mail,
)
from parsec_fs.protocol.codec import encode
from parsec_fs.protocol.errors import DecryptionError, InputError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import DeviceId, LogId
from parsec_fs.protocol.records import LogState
from parsec_fs.protocol.sealing import BoxKey
from tests.support.identities import founded

SECRET = bytes(range(16))
SALT = bytes(32)


@pytest.fixture(scope="module")
def identity() -> Identity:
    return founded()[1]


def invitation(identity: Identity, label: bytes = b"laptop") -> Invitation:
    state = LogState(
        log=LogId(identity.anchor.org),
        size=3,
        log_root=EMPTY_TREE,
        map_root=EMPTY_MAP,
        org_size=3,
    )
    return Invitation(
        anchor=identity.anchor,
        user=identity.secrets.user,
        inviter=identity.secrets.device,
        org_state=state,
        label=label,
    )


def code_for(message: Invitation) -> JoinCode:
    return JoinCode(
        secret=SECRET,
        invitation=invitation_digest(encode(message)),
        server_url="https://files.acme.example",
    )


def test_code_survives_line_breaks(identity: Identity) -> None:
    code = code_for(invitation(identity))
    text = format_code(code)
    assert parse_code(f"  {text[:20]}\n{text[20:]}\n") == code
    assert len(text) < 160


@pytest.mark.parametrize("position", [10, 30, 60, -1])
def test_mistyped_code_is_noticed(identity: Identity, position: int) -> None:
    text = format_code(code_for(invitation(identity)))
    letter = "A" if text[position] != "A" else "B"
    index = position % len(text)
    with pytest.raises(InputError):
        parse_code(text[:index] + letter + text[index + 1 :])


@pytest.mark.parametrize(
    "text", ["", "hello", "parsec-fs-", "parsec-fs-!!", "parsec-fs-\N{BULLET}"]
)
def test_other_text_is_no_code(text: str) -> None:
    with pytest.raises(InputError):
        parse_code(text)


def test_code_is_not_shown(identity: Identity) -> None:
    assert SECRET.hex() not in repr(code_for(invitation(identity)))


def test_invitation_opens_under_its_code(identity: Identity) -> None:
    message = invitation(identity)
    mail = seal_mail(message, slot=INVITATION, secret=SECRET, salt=SALT)
    assert open_invitation(mail, code_for(message)) == message


def test_exchanged_invitation_is_refused_even_with_the_secret(identity: Identity) -> None:
    mail = seal_mail(invitation(identity, b"evil"), slot=INVITATION, secret=SECRET, salt=SALT)
    with pytest.raises(DecryptionError, match="names"):
        open_invitation(mail, code_for(invitation(identity)))


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


def test_fingerprint_is_of_everything_that_would_be_added(identity: Identity) -> None:
    request = JoinRequest(
        device=DeviceId(bytes(16)),
        label=b"desktop",
        sign_key=bytes(32),
        box_key=identity.secrets.box_key().public,
    )
    mark = device_fingerprint(request)
    assert [len(group) for group in mark.split(" ")] == [4] * 8
    assert same_fingerprint(f" {mark.lower()}\n", mark)
    assert same_fingerprint(mark.replace(" ", ""), mark)
    assert not same_fingerprint(mark[:-1], mark)
    assert not same_fingerprint("", mark)
    others = (
        replace(request, device=DeviceId(bytes(15) + b"1")),
        replace(request, label=b"Desktop"),
        replace(request, sign_key=bytes(31) + b"1"),
        replace(request, box_key=BoxKey(bytes(96)).public),
    )
    assert len({device_fingerprint(one) for one in (request, *others)}) == 5


def test_mail_of_another_kind_is_refused(identity: Identity) -> None:
    mail = seal_mail(invitation(identity), slot=REQUEST, secret=SECRET, salt=SALT)
    with pytest.raises(DecryptionError, match="malformed"):
        open_mail(mail, JoinRequest, slot=REQUEST, secret=SECRET)


def test_address_hides_the_secret() -> None:
    address = mailbox_address(SECRET)
    assert len(address) == 32
    assert SECRET not in address
    assert address != mailbox_address(bytes(16))
