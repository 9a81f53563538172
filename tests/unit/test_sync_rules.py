"""The pure rules of synchronisation: promises of heads, verdicts, closures, nesting, pages."""

from dataclasses import replace

import pytest
import trio

from parsec_fs.protocol.codec import encode_trusted
from parsec_fs.protocol.errors import DataError, ForkError, ProofError, RollbackError
from parsec_fs.protocol.hashing import EMPTY_MAP, EMPTY_TREE
from parsec_fs.protocol.ids import (
    NO_HASH,
    BlockId,
    Hash,
    LogId,
    ObjectId,
    OrgId,
    ServerLogId,
)
from parsec_fs.protocol.limits import MIB, REFS_PER_NODE
from parsec_fs.protocol.manifests import (
    FILE,
    BlockRef,
    Child,
    FileManifest,
    FolderManifest,
    PageManifest,
    RefNode,
    page_id,
    page_of,
)
from parsec_fs.protocol.records import Context, Head, LogState, Signed
from parsec_fs.workspace.closures import closures, pack
from parsec_fs.workspace.manifest_build import Build, FolderChange, NewVersion
from parsec_fs.workspace.nesting import flatten, nest
from parsec_fs.workspace.page_changes import PageChanges, belongs
from parsec_fs.workspace.promises import (
    AuditFirstError,
    check_pins,
    check_promise,
    check_reached,
    check_roots,
)
from parsec_fs.workspace.rebase import Verdict, judge, merged_attributes
from tests.support.manifests import PLAIN_FILE

LOG = LogId(b"l" * 32)
CONTEXT = Context(
    chain_id=b"c",
    genesis=NO_HASH,
    server_log=ServerLogId(b"s" * 32),
    org=OrgId(b"o" * 32),
    log=LOG,
)


def head(size: int, *, root: bytes = b"r" * 32, due: int = 1) -> tuple[Head, Signed]:
    found = Head(
        context=CONTEXT,
        size=size,
        log_root=Hash(root),
        map_root=EMPTY_MAP,
        org_size=1,
        due_epoch=due,
        time_ms=1,
        nonce=bytes(32),
    )
    return found, Signed(record=b"%d %b" % (size, root), signature=bytes(64))


def state(size: int, *, root: bytes = b"r" * 32) -> LogState:
    return LogState(log=LOG, size=size, log_root=Hash(root), map_root=EMPTY_MAP, org_size=1)


# Heads


def test_a_smaller_log_is_a_rollback_with_both_heads() -> None:
    with pytest.raises(RollbackError) as caught:
        check_promise(head(4), known_size=5, newest=head(5), most_due=9)
    assert len(caught.value.evidence) == 2


def test_a_promise_too_far_ahead_asks_for_an_audit() -> None:
    """Rule 23."""
    assert check_promise(head(4, due=9), known_size=4, newest=None, most_due=9)
    with pytest.raises(AuditFirstError) as caught:
        check_promise(head(4, due=10), known_size=4, newest=None, most_due=9)
    assert caught.value.epochs == 9


def test_numbers_that_no_store_can_hold_are_no_head() -> None:
    with pytest.raises(DataError):
        check_promise(head(4, due=2**63), known_size=4, newest=None, most_due=2**64)


def test_two_roots_at_one_size_are_a_fork() -> None:
    """P1."""
    with pytest.raises(ForkError) as caught:
        check_roots(head(4), state(4, root=b"x" * 32), known=head(4, root=b"x" * 32))
    assert len(caught.value.evidence) == 2


def test_leaves_that_lead_elsewhere_are_no_proof() -> None:
    with pytest.raises(ProofError):
        check_roots(head(4), state(4, root=b"x" * 32), known=None)
    assert check_roots(head(4), state(4), known=None)


def test_what_the_inviter_pinned_must_be_there() -> None:
    """Rule 25."""
    assert check_pins([state(4)], state(4))
    assert check_pins([state(4)], state(5, root=EMPTY_TREE))
    with pytest.raises(ForkError):
        check_pins([state(4)], state(4, root=EMPTY_TREE))


