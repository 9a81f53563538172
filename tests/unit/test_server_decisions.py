"""The order of reasons, and what a decision changes: tests named `a_before_b` pin the precedence.

Data flow: honest log -> view -> decision -> effects or outcome.
"""

from dataclasses import dataclass, field, replace

import pytest

from parsec_fs.protocol.certificates import NO_ROLE, OWNER, STANDARD, Role, sign_certificate
from parsec_fs.protocol.codec import decode, encode
from parsec_fs.protocol.commands import AppendCertificate, CommitBatch, CreateOrg, Outcome
from parsec_fs.protocol.commits import CommitBody, ObjectRecord, commit_hash
from parsec_fs.protocol.hashing import map_key, payload_hash
from parsec_fs.protocol.ids import NO_HASH, Hash, LogId, ObjectId
from parsec_fs.protocol.log_state import DeviceChain
from parsec_fs.protocol.records import Refusal, Signed, sign_refusal
from parsec_fs.protocol.statements import ServerRegistration
from server.decisions import commits, orgs, realms
from server.decisions.commits import BatchEffects, BatchView, ParsedBatch, Repeated
from server.decisions.effects import OrgEffects
from tests.support.honest_logs import HonestOrg, HonestRealm, Person, workspace_of_three

PAYLOAD = b"sealed"
NOW = 1_900_000_000_000


@dataclass
class Desk:
    """A realm and the decisions about it; nothing is appended to the honest log."""

    realm: HonestRealm
    refused: dict[Hash, Signed] = field(default_factory=dict)
    stored: frozenset[Hash] = frozenset()
    bytes_left: int = 10**9

    def record(self, *, version: int = 1, base: Hash = NO_HASH) -> ObjectRecord:
        return ObjectRecord(
            object=self.realm.new_object(),
            version=version,
            base=base,
            payload=payload_hash(PAYLOAD),
            payload_size=len(PAYLOAD),
            blocks_root=NO_HASH,
            flags=0,
        )

    def parse(self, author: Person, *bodies: bytes, payload: bytes = PAYLOAD) -> ParsedBatch:
        batch = CommitBatch(
            realm=self.realm.id, commits=bodies, payloads=(payload,), nonce=bytes(32)
        )
        parsed = commits.parse(
            batch, device=author.device, key=author.key.verify_key, context=self.realm.context
        )
        assert isinstance(parsed, ParsedBatch)
        return parsed

    def decide(
        self, author: Person, *bodies: bytes, payload: bytes = PAYLOAD
    ) -> BatchEffects | Outcome:
        view = BatchView(
            org=self.realm.org.state,
            realm=self.realm.state,
            accepted={},
            refused=self.refused,
            stored=self.stored,
            objects=self.realm.objects.get,
            bytes_left=self.bytes_left,
        )
        parsed = self.parse(author, *bodies, payload=payload)
        return commits.decide(parsed, view=view, device=author.device, now_ms=NOW)

    def refusal(self, author: Person, body: bytes) -> Refusal:
        effects = self.decide(author, body)
        assert isinstance(effects, BatchEffects)
        (result,) = effects.results
        assert isinstance(result, Refusal)
        assert effects.realm.change.refusals == (result,)
        assert effects.realm.state is self.realm.state
        assert not effects.realm.change.payloads
        return result


@pytest.fixture
def people() -> tuple[Desk, Person, Person]:
    realm, bob, carol = workspace_of_three()
    return Desk(realm), bob, carol


def hash_of(body: bytes) -> Hash:
    return commit_hash(decode(CommitBody, body))


def chained(desk: Desk, author: Person, *records: list[ObjectRecord]) -> list[bytes]:
    """Commits one after the other in the author's chain, none of them appended."""
    bodies, state = [], desk.realm.state
    for some in records:
        bodies.append(desk.realm.sign_commit(some, author))
        chain = desk.realm.state.chains.get(author.device, DeviceChain())
        after = DeviceChain(sequence=chain.sequence + 1, last=hash_of(bodies[-1]))
        chains = {**desk.realm.state.chains, author.device: after}
        desk.realm.state = replace(desk.realm.state, chains=chains)
    desk.realm.state = state
    return bodies


