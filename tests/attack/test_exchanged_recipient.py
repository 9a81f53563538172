"""The server gives its own public key for a person with whom a workspace is to be shared (A02).

Data flow: org log with one certificate exchanged, under the server's heads -> `share` -> requests.

| attack                               | must end as           | check      |
|--------------------------------------|-----------------------|------------|
| another key in a member's certificate | refused, nothing sent | `org_leaf` |

The log that is shown is whole: headers, roots and heads fit, for the server signs them. Only what
an administrator has signed is not what it says any more. Without the check the next key of the
workspace is sealed to the server.
"""

import os
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from parsec_fs.protocol.certificates import (
    CONTRIBUTOR,
    KeyBox,
    User,
    decode_content,
    peek_certificate,
)
from parsec_fs.protocol.codec import decode, encode, encode_trusted
from parsec_fs.protocol.commands import Answer, AppendCertificate, Leaves, ReadLeaves
from parsec_fs.protocol.errors import DataError, SignatureError, VerificationError
from parsec_fs.protocol.hashing import body_hash
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import Head, Leaf, Signed, sign_head
from parsec_fs.protocol.sealing import BoxKey, realm_key_box_info
from parsec_fs.workspace.refused_leaf import LeafRefusedError
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks
from tests.support.laptops import found, laptop, place_of, second_device, second_user
from tests.support.server import InProcess, in_process
from tests.support.weakened import believe_newcomer


class AnyNewcomer(ReplicaChecks):
    """The check left out."""

    def org_leaf(self, state: OrgState, leaf: Leaf) -> OrgState:
        """Whoever signed it."""
        try:
            return super().org_leaf(state, leaf)
        except (DataError, VerificationError):
            after = believe_newcomer(state, leaf.body)
            return replace(after, position=state.position.after(leaf))


class ExchangingLine(httpx.AsyncBaseTransport):
    """Keeps what was appended; from `lie` on it shows another org log than the true one."""

    def __init__(self, server: InProcess, box_key: bytes) -> None:
        self._inner = httpx.ASGITransport(app=server.server.app)
        self._head_key = server.identity.head_key
        self._box_key = box_key
        self._leaves: list[Leaf] = []
        self._base = 0
        self._state: OrgState | None = None
        self.appended: list[AppendCertificate] = []

    def lie(self, state: OrgState) -> None:
        """From here on; `state` is what the victim has verified."""
        self._state, self._base, self.appended = state, state.position.size, []

    def boxes(self) -> list[KeyBox]:
        """All that was sent for members since."""
        return [box for one in self.appended for box in one.boxes]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        if request.url.path.endswith("/append"):
            self.appended.append(decode(AppendCertificate, body))
        answer = await self._inner.handle_async_request(request)
        if self._state is None or request.url.path != "/v1/log/leaves":
            return answer
        asked, told = decode(ReadLeaves, body), decode(Answer, await answer.aread())
        if asked.log == self._state.context.log:
            leaves = self._forged(asked, decode(Leaves, told.body))
            told = replace(told, body=encode(leaves))
        return httpx.Response(200, stream=httpx.ByteStream(encode(told)))

    def _forged(self, asked: ReadLeaves, told: Leaves) -> Leaves:
        known = self._base + len(self._leaves)
        for leaf in told.leaves[known - asked.start :]:
            self._add(leaf)
        assert self._state is not None
        roots = {"log_root": self._state.position.root(), "map_root": self._state.map.root()}
        head = replace(decode(Head, told.head.record), **roots)
        shown = tuple(self._leaves[asked.start - self._base :])
        return Leaves(leaves=shown, head=sign_head(head, self._head_key))

    def _add(self, leaf: Leaf) -> None:
        assert self._state is not None
        body = self._exchanged(leaf.body)
        header = replace(leaf.header, map_root=self._state.map.root(), body=body_hash(body))
        forged = Leaf(header=header, body=body)
        after = believe_newcomer(self._state, body)
        self._state = replace(after, position=self._state.position.after(forged))
        self._leaves.append(forged)

    def _exchanged(self, body: bytes) -> bytes:
        """A user's certificate with the server's key in it, and the signature as it was."""
        certificate = peek_certificate(body)
        content = decode_content(certificate.kind, certificate.content)
        if not isinstance(content, User):
            return body
        false = encode_trusted(replace(content, box_key=self._box_key))
        record = encode(replace(certificate, content=false))
        return encode(replace(decode(Signed, body), record=record))


@pytest.mark.parametrize("checks", [REPLICA_CHECKS, AnyNewcomer()], ids=["checked", "without"])
async def test_no_key_is_sealed_to_an_exchanged_recipient(
    tmp_path: Path, checks: ReplicaChecks
) -> None:
    servers = BoxKey(os.urandom(96))
    async with in_process(tmp_path / "server") as server:
        line = ExchangingLine(server, servers.public)
        place = replace(place_of(server), line=lambda: line)
        identity = await found(server)
        async with laptop(place, identity, tmp_path / "one", checks=checks) as alice:
            realm = await alice.create_realm()
            await alice.open(realm)
            other = await second_device(alice)
            async with laptop(server, other, tmp_path / "two") as helper:
                bob = (await second_user(helper)).secrets
            line.lie(alice.org.state)
            sharing = alice.workspace.sharing
            if checks is REPLICA_CHECKS:
                with pytest.raises(LeafRefusedError) as caught:
                    await sharing.set_role(bob.user, CONTRIBUTOR)
                assert isinstance(caught.value.__cause__, SignatureError)
                assert line.appended == []
                return
            assert await sharing.set_role(bob.user, CONTRIBUTOR)
            (box,) = [one.box for one in line.boxes() if one.user == bob.user]
            newest = alice.workspace.keys.newest()
            info = realm_key_box_info(bob.org, realm, newest.index, bob.user, 1)
            assert servers.open(box, info=info) == newest.secret()
