"""Evidence of every type, made by lying twins of an honest server; and its honest counterparts.

Data flow: HonestServer -> lies -> `guilty()`; the same shapes from honest material -> `innocent()`.
"""

from collections.abc import Sequence
from dataclasses import replace

from parsec_fs.audit.accusations import place_of, split_views
from parsec_fs.audit.commitments import AnchoredState, Commitment, anchored_states
from parsec_fs.audit.contradictions import (
    BrokenPromise,
    FalseRefusal,
    OutdatedLeaf,
    SplitView,
    StaleAnswer,
    TwoStatements,
    of_anchored,
    of_head,
)
from parsec_fs.audit.equivocation import DeviceEquivocation, DeviceRecord
from parsec_fs.audit.evidence import Record
from parsec_fs.audit.partial_realm import author_of, open_touched
from parsec_fs.audit.transitions import OrgLog, PlacedLeaf, RealmTransition
from parsec_fs.protocol.certificates import ADMIN, CONTRIBUTOR, OWNER, READER, Role, UserRevoked
from parsec_fs.protocol.chain_types import ChainForkEvidence
from parsec_fs.protocol.hashing import EMPTY_MAP
from parsec_fs.protocol.ids import NO_HASH, Hash, LogId
from parsec_fs.protocol.realm_state import Transition
from parsec_fs.protocol.records import (
    CERTIFICATE,
    COMMIT,
    STAMPS,
    Leaf,
    LeafHeader,
    LogState,
    Refusal,
    sign_refusal,
)
from tests.support.history import CutEpoch, HonestServer, Member, open_cut
from tests.support.simulated_chain import make_header, sign_header