def test_a_log_that_ends_before_what_was_pinned_is_an_old_copy() -> None:
    """Rule 25. Pins of other logs say nothing of this one; those at other sizes do."""
    other = replace(state(9), log=LogId(b"m" * 32))
    for size in (4, 5):
        assert check_reached(head(size), [state(3), state(4), other])
    with pytest.raises(RollbackError, match="3 leaves; whoever invited this device has seen 4"):
        check_reached(head(3), [state(4), state(2), other])
    assert check_reached(head(0), [])


# Verdicts

BASE = FileManifest(attributes=PLAIN_FILE, size=1, inline=b"b", depth=0, refs=())
PRIVATE = replace(BASE, attributes=replace(PLAIN_FILE, mode=0o100600))
OURS = replace(BASE, inline=b"o")
THEIRS = replace(BASE, inline=b"t")


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"),
    [
        (None, None, Verdict.THEIRS),
        (None, THEIRS, Verdict.REVIVE),
        (OURS, None, Verdict.COPY),
        (OURS, THEIRS, Verdict.COPY),
        (OURS, OURS, Verdict.THEIRS),
        (OURS, PRIVATE, Verdict.OURS),
        (PRIVATE, THEIRS, Verdict.MERGE),
    ],
)
def test_verdicts(ours: FileManifest | None, theirs: FileManifest | None, verdict: Verdict) -> None:
    assert judge(BASE, ours, theirs) is verdict


def test_without_a_base_different_contents_are_both_kept() -> None:
    assert judge(None, OURS, THEIRS) is Verdict.COPY


def test_attributes_merge_one_by_one() -> None:
    ours = replace(PLAIN_FILE, mode=0o100600, mtime_ns=5)
    theirs = replace(PLAIN_FILE, mtime_ns=7, uid=3)
    merged = merged_attributes(PLAIN_FILE, ours, theirs)
    assert (merged.mode, merged.uid, merged.mtime_ns) == (0o100600, 3, 7)


# Closures


def object_id(number: int) -> ObjectId:
    return ObjectId(number.to_bytes(16, "big"))


def version(number: int) -> NewVersion:
    return NewVersion(id=object_id(number), manifest=BASE, before=None)


def change(
    folder: int,
    pages: list[int],
    *,
    gained: tuple[int, ...] = (),
    lost: tuple[int, ...] = (),
) -> FolderChange:
    return FolderChange(
        folder=object_id(folder),
        pages=tuple(version(page) for page in pages),
        gained=frozenset(map(object_id, gained)),
        lost=frozenset(map(object_id, lost)),
        atomic=False,
    )


def numbers(commits: list[tuple[NewVersion, ...]]) -> list[list[int]]:
    return [[int.from_bytes(one.id, "big") for one in commit] for commit in commits]


def build(nodes: list[int], folders: list[FolderChange], gone: tuple[int, ...] = ()) -> Build:
    return Build(
        nodes={object_id(one): version(one) for one in nodes},
        folders=folders,
        tombstones={object_id(one): (version(one),) for one in gone},
    )


def test_objects_come_before_the_page_that_names_them() -> None:
    """Rule 21."""
    found = closures(
        build(
            [1, 2, 10],
            [
                change(
                    10,
                    [11],
                    gained=(
                        1,
                        2,
                    ),
                )
            ],
        )
    )
    assert numbers(pack(found, lambda _: 1, separate=False)) == [[10, 1, 2, 11]]


def test_a_deletion_comes_after_its_name_is_gone() -> None:
    found = closures(build([], [change(10, [11], lost=(1,))], gone=(1,)))
    assert numbers(pack(found, lambda _: 1, separate=False)) == [[11, 1]]


def test_a_name_lost_in_two_folders_is_deleted_after_both() -> None:
    changes = [change(10, [11], lost=(1,)), change(20, [21], lost=(1,))]
    found = closures(build([], changes, gone=(1,)))
    assert numbers(pack(found, lambda _: 1, separate=False)) == [[11, 21, 1]]


def test_both_pages_of_a_move_are_one_unit() -> None:
    """Rule 3."""
    changes = [change(10, [11], lost=(1,)), change(20, [21], gained=(1,)), change(30, [31])]
    found = closures(build([], changes))
    assert sorted(numbers(pack(found, lambda _: 1, separate=True))) == [[11, 21], [31]]


