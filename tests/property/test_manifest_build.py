"""Merging changed names into pages, against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from parsec_fs.protocol.commits import DELETED
from parsec_fs.protocol.ids import NO_HASH, Hash, ObjectId
from parsec_fs.protocol.manifests import (
    FILE,
    Child,
    FileManifest,
    FolderManifest,
    PageManifest,
)
from parsec_fs.protocol.records import ObjectState
from parsec_fs.workspace.assigning import NodeManifest
from parsec_fs.workspace.capture import Capture, CapturedFolder, CapturedNode
from parsec_fs.workspace.closures import closures, pack
from parsec_fs.workspace.manifest_build import Builder, NewVersion
from tests.support.manifests import PLAIN_FILE

FOLDER_ID = ObjectId(b"f" * 16)
KEY = b"k" * 32
CONTENT = FileManifest(attributes=PLAIN_FILE, size=0, inline=b"", depth=0, refs=())

names = st.binary(min_size=1, max_size=3).filter(lambda name: not set(name) & {0, 47, 46})
folders = st.dictionaries(names, st.integers(1, 60), max_size=25)


def object_id(number: int) -> ObjectId:
    return ObjectId(number.to_bytes(16, "big"))


class DictStore:
    """A store that takes commits over as they are, and checks their order."""

    def __init__(self) -> None:
        self.objects: dict[ObjectId, tuple[ObjectState, NodeManifest | PageManifest | None]] = {}

    def state(self, id: ObjectId) -> ObjectState | None:
        found = self.objects.get(id)
        return None if found is None else found[0]

    def load(self, id: ObjectId) -> NodeManifest | None:
        found = self.objects.get(id)
        return None if found is None or isinstance(found[1], PageManifest) else found[1]

    def page(self, id: ObjectId, folder: ObjectId) -> PageManifest | None:
        found = self.objects.get(id)
        return found[1] if found is not None and isinstance(found[1], PageManifest) else None

    def links(self, id: ObjectId) -> int:
        pages = [m for _, m in self.objects.values() if isinstance(m, PageManifest)]
        return sum(child.id == id for page in pages for child in page.children)

    def take(self, versions: tuple[NewVersion, ...]) -> None:
        for one in versions:
            assert one.before == self.state(one.id)
            assert one.before is None or not one.before.flags & DELETED
            state = ObjectState(
                version=one.version,
                write_index=0,
                write=Hash(one.id * 2),
                operations=1,
                history=NO_HASH,
                flags=0 if one.manifest else DELETED,
            )
            if isinstance(one.manifest, PageManifest):
                assert all(self.load(child.id) is not None for child in one.manifest.children)
            self.objects[one.id] = (state, one.manifest)

    def names(self) -> dict[bytes, int]:
        pages = [m for _, m in self.objects.values() if isinstance(m, PageManifest)]
        return {
            child.name: int.from_bytes(child.id, "big") for page in pages for child in page.children
        }


def capture(
    store: DictStore, before: dict[bytes, int], after: dict[bytes, int], bits: int
) -> Capture:
    """What the tree would capture for this change of a folder."""
    folder = store.load(FOLDER_ID)
    old_bits = folder.page_bits if isinstance(folder, FolderManifest) else bits
    bits = max(bits, old_bits)
    everything = bits > old_bits
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    listed = set(after) if everything else changed
    children = {
        name: Child(name=name, id=object_id(after[name]), kind=FILE) if name in after else None
        for name in sorted(listed)
    }
    new = {number for number in after.values() if store.state(object_id(number)) is None}
    gone = set(before.values()) - set(after.values())
    nodes = [
        CapturedNode(
            id=FOLDER_ID,
            kind=2,
            created=folder is None,
            deleted=False,
            manifest=FolderManifest(attributes=PLAIN_FILE, page_key=KEY, page_bits=bits),
        )
    ]
    nodes += [_node(number, CONTENT) for number in sorted(new)]
    nodes += [_node(number, None) for number in sorted(gone)]
    captured = CapturedFolder(
        id=FOLDER_ID,
        page_key=KEY,
        page_bits=bits,
        old_page_bits=old_bits,
        names=tuple(children.items()),
        mtime_ns=1,
        ctime_ns=1,
    )
    return Capture(position=1, nodes=tuple(nodes), folders=(captured,))


def _node(number: int, manifest: FileManifest | None) -> CapturedNode:
    return CapturedNode(
        id=object_id(number),
        kind=FILE,
        created=manifest is not None,
        deleted=manifest is None,
        manifest=manifest,
    )


def log(store: DictStore, change: Capture, *, separate: bool) -> int:
    """Build, pack and take over; how many commits it was."""
    builder = Builder(change, store, lambda _: ())
    for _ in builder.steps():
        pass
    commits = pack(closures(builder.build), lambda _: 1, separate=separate)
    for commit in commits:
        assert len({one.id for one in commit}) == len(commit)
        store.take(commit)
    return len(commits)


@given(st.lists(st.tuples(folders, st.integers(0, 3)), min_size=1, max_size=5), st.booleans())
def test_pages_hold_what_the_dictionary_holds(
    steps: list[tuple[dict[bytes, int], int]], separate: bool
) -> None:
    store, before, used = DictStore(), dict[bytes, int](), set[int]()
    for wanted, bits in steps:
        # An id never comes back (rule 7).
        after = {name: n for name, n in wanted.items() if n not in used - set(before.values())}
        change = capture(store, before, after, bits)
        log(store, change, separate=separate)
        assert store.names() == after
        assert log(store, change, separate=separate) == 0, "repeating a capture is harmless"
        used |= set(after.values())
        before = after
