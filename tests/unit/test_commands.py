"""Requests and answers: signed, parsed, bounded.

Data flow: request -> header text -> what the server checks; answers -> bytes.
"""

from dataclasses import replace

import pytest

from parsec_fs.protocol import commands
from parsec_fs.protocol.codec import decode
from parsec_fs.protocol.commands import (
    Answer,
    Nothing,
    OpenSession,
    Outcome,
    RequestToSign,
    parse_authorization,
    request_to_sign,
    sign_request,
    verify_request,
)
from parsec_fs.protocol.errors import DataError, SignatureError
from parsec_fs.protocol.hashing import sha256
from parsec_fs.protocol.ids import DeviceId, OrgId, ServerLogId
from parsec_fs.protocol.keys import SigningKey

KEY = SigningKey(bytes(range(32)))


def request(path: str = "/v1/realm/commit", body: bytes = b"body") -> RequestToSign:
    return request_to_sign(
        server_log=ServerLogId(bytes(32)),
        org=OrgId(bytes(32)),
        session=bytes(16),
        nonce=bytes(32),
        counter=7,
        method="POST",
        path=path,
        body_hash=sha256(body),
    )


def test_signed_request_verifies() -> None:
    authorization = parse_authorization(sign_request(request(), KEY))
    assert (authorization.session, authorization.counter) == (bytes(16), 7)
    verified = verify_request(request(), authorization.signature, key=KEY.verify_key)
    assert (verified.body, verified.method) == (sha256(b"body"), b"POST")


@pytest.mark.parametrize(
    "changed",
    [
        request(path="/v1/realm/box"),
        request(body=b"other"),
        replace(request(), counter=8),
        replace(request(), nonce=b"n" * 32),
        replace(request(), server_log=ServerLogId(b"s" * 32)),
    ],
)
def test_signature_covers_the_whole_request(changed: RequestToSign) -> None:
    signature = parse_authorization(sign_request(request(), KEY)).signature
    with pytest.raises(SignatureError):
        verify_request(changed, signature, key=KEY.verify_key)


def test_malformed_authorization() -> None:
    with pytest.raises(SignatureError):
        parse_authorization("no hex")
    for text in ("", "00", "93" * 300):
        with pytest.raises(DataError):
            parse_authorization(text)


def test_answers() -> None:
    question = OpenSession(org=OrgId(bytes(32)), device=DeviceId(bytes(16)))
    answer = decode(Answer, commands.ok(question))
    assert answer.outcome == Outcome.OK
    assert decode(OpenSession, answer.body) == question
    refused = decode(Answer, commands.refused(Outcome.QUOTA))
    assert (refused.outcome, refused.body) == (Outcome.QUOTA, b"")
    assert decode(Nothing, b"\x90") == Nothing()