def test_strangers_travel_apart_after_a_refusal() -> None:
    found = closures(build([1, 2, 3], []))
    assert len(pack(found, lambda _: 1, separate=True)) == 3
    assert len(pack(found, lambda _: 1, separate=False)) == 1


def test_commits_are_bounded_in_objects_and_bytes() -> None:
    found = closures(build(list(range(1, 2501)), []))
    assert [len(one) for one in pack(found, lambda _: 1, separate=False)] == [1000, 1000, 500]
    assert len(pack(found, lambda _: MIB, separate=False)) == -(-2500 // 12)


# Nesting


def ref(number: int) -> BlockRef:
    id, digest = number.to_bytes(16, "big"), Hash(bytes([1]) * 32)
    return BlockRef(id=BlockId(id), key=bytes(32), digest=digest, size=MIB)


@pytest.mark.parametrize("count", [1, REFS_PER_NODE, REFS_PER_NODE + 1, 3 * REFS_PER_NODE])
def test_references_nest_and_come_back(count: int) -> None:
    refs = tuple(map(ref, range(count)))
    flat = FileManifest(attributes=PLAIN_FILE, size=count * MIB, inline=b"", depth=0, refs=refs)
    nodes: dict[BlockId, bytes] = {}

    def seal(data: bytes) -> BlockRef:
        made = ref(10**6 + len(nodes))
        nodes[made.id] = data
        return made

    async def read(one: BlockRef) -> bytes:
        return nodes[one.id]

    nested = nest(flat, seal)
    assert len(nested.refs) <= REFS_PER_NODE
    assert nested.depth == (0 if count <= REFS_PER_NODE else 1)
    assert trio.run(flatten, nested, read) == flat
    if nested.depth:
        with pytest.raises(DataError):
            trio.run(flatten, replace(nested, size=MIB), read)


def test_a_node_named_again_and_again_is_not_expanded() -> None:
    """Three small blocks could stand for a thousand million references (exhaustion)."""
    leaf, asked = encode_trusted(RefNode(refs=(ref(1),) * REFS_PER_NODE)), []
    node = encode_trusted(RefNode(refs=(ref(2),) * REFS_PER_NODE))

    async def read(one: BlockRef) -> bytes:
        asked.append(one)
        return leaf if one == ref(2) else node

    file = FileManifest(
        attributes=PLAIN_FILE, size=2**62, inline=b"", depth=3, refs=(ref(3),) * REFS_PER_NODE
    )
    for refs in (file.refs, file.refs[:1]):
        with pytest.raises(DataError):
            trio.run(flatten, replace(file, refs=refs), read)
    assert len(asked) <= 1


# Pages


def page(folder: int, children: dict[bytes, int]) -> PageManifest:
    made = [Child(name=name, id=object_id(id), kind=FILE) for name, id in children.items()]
    return PageManifest(folder=object_id(folder), mtime_ns=1, ctime_ns=1, children=tuple(made))


def test_a_split_changes_no_names() -> None:
    changes = PageChanges()
    changes.was(page(1, {b"a": 5, b"b": 6}))
    changes.is_now(page(1, {b"a": 5}))
    changes.is_now(page(1, {b"b": 6}))
    assert changes.names() == []
    assert changes.links() == {}


def test_names_and_links_that_changed() -> None:
    changes = PageChanges()
    changes.was(page(1, {b"a": 5, b"b": 6}))
    changes.is_now(page(1, {b"b": 7, b"c": 7}))
    (found,) = changes.names()
    names = {name: child and child.id for name, child in found.names.items()}
    assert names == {b"a": None, b"b": object_id(7), b"c": object_id(7)}
    assert changes.links() == {object_id(5): -1, object_id(6): -1, object_id(7): 2}


def test_a_page_of_another_folder_does_not_count() -> None:
    """Rule 12: hostile trees."""
    folder = FolderManifest(attributes=PLAIN_FILE, page_key=b"k" * 32, page_bits=1)
    own = page_id(folder.page_key, 1, page_of(b"a", folder.page_key, 1))
    assert belongs(page(1, {b"a": 5}), own, folder)
    assert not belongs(page(1, {b"a": 5}), object_id(9), folder)
