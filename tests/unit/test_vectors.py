"""Production against the frozen vectors: good ones hold, bad ones raise the named error.

Data flow: tests/vectors/*.json -> `parsec_fs.protocol` -> equal bytes, or the expected class.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from parsec_fs.protocol import errors, hashing, log_state, realm_state
from parsec_fs.protocol.codec import decode, encode, unpack
from parsec_fs.protocol.commits import Precondition
from parsec_fs.protocol.ids import BlockId, DeviceId, Hash, ObjectId, OrgId, RealmId, ServerLogId
from parsec_fs.protocol.keys import CoVerifyKey, SigningKey, VerifyKey
from parsec_fs.protocol.manifests import decode_manifest, encode_manifest, page_id, page_of
from parsec_fs.protocol.merkle import tree_root, verify_consistency, verify_inclusion
from parsec_fs.protocol.prefix_map import MapProof, PrefixMap, verify_opening
from parsec_fs.protocol.sealing import (
    BoxKey,
    LocalSealer,
    ManifestContext,
    RealmKey,
    block_ref,
    open_block,
    open_manifest,
    padme_size,
    seal_block,
    seal_manifest,
)
from parsec_fs.protocol.statements import (
    ServerRegistration,
    SignedKeyChange,
    SignedStatement,
    verify_statement,
)
from tests.support import vectors

Case = dict[str, Any]
h = bytes.fromhex


def cases(file: str, group: str) -> list[Any]:
    """One parameter per case, named by the case."""
    return [
        pytest.param(one, id=str(one.get("name", number)))
        for number, one in enumerate(vectors.read(file)[group])
    ]


def only(file: str, group: str) -> Case:
    (case,) = vectors.read(file)[group]
    found: Case = case
    return found


def refuses(case: Case, call: Callable[[], object]) -> None:
    """The call raises exactly the class that the case names."""
    homes = (errors, log_state, realm_state)
    expected = next(getattr(one, case["error"]) for one in homes if hasattr(one, case["error"]))
    with pytest.raises(expected) as caught:
        call()
    assert type(caught.value) is expected


def proof_of(case: Case) -> tuple[Hash, ...]:
    return tuple(Hash(h(one)) for one in case["proof"])


def test_vectors_are_what_the_reference_makes() -> None:
    for name, text in vectors.make_all().items():
        assert (vectors.FOLDER / f"{name}.json").read_text() == text, f"{name}.json differs"


def from_readable(value: Any) -> Any:
    if isinstance(value, list):
        return [from_readable(one) for one in value]
    return h(value) if isinstance(value, str) else value


@pytest.mark.parametrize("case", cases("encoding", "good"))
def test_encoding(case: Case) -> None:
    assert unpack(h(case["encoded"])) == from_readable(case["value"])


@pytest.mark.parametrize("case", cases("encoding", "bad"))
def test_bad_encoding(case: Case) -> None:
    refuses(case, lambda: unpack(h(case["encoded"])))


@pytest.mark.parametrize("case", cases("encoding", "bad_precondition"))
def test_bad_record(case: Case) -> None:
    refuses(case, lambda: decode(Precondition, h(case["encoded"])))


@pytest.mark.parametrize("case", cases("hashing", "good"))
def test_hashing(case: Case) -> None:
    function = getattr(hashing, case["function"])
    assert function(*map(h, case["inputs"])) == h(case["output"])


def test_hashing_of_inner_nodes_and_names() -> None:
    inner = only("hashing", "map_inner")
    sides = (h(inner["left"]), h(inner["right"]))
    assert hashing.map_inner(inner["bit"], *sides) == h(inner["output"])
    keyed = only("hashing", "keyed")
    made = hashing.keyed(h(keyed["key"]), keyed["purpose"], h(keyed["data"]))
    assert made == h(keyed["output"])


@pytest.mark.parametrize("case", cases("trees", "roots"))
def test_tree_roots(case: Case) -> None:
    leaves = [hashing.sha256(bytes([one])) for one in range(case["size"])]
    assert tree_root(leaves) == h(case["root"])


def check_inclusion(case: Case) -> None:
    leaf = hashing.sha256(bytes([case["index"]]))
    position = (case["index"], case["size"])
    verify_inclusion(leaf, *position, proof_of(case), expected_root=Hash(h(case["root"])))


def check_consistency(case: Case) -> None:
    old, new = ((case[one], Hash(h(case[f"{one}_root"]))) for one in ("old", "new"))
    verify_consistency(*old, *new, proof_of(case))


@pytest.mark.parametrize("case", cases("trees", "inclusion"))
def test_inclusion(case: Case) -> None:
    check_inclusion(case)


@pytest.mark.parametrize("case", cases("trees", "bad_inclusion"))
def test_bad_inclusion(case: Case) -> None:
    refuses(case, lambda: check_inclusion(case))


@pytest.mark.parametrize("case", cases("trees", "consistency"))
def test_consistency(case: Case) -> None:
    check_consistency(case)


@pytest.mark.parametrize("case", cases("trees", "bad_consistency"))
def test_bad_consistency(case: Case) -> None:
    refuses(case, lambda: check_consistency(case))


@pytest.mark.parametrize("case", cases("state_map", "roots"))
def test_state_map_roots(case: Case) -> None:
    entries = [
        (hashing.map_key(b"object", bytes([one]) * 16), hashing.sha256(bytes([one])))
        for one in range(case["count"])
    ]
    assert PrefixMap().set_many(entries).root() == h(case["root"])


def opened(case: Case) -> Hash | None:
    proof = decode(MapProof, h(case["opening"]))
    return verify_opening(Hash(h(case["key"])), proof, expected_root=Hash(h(case["root"])))


@pytest.mark.parametrize("case", cases("state_map", "good"))
def test_opening(case: Case) -> None:
    value = opened(case)
    assert (value.hex() if value else None) == case["value"]


@pytest.mark.parametrize("case", cases("state_map", "bad"))
def test_bad_opening(case: Case) -> None:
    refuses(case, lambda: opened(case))


def test_signature() -> None:
    good = only("ed25519", "good")
    key = SigningKey(h(good["seed"]))
    assert key.verify_key.raw == h(good["key"])
    assert key.sign(h(good["message"])) == h(good["signature"])
    assert VerifyKey(h(good["key"])).verify(h(good["message"]), h(good["signature"]))


@pytest.mark.parametrize("case", cases("ed25519", "bad_keys"))
def test_bad_key(case: Case) -> None:
    refuses(case, lambda: VerifyKey(h(case["key"])))


@pytest.mark.parametrize("case", cases("ed25519", "bad_signatures"))
def test_bad_signature(case: Case) -> None:
    good = only("ed25519", "good")
    key = VerifyKey(h(good["key"]))
    refuses(case, lambda: key.verify(h(good["message"]), h(case["signature"])))


def manifest_place() -> tuple[RealmKey, ManifestContext]:
    case = only("sealing", "manifest")
    context = ManifestContext(
        org=OrgId(h(case["org"])),
        realm=RealmId(h(case["realm"])),
        object=ObjectId(h(case["object"])),
        version=case["version"],
        author=DeviceId(h(case["author"])),
    )
    return RealmKey(case["key_index"], h(case["key"])), context


def test_sealed_manifest() -> None:
    case = only("sealing", "manifest")
    key, context = manifest_place()
    assert context.encode(key.index) == h(case["context"])
    sealed = seal_manifest(h(case["plain"]), key=key, context=context, salt=h(case["salt"]))
    assert sealed == h(case["sealed"])
    assert open_manifest(sealed, key=key, expected_context=context) == h(case["plain"])


@pytest.mark.parametrize("case", cases("sealing", "bad_manifest"))
def test_bad_manifest_envelope(case: Case) -> None:
    key, context = manifest_place()
    refuses(case, lambda: open_manifest(h(case["sealed"]), key=key, expected_context=context))


def test_sealed_block() -> None:
    case = only("sealing", "block")
    realm, block, key = RealmId(h(case["realm"])), BlockId(h(case["id"])), h(case["key"])
    sealed = seal_block(h(case["plain"]), realm=realm, block_id=block, key=key)
    assert sealed == h(case["sealed"])
    ref = block_ref(sealed, block_id=block, key=key)
    assert ref.digest == h(case["digest"])
    assert open_block(sealed, ref, realm=realm) == h(case["plain"])


@pytest.mark.parametrize("case", cases("sealing", "bad_block"))
def test_bad_block(case: Case) -> None:
    good = only("sealing", "block")
    ref = block_ref(h(good["sealed"]), block_id=BlockId(h(good["id"])), key=h(good["key"]))
    refuses(case, lambda: open_block(h(case["sealed"]), ref, realm=RealmId(h(good["realm"]))))


def test_local_data_and_padding() -> None:
    case = only("sealing", "local")
    sealer, context = LocalSealer(h(case["key"])), h(case["context"])
    sealed = sealer.seal(h(case["plain"]), context=context, salt=h(case["salt"]))
    assert sealed == h(case["sealed"])
    for one in vectors.read("sealing")["padme"]:
        assert padme_size(one["size"]) == one["padded"]


def test_box() -> None:
    case = only("boxes", "good")
    key = BoxKey(h(case["seed"]))
    assert key.public == h(case["public"])
    assert key.open(h(case["box"]), info=h(case["info"])) == h(case["secret"])


@pytest.mark.parametrize("case", cases("boxes", "bad"))
def test_bad_box(case: Case) -> None:
    refuses(case, lambda: BoxKey(h(case["seed"])).open(h(case["box"]), info=h(case["info"])))


@pytest.mark.parametrize("case", cases("manifests", "good"))
def test_manifest(case: Case) -> None:
    assert encode_manifest(decode_manifest(h(case["encoded"]))) == h(case["encoded"])


@pytest.mark.parametrize("case", cases("manifests", "bad"))
def test_bad_manifest(case: Case) -> None:
    refuses(case, lambda: decode_manifest(h(case["encoded"])))


def test_pages() -> None:
    for one in vectors.read("manifests")["page_of_name"]:
        assert page_of(h(one["name"]), h(one["key"]), one["bits"]) == one["page"]
    for one in vectors.read("manifests")["page_id"]:
        assert page_id(h(one["key"]), one["bits"], one["page"]) == h(one["id"])


def check_statement(case: Case) -> None:
    server = only("statements", "server")
    signed = SignedStatement(
        statement=h(case["statement"]),
        signature=h(case["signature"]),
        co_signature=h(case["co_signature"]),
        changes=tuple(
            SignedKeyChange(**{field: h(value) for field, value in one.items()})
            for one in case.get("changes", [])
        ),
    )
    verify_statement(
        signed,
        expected_chain_id=h(server["chain_id"]),
        expected_server_log=ServerLogId(Hash(h(server["server_log"]))),
        head_key=VerifyKey(h(server["head_key"])),
        co_key=CoVerifyKey(h(server["co_key"])),
    )
    assert decode(SignedStatement, encode(signed)) == signed


@pytest.mark.parametrize("group", ["good", "changed"])
def test_statement(group: str) -> None:
    check_statement(only("statements", group))


@pytest.mark.parametrize("case", cases("statements", "bad") + cases("statements", "bad_change"))
def test_bad_statement(case: Case) -> None:
    refuses(case, lambda: check_statement(case))


def test_registration_follows_from_name_and_keys() -> None:
    server = only("statements", "server")
    registration = ServerRegistration(
        name=h(server["name"]),
        server_log=ServerLogId(Hash(h(server["server_log"]))),
        head_key=h(server["head_key"]),
        co_key=h(server["co_key"]),
        epoch_ms=2000,
        heartbeat_ms=2000,
    )
    assert decode(ServerRegistration, encode(registration)) == registration
    with pytest.raises(errors.DataError):
        replace(registration, name=b"other")
