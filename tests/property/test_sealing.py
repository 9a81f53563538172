"""Sealing against the reference, and every way in which sealed bytes can be wrong.

Data flow: random plaintexts, keys, contexts -> equal ciphertexts; changed ones never open.
"""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.errors import DataError, DecryptionError, ParsecFSError
from parsec_fs.protocol.hashing import keyed, realm_key_commitment
from parsec_fs.protocol.ids import BlockId, DeviceId, ObjectId, OrgId, RealmId
from parsec_fs.protocol.limits import MANIFEST_MAX_SIZE
from parsec_fs.protocol.sealing import (
    LocalSealer,
    ManifestContext,
    RealmKey,
    block_ref,
    open_block,
    open_block_into,
    open_manifest,
    open_secret,
    padme_size,
    realm_key_context,
    seal_block,
    seal_block_into,
    seal_manifest,
    seal_secret,
    sealed_key_index,
)
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS
from tests.support import reference as ref
from tests.support.weakened import WEAK

bytes16 = st.binary(min_size=16, max_size=16)
bytes32 = st.binary(min_size=32, max_size=32)
texts = st.binary(max_size=2000)
contexts = st.builds(
    ManifestContext,
    org=bytes32.map(OrgId),
    realm=bytes32.map(RealmId),
    object=bytes16.map(ObjectId),
    version=st.integers(0, 2**64 - 1),
    author=bytes16.map(DeviceId),
)


def reference_context(context: ManifestContext, key_index: int) -> bytes:
    return ref.manifest_context(
        context.org, context.realm, context.object, context.version, key_index, context.author
    )


@given(texts, bytes32, st.integers(0, 2**32 - 1), contexts, bytes32)
def test_manifest_is_the_reference_and_opens(
    text: bytes, key: bytes, index: int, context: ManifestContext, salt: bytes
) -> None:
    realm_key = RealmKey(index, key)
    sealed = seal_manifest(text, key=realm_key, context=context, salt=salt)
    assert sealed == ref.seal_manifest(text, key, index, reference_context(context, index), salt)
    assert sealed_key_index(sealed) == index
    assert open_manifest(sealed, key=realm_key, expected_context=context) == text


@given(texts, contexts, st.data())
def test_manifest_opens_nowhere_else(
    text: bytes, context: ManifestContext, data: st.DataObject
) -> None:
    key = RealmKey(3, bytes(32))
    sealed = seal_manifest(text, key=key, context=context, salt=bytes(32))
    field = data.draw(st.sampled_from(["org", "realm", "object", "version", "author", "key"]))
    other = context
    if field == "key":
        key = RealmKey(3, data.draw(bytes32.filter(any)))
    elif field == "version":
        other = replace(context, version=context.version ^ 1)
    else:
        old: bytes = getattr(context, field)
        other = replace(context, **{field: bytes([old[0] ^ 1]) + old[1:]})
    with pytest.raises(DecryptionError):
        open_manifest(sealed, key=key, expected_context=other)


@given(texts, contexts, st.data())
def test_changed_manifest_does_not_open(
    text: bytes, context: ManifestContext, data: st.DataObject
) -> None:
    key = RealmKey(3, bytes(32))
    sealed = bytearray(seal_manifest(text, key=key, context=context, salt=bytes(32)))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises((DataError, DecryptionError)):
        open_manifest(bytes(sealed), key=key, expected_context=context)


@given(st.binary(max_size=300))
def test_any_bytes_are_no_manifest(data: bytes) -> None:
    context = ManifestContext(
        org=OrgId(bytes(32)),
        realm=RealmId(bytes(32)),
        object=ObjectId(bytes(16)),
        version=1,
        author=DeviceId(bytes(16)),
    )
    with pytest.raises((DataError, DecryptionError)):
        open_manifest(data, key=RealmKey(1, bytes(32)), expected_context=context)


def test_manifest_sizes_are_bounded() -> None:
    for size in (0, 69, 85, MANIFEST_MAX_SIZE + 1):
        with pytest.raises(DataError):
            sealed_key_index(b"\x01" + bytes(size)[1:])


@given(st.integers(0, 2**40))
def test_padme_is_the_reference_and_cheap(size: int) -> None:
    padded = padme_size(size)
    assert padded == ref.padme(size)
    assert size <= padded <= size * 1.12 + 1
    assert padme_size(padded) == padded


