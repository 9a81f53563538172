"""The checkpoint proof of one metadata file: its whole history in 32 bytes, on the chain.

Data flow: replica's map + newest opened epoch + chain head -> `encode_proof` -> file -> `check`.

    object, its state (version, operations, history digest)
      -> state map of the realm            (opening under the anchored map root)
      -> log state -> organization -> epoch leaf   (openings under the signed statement)
      -> E of the server, statement        (newest leaf, or an audit path to it)
      -> app hash of a chain header that more than two thirds of the validators signed

`check` needs no network, no server and no content keys, only the checker's own anchor, which it
never takes from the file (rule 32). It shows nothing of other objects. `label` is what the prover
calls the file; nobody has proven it, because names are encrypted.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.audit.chain_head import ChainProof, VerifiedChainHead, verify_proof
from parsec_fs.audit.commitments import AnchoredState, Committed, Path, verify_anchored
from parsec_fs.identity import TrustAnchor
from parsec_fs.protocol.codec import Size, decode, encode, encode_trusted
from parsec_fs.protocol.epochs import opening_leaf
from parsec_fs.protocol.errors import DataError, ProofError
from parsec_fs.protocol.hashing import map_key, map_value
from parsec_fs.protocol.ids import Hash, LogId, ObjectId
from parsec_fs.protocol.limits import MIB
from parsec_fs.protocol.merkle import verify_inclusion
from parsec_fs.protocol.prefix_map import MapProof, verify_opening
from parsec_fs.protocol.records import ObjectState

FORMAT: Final = b"parsec-fs proof 1\n"
MAX_SIZE: Final = 1 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectProof:
    """Everything from an object to the chain; unchecked. `epoch_path` is empty if the chain head is
    of the epoch itself, otherwise the audit path of its leaf in E as the head has it."""

    label: Annotated[bytes, Size(0, 4096)]
    chain: ChainProof
    anchored: AnchoredState
    object: ObjectId
    state: ObjectState
    opening: MapProof
    epoch_path: Path = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenObject:
    """What a proof proves: at this epoch the object was at this state, whoever asks. `label` is
    not proven. Times: Unix milliseconds of the statement, nanoseconds of the chain header."""

    label: bytes
    log: LogId
    object: ObjectId
    state: ObjectState
    epoch: int
    log_size: int
    log_root: Hash
    statement_time_ms: int
    chain_id: bytes
    height: int
    header_hash: Hash
    header_time_ns: int
    validators: int


def encode_proof(proof: ObjectProof) -> bytes:
    """The proof file."""
    return FORMAT + encode(proof)


def decode_proof(data: bytes) -> ObjectProof:
    """Parse a proof file; proves nothing yet. Raises DataError."""
    if not data.startswith(FORMAT):
        raise DataError("not a proof file")
    return decode(ObjectProof, data[len(FORMAT) :], max_size=MAX_SIZE)


def check(unverified_file: bytes, anchor: TrustAnchor) -> ProvenObject:
    """Verify a proof file against one's own anchor. Raises DataError, ProofError, SignatureError,
    and TooFarError if the validators have changed since the anchor."""
    proof = decode_proof(unverified_file)
    head = verify_proof(proof.chain, anchor=anchor.chain, server=anchor.server)
    committed = verify_anchored(proof.anchored, anchor)
    epoch = _check_epoch(proof, committed, head)
    key = map_key(b"object", proof.object)
    root = committed.state.map_root
    if verify_opening(key, proof.opening, expected_root=root) != _value(proof.state):
        raise ProofError("the object is not in this state in the anchored map")
    return ProvenObject(
        label=proof.label,
        log=committed.state.log,
        object=proof.object,
        state=proof.state,
        epoch=epoch,
        log_size=committed.size,
        log_root=committed.state.log_root,
        statement_time_ms=committed.time_ms,
        chain_id=anchor.chain.chain_id,
        height=head.height,
        header_hash=head.header_hash,
        header_time_ns=head.header_time_ns,
        validators=head.validator_count,
    )


def _check_epoch(proof: ObjectProof, committed: Committed, head: VerifiedChainHead) -> int:
    """The epoch that was opened is the one on the chain, or an earlier leaf of the same E."""
    epoch, newest = proof.anchored.opening.epoch, head.statement
    if committed.epoch != epoch:
        raise ProofError("statement of another epoch")
    if epoch == newest.epoch and not proof.epoch_path:
        if opening_leaf(proof.anchored.opening) != newest.epoch_leaf:
            raise ProofError("the epoch is not the one on the chain")
        return epoch
    leaf = opening_leaf(proof.anchored.opening)
    size = newest.epoch + 1
    verify_inclusion(leaf, epoch, size, proof.epoch_path, expected_root=newest.root)
    return epoch


def _value(state: ObjectState) -> Hash:
    return map_value(encode_trusted(state))