class Court:
    """An honest past with two members, and what is needed to accuse."""

    def __init__(self, server: HonestServer | None = None) -> None:
        self.server = server or HonestServer(b"court")
        self.anchor = self.server.anchor
        self.bob = self.server.add_member("bob", CONTRIBUTOR)
        self.carol = self.server.add_member("carol", READER)
        for _ in range(3):
            self.server.commit(self.server.alice)
            self.server.commit(self.bob)
        self.server.cut()
        self.log = self.server.realm_log.log

    def every_accusation(self) -> list[Record]:
        """All that could be said of an honest history: each leaf, each two heads and epochs."""
        server = self.server
        sizes = range(1, len(server.realm_log.leaves) + 1)
        headers = self.headers(server)
        heads = [(size, self.head(server, size=size)) for size in sizes]
        anchored = [self.anchored(cut) for cut in server.epochs]
        found: list[Record] = [self.org_log(server)]
        found += [self.transition(server, size - 1) for size in sizes]
        for size, one in heads:
            for other_size, other in heads:
                found += split_views(one, size, other, other_size, headers)
        for state in anchored:
            for size, head in heads:
                signed = head.head[0]
                found.append(BrokenPromise(promise=head, anchored=state))
                if size == len(headers):
                    found.append(StaleAnswer(log=self.log, head=signed, anchored=state))
            found += [BrokenPromise(promise=of_anchored(one), anchored=state) for one in anchored]
        return found

    def anchored(self, cut: CutEpoch, log: LogId | None = None) -> AnchoredState:
        logs = (log or self.log,)
        return anchored_states(open_cut(cut, self.anchor, logs), logs)[0]

    def headers(self, server: HonestServer, log: LogId | None = None) -> list[LeafHeader]:
        return [leaf.header for leaf in server.simulated(log or self.log).leaves]

    def head(self, server: HonestServer, **lies: object) -> Commitment:
        return of_head(self.log, server.head(self.log, **lies)[1])  # type: ignore[arg-type]

    def org_log(self, server: HonestServer) -> OrgLog:
        log = server.org_log.log
        return OrgLog(
            commitment=of_head(log, server.head(log)[1]), leaves=tuple(server.org_log.leaves)
        )

    def placed(self, server: HonestServer, index: int) -> PlacedLeaf:
        leaves = server.realm_log.leaves
        place = place_of(self.headers(server), index, len(leaves))
        return PlacedLeaf(place=place, body=leaves[index].body)

    def transition(
        self,
        server: HonestServer,
        index: int,
        *,
        objects: dict | None = None,  # type: ignore[type-arg]
    ) -> RealmTransition:
        """Everything about one leaf. `objects`: states right before it, if it is not the last."""
        before = server.realm_states[index]
        leaf = server.realm_log.leaves[index]
        states = server.objects_before(index) if objects is None else objects
        org = server.org_states[max(leaf.header.org_size, 1) - 1]
        size = len(server.realm_log.leaves)
        headers = self.headers(server)
        after = (place_of(headers, index + 1, size),) if index + 1 < size else ()
        return RealmTransition(
            org=self.org_log(server),
            commitment=self.head(server),
            leaf=self.placed(server, index),
            openings=open_touched(leaf, before, states.get, org=org),
            before=(place_of(headers, index - 1, size),) if index else (),
            after=after,
        )

    # Lies, one per type of evidence

    def guilty(self) -> dict[str, Record]:
        return {
            "P1 same size": self._same_size(),
            "P1 other prefix": self._split()[0],
            "P1 refusal": self._split_in_refusal(),
            "P1 other map": self._other_map(),
            "P2 head": self._forgotten(),
            "P2 epoch": self._rolled_back(),
            "P3": self._stale(),
            "P4 role": self._unauthorized(),
            "P4 signature": self._forged(),
            "P4 twice": self._repeated(),
            "P4 malformed": self._malformed(),
            "P4 unknown kind": self._append(self.server.fork(), b"x", 9),
            "P4 stamps": self._append(self.server.fork(), b"x", STAMPS),
            "P4 gap": self._gap(),
            "P4 no organization": self._no_organization(),
            "P4 time": self._time_went_back(),
            "P4 key": self._old_key(),
            "P4 version": self._lost_update(),
            "P4 certificate": self._old_certificate(),
            "P4 outdated": self._outdated(),
            "P4 org": self._forged_member(),
            "P5 head": self._wrong_map_in_head(),
            "P5 leaf": self._wrong_map_in_leaf(),
            "P5 org": self._wrong_org_map(),
            "P6": self._false_refusal(chained=False),
            "P6 chained": self._false_refusal(chained=True),
            "P7": self._two_statements(),
            "P8": self._chain_fork(),
            "P9": self._two_devices(),
        }

    def twins(self) -> tuple[HonestServer, HonestServer]:
        one, two = self.server.fork(), self.server.fork()
        one.commit(one.alice)
        two.commit(two.alice)
        return one, two

    def _same_size(self) -> SplitView:
        one, two = self.twins()
        return SplitView(first=self.head(one), second=self.head(two))

    def _split(self) -> list[SplitView]:
        one, two = self.twins()
        two.commit(two.alice)
        sizes = len(one.realm_log.leaves), len(two.realm_log.leaves)
        return split_views(self.head(one), sizes[0], self.head(two), sizes[1], self.headers(two))

    def _split_in_refusal(self) -> SplitView:
        """A refusal names a state as well."""
        one, two = self.twins()
        refusal = self.refusal_of(one, Hash(bytes(32)), 9, 0).refusal
        return SplitView(first=Commitment(log=self.log, refusal=(refusal,)), second=self.head(two))

    def _other_map(self) -> SplitView:
        one = self.server.fork()
        lie = self.head(one, map_root=Hash(bytes(32)))
        size = len(one.realm_log.leaves)
        one.commit(one.alice)
        place = place_of(self.headers(one), size, size + 1)
        return SplitView(first=lie, second=self.head(one), leaf=(place,))

    def _forgotten(self) -> BrokenPromise:
        one = self.server.fork()
        one.commit(one.alice)
        promise = self.head(one)
        return BrokenPromise(
            promise=promise, anchored=self.anchored(one.cut(realm=one.realm_log.states[-2]))
        )

    def _rolled_back(self) -> BrokenPromise:
        one = self.server.fork()
        earlier = one.epochs[-1]
        later = one.cut(realm=one.realm_log.states[-3])
        return BrokenPromise(
            promise=of_anchored(self.anchored(earlier)), anchored=self.anchored(later)
        )

    def _stale(self) -> StaleAnswer:
        one = self.server.fork()
        size = len(one.realm_log.leaves)
        one.commit(one.alice)
        cut = one.cut()
        head = one.head(self.log, size=size)[1]
        return StaleAnswer(log=self.log, head=head, anchored=self.anchored(cut))

    def _append(self, server: HonestServer, body: bytes, kind: int = COMMIT) -> RealmTransition:
        """Put anything into the log, with a state that did not change."""
        leaf = server.next_realm_leaf(kind, body)
        return self._append_leaf(server, leaf)

    def _append_leaf(self, server: HonestServer, leaf: Leaf) -> RealmTransition:
        state = server.realm_state
        after = replace(state, position=state.position.after(leaf))
        server.take(leaf, Transition(state=after))
        return self.transition(server, leaf.header.index)

    def _unauthorized(self) -> RealmTransition:
        one = self.server.fork()
        return self._append(one, one.commit_body(self.carol, one.new_record()))

    def _forged(self) -> RealmTransition:
        one = self.server.fork()
        impostor = replace(self.bob, secrets=replace(self.bob.secrets, sign_seed=bytes(range(32))))
        return self._append(one, one.commit_body(impostor, one.new_record()))

    def _repeated(self) -> RealmTransition:
        one = self.server.fork()
        index = one.commit(one.alice)
        guilty = self._append(one, one.realm_log.leaves[index].body)
        return replace(guilty, earlier=(self.placed(one, index),))

    def _malformed(self) -> RealmTransition:
        return self._append(self.server.fork(), b"\x93\x01\x02\x03")

    def _gap(self) -> RealmTransition:
        """A record that does not chain to the device's one before (A32)."""
        one = self.server.fork()
        index = one.commit(one.alice)
        leaf = one.next_realm_leaf(COMMIT, one.commit_body(one.alice, one.new_record()))
        other = self.server.fork()
        other.commit(other.alice)
        body = other.commit_body(other.alice, one.new_record())
        guilty = self._append(one, body)
        assert leaf.header.index == guilty.leaf.place.index
        return replace(guilty, earlier=(self.placed(one, index),))

    def _no_organization(self) -> RealmTransition:
        one = self.server.fork()
        leaf = one.next_realm_leaf(COMMIT, one.commit_body(one.alice, one.new_record()))
        lie = replace(leaf, header=replace(leaf.header, org_size=0))
        guilty = self._append_leaf(one, lie)
        return guilty

    def _time_went_back(self) -> RealmTransition:
        one = self.server.fork()
        leaf = one.next_realm_leaf(COMMIT, one.commit_body(one.alice, one.new_record()))
        early = one.realm_log.leaves[-1].header.time_ms
        return self._append_leaf(one, replace(leaf, header=replace(leaf.header, time_ms=early)))

    def _old_key(self) -> RealmTransition:
        one = self.server.fork()
        one.rotate(one.alice)
        return self._append(one, one.commit_body(one.alice, one.new_record(), key_index=1))

    def _lost_update(self) -> RealmTransition:
        one = self.server.fork()
        object = sorted(one.objects)[0]
        old = one.new_record(object)
        one.commit(self.bob, object)
        return self._append(one, one.commit_body(one.alice, old))

    def _old_certificate(self) -> RealmTransition:
        one = self.server.fork()
        content = Role(user=self.carol.secrets.user, role=CONTRIBUTOR)
        body = one.certificate(one.alice, self.log, content, replaces=NO_HASH)
        return self._append(one, body, CERTIFICATE)

    def _outdated(self) -> OutdatedLeaf:
        one = self.server.fork()
        one.add_device("dave")
        cut = one.cut()
        leaf = one.next_realm_leaf(COMMIT, one.commit_body(one.alice, one.new_record()))
        small = one.realm_log.states[-1].org_size
        self._append_leaf(one, replace(leaf, header=replace(leaf.header, org_size=small)))
        place = place_of(self.headers(one), leaf.header.index, leaf.header.index + 1)
        return OutdatedLeaf(
            commitment=self.head(one),
            leaf=place,
            realm=self.anchored(cut),
            org=self.anchored(cut, one.org_log.log),
        )

    def _forged_member(self) -> OrgLog:
        """A device that nobody added, in the org log (A03)."""
        one = self.server.fork()
        body = one.org_log.leaves[-1].body
        return self._with_org_leaf(one, body)

    def _with_org_leaf(self, server: HonestServer, body: bytes) -> OrgLog:
        size = len(server.org_log.leaves)
        old = server.org_log.leaves[-1].header
        template = server.next_realm_leaf(CERTIFICATE, body)
        header = replace(
            template.header, index=size, org_size=size + 1, map_root=server.org.map.root()
        )
        assert header.time_ms > old.time_ms
        leaf = Leaf(header=header, body=body)
        position = server.org.position.after(leaf)
        lie = server.head(
            server.org_log.log,
            size=size,
        )[0]
        signed = server.sign(
            replace(lie, size=size + 1, log_root=position.root(), org_size=size + 1)
        )
        leaves = (*server.org_log.leaves, leaf)
        return OrgLog(commitment=of_head(server.org_log.log, signed), leaves=leaves)

    def _wrong_map_in_head(self) -> RealmTransition:
        one = self.server.fork()
        index = one.commit(one.alice)
        honest = self.transition(one, index)
        return replace(honest, commitment=self.head(one, map_root=EMPTY_MAP))

    def _wrong_map_in_leaf(self) -> RealmTransition:
        one = self.server.fork()
        index = one.commit(one.alice)
        leaf = one.next_realm_leaf(COMMIT, one.commit_body(one.alice, one.new_record()))
        lie = replace(leaf, header=replace(leaf.header, map_root=EMPTY_MAP))
        self._append_leaf(one, lie)
        return self.transition(one, index)

    def _wrong_org_map(self) -> OrgLog:
        one = self.server.fork()
        honest = self.org_log(one)
        lie = one.head(one.org_log.log, map_root=EMPTY_MAP)[1]
        return replace(honest, commitment=of_head(one.org_log.log, lie))

    def _false_refusal(self, *, chained: bool) -> FalseRefusal:
        one = self.server.fork()
        index = one.commit(self.bob)
        if chained:
            one.commit(self.bob)
        name, header = author_of(one.realm_log.leaves[index])
        return self.refusal_of(one, name, header.sequence, index + chained)

    def refusal_of(
        self, server: HonestServer, record: Hash, sequence: int, index: int
    ) -> FalseRefusal:
        state: LogState = server.realm_log.states[-1]
        refusal = Refusal(
            context=self.anchor.context(self.log),
            device=self.bob.secrets.device,
            sequence=sequence,
            record=record,
            outcome=6,
            size=state.size,
            log_root=state.log_root,
            map_root=state.map_root,
            time_ms=server.tick(),
            conflicts=(),
        )
        placed = self.placed(server, index)
        return FalseRefusal(
            log=self.log,
            refusal=sign_refusal(refusal, server.head_key),
            commitment=self.head(server),
            leaf=placed.place,
            body=placed.body,
        )

    def _two_statements(self) -> TwoStatements:
        one, two = self.twins()
        return TwoStatements(first=one.cut().statement, second=two.cut().statement)

    def _chain_fork(self) -> ChainForkEvidence:
        validators = self.server.validators
        blocks = [
            sign_header(make_header(5, validators, data=data), validators)
            for data in (b"one", b"two")
        ]
        return ChainForkEvidence(blocks=tuple(blocks))

    def _two_devices(self) -> DeviceEquivocation:
        one, two = self.twins()
        records = [
            DeviceRecord(kind=COMMIT, body=twin.commit_body(self.bob, twin.new_record()))
            for twin in (one, two)
        ]
        return self.equivocation(self.bob, records)

    def equivocation(self, member: Member, records: Sequence[DeviceRecord]) -> DeviceEquivocation:
        return DeviceEquivocation(
            org=self.org_log(self.server),
            log=self.log,
            device=member.secrets.device,
            first=records[0],
            second=records[1],
        )

    # The same shapes from an honest server

    def innocent(self) -> dict[str, Record]:
        one = self.server.fork()
        size = len(one.realm_log.leaves)
        early = self.head(one)
        early_head = one.head(self.log)[1]
        first, second = one.epochs[-1], one.cut()
        one.commit(one.alice)
        one.commit(self.bob)
        one.stamp()
        late = self.head(one)
        headers = self.headers(one)
        third = one.cut()
        prefix, map_at = split_views(early, size, late, size + 3, headers)
        _, header = author_of(one.realm_log.leaves[size])
        fresh = of_head(self.log, one.head(self.log)[1])
        found: dict[str, Record] = {
            "P1 prefix": prefix,
            "P1 map": map_at,
            "P1 same": SplitView(first=early, second=early),
            "P1 later head": SplitView(first=late, second=fresh),
            "P2 kept": BrokenPromise(promise=early, anchored=self.anchored(third)),
            "P2 not due": BrokenPromise(promise=fresh, anchored=self.anchored(first)),
            "P2 epochs": BrokenPromise(
                promise=of_anchored(self.anchored(second)), anchored=self.anchored(third)
            ),
            "P3 before the cut": StaleAnswer(
                log=self.log, head=early_head, anchored=self.anchored(third)
            ),
            "P4 current": OutdatedLeaf(
                commitment=late,
                leaf=place_of(headers, size, size + 3),
                realm=self.anchored(second),
                org=self.anchored(second, one.org_log.log),
            ),
            "P4 org": self.org_log(one),
            "P6 other record": self.refusal_of(one, Hash(bytes(32)), header.sequence, size),
            "P7 signed twice": TwoStatements(
                first=second.statement, second=one.sign_again(second.statement)
            ),
            "P7 two epochs": TwoStatements(first=second.statement, second=third.statement),
            "P9 after a refusal": self.equivocation(
                self.bob,
                [
                    DeviceRecord(kind=COMMIT, body=one.commit_body(self.bob, one.new_record()))
                    for _ in range(2)
                ],
            ),
        }
        for index in range(len(one.realm_log.leaves)):
            found[f"P4 leaf {index}"] = self.transition(one, index)
        found["P4 taken over"] = self._taken_over()
        return found

    def _taken_over(self) -> RealmTransition:
        """Its only owner is revoked; of those who are left bob has the highest role (A20)."""
        one = self.server.fork()
        admin = one.add_device("dora", profile=ADMIN)
        ended = UserRevoked(user=one.alice.secrets.user)
        one.append_org(one.certificate(admin, one.org_log.log, ended))
        owner = Role(user=self.bob.secrets.user, role=OWNER)
        return self.transition(
            one, one.append_realm(CERTIFICATE, one.certificate(self.bob, self.log, owner))
        )

    # What an accuser may get wrong

    def careless(self) -> dict[str, Record]:
        """Accusations with a part missing or of something else; all of a guilty server."""
        split, other = self._same_size(), self._split()[0]
        broken, stale, false = self._forgotten(), self._stale(), self._false_refusal(chained=False)
        guilty, outdated, twice = self._unauthorized(), self._outdated(), self._repeated()
        devices, org = self._two_devices(), self._forged_member()
        log = self.server.org_log.log
        foreign = of_head(log, self.server.head(log)[1])
        one = self.server.fork()
        by_carol = self._append(one, one.commit_body(self.carol, one.new_record()))
        bodiless = (replace(org.leaves[0], body=b"x"), *org.leaves[1:])
        first = self.placed(self.server, 0)
        return {
            "two logs": replace(split, second=foreign),
            "wrong order": SplitView(first=other.second, second=other.first),
            "neither root nor leaf": replace(other, root=(), consistency=()),
            "wrong consistency": replace(other, consistency=other.consistency[:-1]),
            "promise of another log": replace(broken, promise=foreign),
            "stale in another log": replace(
                stale, anchored=self.anchored(self.server.epochs[-1], log)
            ),
            "refusal with another body": replace(false, body=b"x"),
            "outdated by another log": replace(outdated, org=outdated.realm),
            "another body": replace(guilty, leaf=replace(guilty.leaf, body=b"x")),
            "short org log": replace(guilty, org=replace(guilty.org, leaves=org.leaves[:2])),
            "org log of a realm": replace(guilty, org=replace(guilty.org, commitment=other.first)),
            "another org body": replace(org, leaves=bodiless),
            "no openings": replace(guilty, openings=()),
            "earlier is later": replace(twice, earlier=(twice.leaf,)),
            "earlier of another device": replace(by_carol, earlier=(self.placed(one, 0),)),
            "before is elsewhere": replace(guilty, before=(first.place,)),
            "records of stamps": replace(devices, first=replace(devices.first, kind=STAMPS)),
            "another device": replace(devices, device=self.carol.secrets.device),
        }
