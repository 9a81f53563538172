"""Test vectors of records and whole logs, good and bad, made by the reference alone.

Data flow: fixed inputs -> `tests.support.reference` -> dictionaries -> tests/vectors/*.json.

One small organization: alice (administrator, owner of the realm) and bob (contributor). Secrets are
SHA-256 of their names, so that anybody can make the vectors again.
"""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from tests.support import reference as ref
from tests.support.reference import ZERO, Plain
from tests.support.vector_formats import DEVICE, OBJECT, ORG, REALM, Case, Vectors, bad, flip

CHAIN = b"parsec-test"
HEAD_SEED, CO_SEED, ROOT_SEED = (ref.sha256(one) for one in (b"head", b"co", b"root"))
ALICE, BOB = ref.sha256(b"alice")[:16], ref.sha256(b"bob")[:16]
ALICE_DEVICE, BOB_DEVICE = ref.sha256(b"alice 1")[:16], ref.sha256(b"bob 1")[:16]
CAROL, CAROL_DEVICE = ref.sha256(b"carol")[:16], ref.sha256(b"carol 1")[:16]
SEEDS = {
    bytes(16): ROOT_SEED,
    ALICE_DEVICE: ref.sha256(ALICE),
    BOB_DEVICE: ref.sha256(BOB),
    CAROL_DEVICE: ref.sha256(CAROL),
}
CO_KEY = MLDSA44PrivateKey.from_seed_bytes(CO_SEED).public_key().public_bytes_raw()
SERVER_LOG = ref.server_log_id(b"server", ref.public_key(HEAD_SEED), CO_KEY)
UNSEEN: Plain = [0, ZERO, ZERO, 0, ZERO, 0, ZERO]
CERTIFICATE, COMMIT, STAMPS = 1, 2, 3
GENESIS, USER, DEVICE_KIND, REGISTERED, CREATED, ROLE, ROTATION = range(1, 8)
ROLE_REGISTERED = 11
FIRST_TIME = 1_800_000_000_000