@given(texts, bytes32, bytes16, bytes32)
def test_block_is_the_reference_and_opens(
    text: bytes, realm_id: bytes, block_id: bytes, key: bytes
) -> None:
    realm, block = RealmId(realm_id), BlockId(block_id)
    sealed = seal_block(text, realm=realm, block_id=block, key=key)
    assert sealed == ref.seal_block(text, realm_id, block_id, key)
    pooled = bytearray(len(text) + 16)
    assert seal_block_into(text, pooled, realm=realm, block_id=block, key=key) == len(pooled)
    assert pooled == sealed
    reference = block_ref(sealed, block_id=block, key=key)
    assert (reference.digest, reference.size) == (ref.sha256(sealed), len(text))
    assert open_block(sealed, reference, realm=realm) == text
    buffer = bytearray(len(text))
    assert open_block_into(sealed, buffer, reference, realm=realm) == len(text)
    assert buffer == text


@given(texts, st.data())
def test_changed_block_does_not_open(text: bytes, data: st.DataObject) -> None:
    realm, block, key = RealmId(bytes(32)), BlockId(bytes(16)), bytes(32)
    sealed = seal_block(text, realm=realm, block_id=block, key=key)
    reference = block_ref(sealed, block_id=block, key=key)
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    for wrong in (bytes(changed), sealed + b"x", sealed[:-1], b""):
        with pytest.raises(DecryptionError):
            open_block(wrong, reference, realm=realm)
    buffer = bytearray(b"\xff" * len(text))
    with pytest.raises(DecryptionError):
        open_block_into(bytes(changed), buffer, reference, realm=realm)
    assert not any(buffer)  # nothing unverified stays behind


@given(st.binary(min_size=1, max_size=2000), st.data())
def test_resealed_block_does_not_open(text: bytes, data: st.DataObject) -> None:
    """Whoever can read a block has its key and can seal anything under it (A16): key, id and tag
    hold. Without the digest it would be read."""
    realm, block, key = RealmId(bytes(32)), BlockId(bytes(16)), bytes(32)
    reference = block_ref(
        seal_block(text, realm=realm, block_id=block, key=key), block_id=block, key=key
    )
    size = st.binary(min_size=len(text), max_size=len(text))
    forged = data.draw(size.filter(lambda one: one != text))
    resealed = seal_block(forged, realm=realm, block_id=block, key=key)
    with pytest.raises(DecryptionError, match="digest"):
        REPLICA_CHECKS.block(resealed, reference, realm=realm)
    assert WEAK["block"].block(resealed, reference, realm=realm) == forged


def test_block_is_bound_to_realm_and_id() -> None:
    realm, block, key = RealmId(bytes(32)), BlockId(bytes(16)), bytes(32)
    sealed = seal_block(b"text", realm=realm, block_id=block, key=key)
    reference = block_ref(sealed, block_id=block, key=key)
    other = block_ref(sealed, block_id=BlockId(b"x" * 16), key=key)
    with pytest.raises(DecryptionError):
        open_block(sealed, reference, realm=RealmId(b"x" * 32))
    with pytest.raises(DecryptionError):
        open_block(sealed, other, realm=realm)


@given(texts, bytes32, st.binary(max_size=50), bytes32)
def test_local_data_is_the_reference_and_opens(
    text: bytes, key: bytes, context: bytes, salt: bytes
) -> None:
    sealed = LocalSealer(key).seal(text, context=context, salt=salt)
    assert sealed == ref.seal_local(text, key, context, salt)
    assert LocalSealer(key).open(sealed, expected_context=context) == text
    assert seal_secret(text, key=key, context=context, salt=salt) == sealed
    assert open_secret(sealed, key=key, expected_context=context) == text
    with pytest.raises(DecryptionError):
        LocalSealer(key).open(sealed, expected_context=context + b"x")


@given(st.binary(max_size=100))
def test_any_bytes_are_no_local_data(data: bytes) -> None:
    with pytest.raises(ParsecFSError):
        LocalSealer(bytes(32)).open(data, expected_context=b"")


@given(bytes32, bytes32, bytes32, st.integers(0, 2**32 - 1))
def test_keyed_hashes_are_the_reference(key: bytes, org: bytes, realm: bytes, index: int) -> None:
    context = realm_key_context(OrgId(org), RealmId(realm), index)
    assert context == org + realm + index.to_bytes(4, "big")
    assert realm_key_commitment(key, context) == ref.realm_key_commitment(key, context)
    assert keyed(key, "page-id", context) == ref.keyed(key, "page-id", context)