def test_role_before_chain(people: tuple[Desk, Person, Person]) -> None:
    desk, _, carol = people
    _, second = chained(desk, carol, [desk.record()], [desk.record()])
    assert desk.refusal(carol, second).outcome == Outcome.NOT_ALLOWED


def test_chain_before_key_index(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    _, second = chained(desk, bob, [desk.record()], [desk.record()])
    desk.realm.rotate(desk.realm.owner)
    assert desk.refusal(bob, second).outcome == Outcome.BAD_CHAIN


def test_key_index_before_versions(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    body = desk.realm.sign_commit([desk.record(version=7)], bob)
    desk.realm.rotate(desk.realm.owner)
    assert desk.refusal(bob, body).outcome == Outcome.STALE_KEY


def test_refused_predecessor_before_role(people: tuple[Desk, Person, Person]) -> None:
    desk, _, carol = people
    first, second = chained(desk, carol, [desk.record()], [desk.record()])
    refusal = desk.refusal(carol, first)
    desk.refused = {hash_of(first): sign_refusal(refusal, desk.realm.org.head_key)}
    assert desk.refusal(carol, second).outcome == Outcome.AFTER_REFUSED


def test_outsider_before_anything(people: tuple[Desk, Person, Person]) -> None:
    desk, _, _ = people
    stranger = desk.realm.org.add_person(profile=STANDARD)
    body = desk.realm.sign_commit([desk.record()], stranger)
    assert desk.decide(stranger, body, payload=b"other") is Outcome.NOT_ALLOWED


def test_missing_payload_before_quota(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    desk.bytes_left = 0
    body = desk.realm.sign_commit([desk.record()], bob)
    assert desk.decide(bob, body, payload=b"other") is Outcome.MISSING_PAYLOAD
    assert desk.decide(bob, body) is Outcome.QUOTA
    desk.stored = frozenset({payload_hash(PAYLOAD)})
    assert isinstance(desk.decide(bob, body, payload=b"other"), BatchEffects)


def test_declared_payload_size_must_be_true(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    body = desk.realm.sign_commit([replace(desk.record(), payload_size=1)], bob)
    assert desk.decide(bob, body) is Outcome.BAD_REQUEST


def test_all_conflicts_with_their_states(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    there = [desk.realm.new_object() for _ in range(3)]
    desk.realm.commit(there)
    records = [replace(desk.record(), object=one) for one in there]
    absent = desk.record(version=2, base=Hash(bytes(31) + b"\x01"))
    refusal = desk.refusal(bob, desk.realm.sign_commit([*records, absent, desk.record()], bob))
    assert refusal.outcome == Outcome.CONFLICT
    expected = {one: (desk.realm.objects[one],) for one in there} | {absent.object: ()}
    assert {one.object: one.state for one in refusal.conflicts} == expected
    position = desk.realm.state.position
    assert (refusal.size, refusal.log_root) == (position.size, position.root())
    encode(refusal)


def test_batch_goes_on_after_an_independent_refusal(people: tuple[Desk, Person, Person]) -> None:
    """A refused commit takes those behind it along; a rebased one in its place is taken."""
    desk, bob, _ = people
    bad, behind = chained(desk, bob, [desk.record(version=9)], [desk.record()])
    good = desk.realm.sign_commit([desk.record()], bob)
    effects = desk.decide(bob, bad, behind, good, good)
    assert isinstance(effects, BatchEffects)
    first, second, third, fourth = effects.results
    assert isinstance(first, Refusal)
    assert isinstance(second, Refusal)
    assert (first.outcome, second.outcome) == (Outcome.CONFLICT, Outcome.AFTER_REFUSED)
    index = desk.realm.state.position.size
    assert third == index
    assert fourth == Repeated(index=index, refusal=None)
    change = effects.realm.change
    assert [leaf.header.index for leaf in change.leaves] == [index]
    assert change.payloads == {payload_hash(PAYLOAD): PAYLOAD}
    assert change.position == effects.realm.state.position


def test_later_commits_see_earlier_ones(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, _ = people
    record = desk.record()
    first, again = chained(desk, bob, [record], [record])
    effects = desk.decide(bob, first, again)
    assert isinstance(effects, BatchEffects)
    assert isinstance(effects.results[1], Refusal)
    assert effects.results[1].conflicts[0].state == (effects.realm.change.objects[record.object],)


def test_commits_of_others_are_malformed(people: tuple[Desk, Person, Person]) -> None:
    desk, bob, carol = people
    body = desk.realm.sign_commit([desk.record()], bob)
    batch = CommitBatch(realm=desk.realm.id, commits=(body,), payloads=(), nonce=bytes(32))
    for device, key in ((carol.device, bob.key), (bob.device, carol.key)):
        found = commits.parse(batch, device=device, key=key.verify_key, context=desk.realm.context)
        assert found is Outcome.BAD_REQUEST


def test_certificate_of_another_kind_or_author() -> None:
    realm, bob, _ = workspace_of_three()
    body = realm.sign(Role(user=bob.user, role=NO_ROLE), realm.owner)
    request = AppendCertificate(log=LogId(realm.id), body=body, boxes=())
    kept = {"org": realm.org.state, "realm": realm.state, "now_ms": NOW}
    found = realms.append(request, author=bob.device, **kept)  # type: ignore[arg-type]
    assert found is Outcome.INVALID  # bob's key did not sign it
    nobody = realms.append(request, author=bob.device, org=realm.org.state, realm=None, now_ms=NOW)
    assert nobody is Outcome.NOT_ALLOWED
    stale = realms.append(request, author=realm.owner.device, **kept)  # type: ignore[arg-type]
    secret = sign_certificate(
        Role(user=bob.user, role=NO_ROLE),
        header=realm.header(realm.owner),
        replaces=realm.state.map.get(map_key(b"role", bob.user)) or NO_HASH,
        key=realm.owner.key,
    )
    request = AppendCertificate(log=LogId(realm.id), body=secret, boxes=())
    found = realms.append(request, author=realm.owner.device, **kept)  # type: ignore[arg-type]
    assert found is Outcome.INVALID  # rule 9: nobody registered it
    assert stale is Outcome.CONFLICT  # rule 8: it replaces nothing, but bob has a role


def test_managers_do_not_make_owners() -> None:
    realm, bob, carol = workspace_of_three()
    body = realm.sign(Role(user=carol.user, role=OWNER), bob)
    request = AppendCertificate(log=LogId(realm.id), body=body, boxes=())
    found = realms.append(
        request, org=realm.org.state, realm=realm.state, author=bob.device, now_ms=NOW
    )
    assert found is Outcome.NOT_ALLOWED


def registration(org: HonestOrg) -> ServerRegistration:
    return ServerRegistration(
        name=b"server",
        server_log=org.context.server_log,
        head_key=org.head_key.verify_key.raw,
        co_key=org.co_key.verify_key.raw,
        epoch_ms=1000,
        heartbeat_ms=1000,
    )


def test_founding_must_name_this_server() -> None:
    org, other = HonestOrg(b"one"), HonestOrg(b"two")
    request = CreateOrg(
        token=bytes(32),
        genesis=org.leaves[0].body,
        user=org.leaves[1].body,
        device=org.leaves[2].body,
    )
    chain = org.context.chain_id

    def found(server: HonestOrg, chain_id: bytes, *, known: bool = False) -> object:
        return orgs.found(
            request,
            existing=org.state if known else None,
            server=registration(server),
            chain_id=chain_id,
            now_ms=NOW,
        )

    assert found(other, chain) is Outcome.BAD_REQUEST
    assert found(org, b"another chain") is Outcome.INVALID
    assert found(org, chain, known=True) is Outcome.EXISTS
    effects = found(org, chain)
    assert isinstance(effects, OrgEffects)
    assert [leaf.header.org_size for leaf in effects.change.leaves] == [1, 2, 3]
    swapped = replace(request, genesis=request.user, user=request.genesis)
    assert orgs.org_of_request(swapped) is Outcome.BAD_REQUEST
    assert orgs.org_of_request(replace(request, genesis=b"x")) is Outcome.BAD_REQUEST


def test_stamps_change_nothing_but_the_size() -> None:
    realm, _, _ = workspace_of_three()
    effects = realms.add_stamps(
        realm.state, frozenset({b"b" * 32, b"a" * 32}), org=realm.org.state, now_ms=NOW
    )
    assert effects.state.map == realm.state.map
    assert effects.state.position.size == realm.state.position.size + 1
    assert ObjectId(bytes(16)) not in effects.change.objects