def filler(name: bytes, size: int) -> bytes:
    """Bytes without meaning, where a vector needs only their length."""
    return b"".join(ref.sha256(name + bytes([part])) for part in range(-(-size // 32)))[:size]


def context(genesis: bytes, log: bytes) -> Plain:
    return [CHAIN, genesis, SERVER_LOG, ORG, log]


class Log:
    """One log that grows leaf by leaf; every signer's chain goes on."""

    def __init__(self, log: bytes, genesis: bytes) -> None:
        self.log, self.genesis = log, genesis
        self.leaves: list[bytes] = []
        self.hashes: list[bytes] = []
        self.entries: dict[bytes, bytes] = {}
        self.chains: dict[bytes, tuple[int, bytes]] = {}
        self.histories: dict[bytes, list[bytes]] = {}

    def header(self, device: bytes) -> Plain:
        sequence, previous = self.chains.get(device, (0, ZERO))
        number = sequence.to_bytes(1, "big")
        nonce = ref.sha256(b"nonce" + self.log + device + number)
        place = context(self.genesis, self.log)
        return [place, device, sequence, previous, bytes(15) + b"\x07", nonce, UNSEEN]

    def certificate(self, device: bytes, kind: int, replaces: bytes, content: Plain) -> bytes:
        return ref.certificate(self.header(device), kind, replaces, content, SEEDS[device])

    def commit(self, device: bytes, objects: list[Plain], key_index: int = 1) -> bytes:
        return ref.commit(self.header(device), key_index, [], objects, SEEDS[device])

    def leaf(self, kind: int, body: bytes, org_size: int, **changes: Any) -> bytes:
        """The next leaf, or one that differs from it in a field of its header."""
        size = len(self.leaves)
        header = ref.leaf_header(
            changes.get("index", size),
            kind,
            changes.get("time", FIRST_TIME + 1000 * size),
            org_size,
            changes.get("map_root", ref.map_root(self.entries)),
            changes.get("named_body", body),
        )
        return ref.pack([header, body])

    def append(self, device: bytes, kind: int, body: bytes, org_size: int) -> None:
        leaf = self.leaf(kind, body, org_size)
        self.leaves.append(leaf)
        header = ref.unpack(leaf)
        assert isinstance(header, list)
        self.hashes.append(ref.leaf_hash(header[0]))
        if device:
            record = ref.unpack(body)
            assert isinstance(record, list)
            name = _signed_hash(body, record)
            self.chains[device] = (self.chains.get(device, (0, ZERO))[0] + 1, name)

    def put(self, kind: bytes, subject: bytes, value: Plain) -> None:
        self.entries[ref.map_key(kind, subject)] = ref.map_value(value)

    def put_object(self, body: bytes, record: list[Plain]) -> list[Plain]:
        """The object's state after a commit that was just appended."""
        parts = ref.unpack(body)
        assert isinstance(parts, list)
        name = _signed_hash(body, parts)
        object_id, version = record[0], record[1]
        assert isinstance(object_id, bytes)
        history = self.histories.setdefault(object_id, [])
        history.append(ref.object_record_hash(name, [*record]))
        index = len(self.leaves) - 1
        flags = record[6]
        state: list[Plain] = [version, index, history[-1], len(history), ref.history(history)]
        state.append(flags)
        self.put(b"object", object_id, state)
        return state

    def summary(self) -> Case:
        return {
            "leaves": [leaf.hex() for leaf in self.leaves],
            "leaf_hashes": [one.hex() for one in self.hashes],
            "log_root": ref.tree(self.hashes).hex(),
            "map_root": ref.map_root(self.entries).hex(),
        }


def _signed_hash(body: bytes, parts: list[Plain]) -> bytes:
    """Name of a certificate: its whole body; of a commit: record and signature."""
    if len(parts) == 2:
        return ref.tagged("header", body)
    record, signature = parts[0], parts[1]
    assert isinstance(record, bytes)
    assert isinstance(signature, bytes)
    return ref.commit_name(record, signature)


def user(user_id: bytes, name: bytes, profile: int) -> Plain:
    return [user_id, name, name + b"@acme.example", profile, 1, filler(b"box" + name, 1216)]


def device(device_id: bytes, user_id: bytes) -> Plain:
    key = ref.public_key(SEEDS[device_id])
    return [device_id, user_id, b"laptop", key, filler(b"box" + device_id, 1216), 1, b""]


def org_log() -> Log:
    """Genesis, alice and her device (by the root key), bob and his device (by alice)."""
    log = Log(ORG, ZERO)
    keys: list[Plain] = [ref.public_key(ROOT_SEED), ref.public_key(HEAD_SEED), CO_KEY]
    genesis: Plain = [ORG, b"acme", *keys, 1]
    body = log.certificate(bytes(16), GENESIS, ZERO, genesis)
    log.append(bytes(16), CERTIFICATE, body, 0)
    log.put(b"org", ORG, genesis)
    log.genesis = ref.tagged("genesis", body)
    people: list[tuple[bytes, int, bytes, bytes, Plain]] = [
        (bytes(16), USER, b"user", ALICE, user(ALICE, b"alice", 1)),
        (bytes(16), DEVICE_KIND, b"device", ALICE_DEVICE, device(ALICE_DEVICE, ALICE)),
        (ALICE_DEVICE, USER, b"user", BOB, user(BOB, b"bob", 2)),
        (ALICE_DEVICE, DEVICE_KIND, b"device", BOB_DEVICE, device(BOB_DEVICE, BOB)),
    ]
    for author, kind, name, subject, content in people:
        body = log.certificate(author, kind, ZERO, content)
        log.append(author, CERTIFICATE, body, len(log.leaves))
        log.put(name, subject, content)
    return log


def object_record(version: int, base: bytes, *, deleted: bool = False) -> list[Plain]:
    payload = ZERO if deleted else ref.tagged("payload", bytes([version]))
    blocks = ZERO if deleted else ref.tree([])
    return [OBJECT, version, base, payload, 0 if deleted else 300, blocks, int(deleted)]


def logs() -> tuple[Log, Log, list[list[Plain]]]:
    """Org log, realm log and the states of OBJECT after each of its three versions."""
    org = org_log()
    realm = Log(REALM, org.genesis)
    created: Plain = [REALM, ALICE]
    creation = realm.certificate(ALICE_DEVICE, CREATED, ZERO, created)
    registered: Plain = [REALM, ref.tagged("header", creation)]
    body = org.certificate(ALICE_DEVICE, REGISTERED, ZERO, registered)
    org.append(ALICE_DEVICE, CERTIFICATE, body, len(org.leaves))
    org.put(b"realm", REALM, registered)
    org_size = len(org.leaves)
    realm.append(ALICE_DEVICE, CERTIFICATE, creation, org_size)
    realm.put(b"created", REALM, created)
    rotation: list[Plain] = [
        1,
        filler(b"commitment", 32),
        b"",
        filler(b"boxes", 32),
        b"sealed name",
    ]
    body = realm.certificate(ALICE_DEVICE, ROTATION, ZERO, rotation)
    realm.append(ALICE_DEVICE, CERTIFICATE, body, org_size)
    realm.put(b"key", b"", [1, rotation[1], rotation[3], 1])
    role: Plain = [BOB, 3]
    body = realm.certificate(ALICE_DEVICE, ROLE, ZERO, role)
    register_role(org, ALICE_DEVICE, body)
    org_size = len(org.leaves)
    realm.append(ALICE_DEVICE, CERTIFICATE, body, org_size)
    realm.put(b"role", BOB, role)
    states: list[list[Plain]] = []
    for version, author in ((1, ALICE_DEVICE), (2, BOB_DEVICE), (3, BOB_DEVICE)):
        base = states[-1][2] if states else ZERO
        assert isinstance(base, bytes)
        record = object_record(version, base, deleted=version == 3)
        body = realm.commit(author, [record])
        realm.append(author, COMMIT, body, org_size)
        states.append(realm.put_object(body, record))
    realm.append(b"", STAMPS, ref.pack([[ref.tagged("stamp", b"secret")]]), org_size)
    return org, realm, states


def register_role(org: Log, author: bytes, role: bytes) -> None:
    """In the org log, before the role's leaf in the realm log."""
    content: Plain = [ref.tagged("header", role)]
    body = org.certificate(author, ROLE_REGISTERED, ZERO, content)
    org.append(author, CERTIFICATE, body, len(org.leaves))
    org.put(b"role", ref.tagged("header", role), content)


def log_vectors() -> Vectors:
    org, realm, states = logs()
    return {
        "genesis": [{"hash": org.genesis.hex()}],
        "org": [org.summary()],
        "realm": [realm.summary()],
        "object": [{"id": OBJECT.hex(), "states": [ref.pack([*one]).hex() for one in states]}],
        "bad_realm_leaf": bad_realm_leaves(org, realm, states),
    }


def bad_realm_leaves(org: Log, realm: Log, states: list[list[Plain]]) -> list[Case]:
    """Leaves that a lying server or device might append after the honest ones."""
    org_size, last = len(org.leaves), states[-1][2]
    assert isinstance(last, bytes)
    fourth = object_record(4, last)
    young = [filler(b"young", 16), *object_record(1, ZERO)[1:]]
    body = realm.commit(BOB_DEVICE, [young])
    again_gone = object_record(4, last, deleted=True)
    stale = object_record(3, states[1][2])  # type: ignore[arg-type]
    header = realm.header(BOB_DEVICE)
    assert isinstance(header, list)
    parts = ref.unpack(body)
    assert isinstance(parts, list)
    other_place = [context(ZERO, REALM), *header[1:]]
    by_alice = [header[0], ALICE_DEVICE, *header[2:]]
    skipped = [*header[:2], 9, *header[3:]]
    seed = SEEDS[BOB_DEVICE]
    to_owner = realm.certificate(
        BOB_DEVICE, ROLE, realm.entries[ref.map_key(b"role", BOB)], [BOB, 5]
    )
    again = realm.certificate(ALICE_DEVICE, ROLE, ZERO, [BOB, 4])
    beyond = realm.certificate(
        ALICE_DEVICE, ROLE, realm.entries[ref.map_key(b"role", BOB)], [BOB, 6]
    )
    secret = realm.certificate(
        ALICE_DEVICE, ROLE, realm.entries[ref.map_key(b"role", BOB)], [BOB, 4]
    )
    cases: list[tuple[str, str, int, bytes, dict[str, Any]]] = [
        ("index-repeated", "ProofError", COMMIT, body, {"index": 0}),
        ("body-not-the-named-one", "ProofError", COMMIT, body, {"named_body": b"x"}),
        ("wrong-map-root", "ProofError", COMMIT, body, {"map_root": ZERO}),
        ("time-not-after", "TrustchainError", COMMIT, body, {"time": FIRST_TIME}),
        ("unknown-kind", "TrustchainError", 9, body, {}),
        ("stale-version", "CommitConflictError", COMMIT, realm.commit(BOB_DEVICE, [stale]), {}),
        ("old-key", "KeyIndexError", COMMIT, realm.commit(BOB_DEVICE, [young], 0), {}),
        ("after-its-tombstone", "DeletedError", COMMIT, realm.commit(BOB_DEVICE, [fourth]), {}),
        ("deleted-again", "DeletedError", COMMIT, realm.commit(BOB_DEVICE, [again_gone]), {}),
        (
            "signature-changed",
            "SignatureError",
            COMMIT,
            ref.pack([parts[0], flip(_bytes(parts[1])), parts[2]]),
            {},
        ),
        (
            "objects-not-the-signed-ones",
            "DataError",
            COMMIT,
            ref.pack([parts[0], parts[1], [stale]]),
            {},
        ),
        (
            "other-context",
            "SignatureError",
            COMMIT,
            ref.commit(other_place, 1, [], [young], seed),
            {},
        ),
        ("other-author", "SignatureError", COMMIT, ref.commit(by_alice, 1, [], [young], seed), {}),
        (
            "sequence-skipped",
            "DeviceChainError",
            COMMIT,
            ref.commit(skipped, 1, [], [young], seed),
            {},
        ),
        ("replayed-commit", "DeviceChainError", COMMIT, _body(realm.leaves[4]), {}),
        ("replayed-role", "ReplacedError", CERTIFICATE, again, {}),
        ("role-not-registered", "TrustchainError", CERTIFICATE, secret, {}),
        ("no-such-role", "TrustchainError", CERTIFICATE, beyond, {}),
        ("promoting-oneself", "NotAllowedError", CERTIFICATE, to_owner, {}),
        ("not-a-record", "DataError", COMMIT, b"\x00", {}),
    ]
    return [
        bad(name, error, leaf=realm.leaf(kind, one, org_size, **changes).hex())
        for name, error, kind, one, changes in cases
    ]


def _bytes(value: Plain) -> bytes:
    assert isinstance(value, bytes)
    return value


def _body(leaf: bytes) -> bytes:
    parts = ref.unpack(leaf)
    assert isinstance(parts, list)
    return _bytes(parts[1])


def signed_records() -> Vectors:
    """Head and refusal of the realm log, and a signed request."""
    org, realm, states = logs()
    place = context(org.genesis, REALM)
    roots: list[Plain] = [ref.tree(realm.hashes), ref.map_root(realm.entries)]
    nonce = ref.sha256(b"nonce")
    size = len(realm.leaves)
    head = ref.pack([place, size, *roots, len(org.leaves), 2, FIRST_TIME + 9000, nonce])
    record = ref.sha256(b"refused record")
    conflict: Plain = [[OBJECT, [[*states[-1]]]]]
    refusal = ref.pack([place, BOB_DEVICE, 2, record, 6, size, *roots, FIRST_TIME + 9001, conflict])
    body = ref.sha256(b"body")
    request = ref.pack([SERVER_LOG, ORG, bytes(16), nonce, 5, b"POST", b"/v1/realm/commit", body])
    names = {"head": head, "refusal": refusal, "request": request}
    vectors: Vectors = {
        name: [
            {
                "record": one.hex(),
                "signature": ref.sign(f"{name}-signature", one, HEAD_SEED).hex(),
            }
        ]
        for name, one in names.items()
    }
    vectors["server"] = [{"head_key": ref.public_key(HEAD_SEED).hex(), "nonce": nonce.hex()}]
    vectors["refused"] = [{"record": record.hex()}]
    return vectors


def epochs() -> Vectors:
    """Three epochs of one server with one organization; the realm grows in the second and third."""
    org, realm, _ = logs()
    org_size = len(org.leaves)
    chain: list[bytes] = []
    cases: list[Case] = []
    for epoch, size in enumerate((5, 6, 7)):
        states = [
            ref.log_state(
                ORG,
                org_size,
                ref.tree(org.hashes),
                ref.map_root(org.entries),
                org_size,
            ),
            ref.log_state(
                REALM,
                size,
                ref.tree(realm.hashes[:size]),
                filler(b"map", 32),
                org_size,
            ),
        ]
        logs_map = ref.org_entries(ORG, states)
        org_root = ref.map_root(logs_map)
        server = ref.server_entries({ORG: org_root, ref.sha256(b"other"): ZERO})
        salt = ref.sha256(b"salt" + bytes([epoch]))
        leaf = ref.epoch_leaf(epoch, ref.map_root(server), salt)
        chain.append(leaf)
        root = ref.tree(chain)
        openings: list[Plain] = [
            [[[*state]], ref.map_opening(logs_map, ref.tagged("log-key", ORG, _bytes(state[0])))]
            for state in states
        ]
        absent = ref.tagged("log-key", ORG, DEVICE * 2)
        openings.append([[], ref.map_opening(logs_map, absent)])
        statement = ref.pack([CHAIN, SERVER_LOG, epoch, leaf, root, FIRST_TIME + epoch])
        cases.append(
            {
                "epoch": epoch,
                "statement": statement.hex(),
                "signature": ref.sign("statement-signature", statement, HEAD_SEED).hex(),
                "opening": ref.pack([epoch, ref.map_root(server), salt]).hex(),
                "org_root": org_root.hex(),
                "org_proof": ref.pack(ref.map_opening(server, ref.tagged("org-key", ORG))).hex(),
                "logs": [ref.pack(one).hex() for one in openings],
                "root": root.hex(),
                "states": [ref.pack([*state]).hex() for state in states],
            }
        )
    return {
        "server": [{"org": ORG.hex(), "realm": REALM.hex(), "absent": (DEVICE * 2).hex()}],
        "good": cases,
        "bad": _bad_epochs(cases),
    }


def _bad_epochs(cases: list[Case]) -> list[Case]:
    """The second epoch, told wrongly."""
    first, second, third = cases
    return [
        bad("epoch-skipped", "ProofError", **third),
        bad("epoch-repeated", "ProofError", **first),
        bad("opening-of-another-epoch", "ProofError", **{**second, "opening": third["opening"]}),
        bad("older-logs", "ProofError", **{**second, "logs": first["logs"]}),
        bad("log-left-out", "ProofError", **{**second, "logs": second["logs"][:2]}),
        bad("other-org-root", "ProofError", **{**second, "org_root": first["org_root"]}),
        bad(
            "logs-exchanged",
            "ProofError",
            **{**second, "logs": [*second["logs"][1::-1], second["logs"][2]]},
        ),
        bad("other-org-proof", "ProofError", **{**second, "org_proof": first["org_proof"]}),
    ]
