"""Manifests: the decrypted description of one file, folder, page or other node (rules 11, 12).

Data flow: workspace/tree -> manifest -> `sealing.seal_manifest` -> payload of an object record.

A folder is an attributes object (FOLDER) plus page objects (PAGE) that hold its children; the page
of a name follows from a keyed hash of the name, page ids follow from the folder's page key, so no
list of pages is kept and the server cannot link them. Hard links are two names for one object id;
link counts are derived, never stored. Names, targets, sizes and times exist only in here.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from parsec_fs.protocol.codec import (
    I64,
    U8,
    U32,
    U64,
    Bytes32,
    Increasing,
    Size,
    decode,
    encode_trusted,
)
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.hashing import keyed
from parsec_fs.protocol.ids import NO_HASH, BlockId, Hash, ObjectId
from parsec_fs.protocol.limits import (
    BLOCK_SIZE,
    INLINE_MAX_SIZE,
    MANIFEST_MAX_SIZE,
    NAME_MAX_SIZE,
    REFS_PER_NODE,
    SYMLINK_MAX_SIZE,
    XATTR_VALUE_MAX_SIZE,
)

FILE: Final = 1
FOLDER: Final = 2
PAGE: Final = 3
SYMLINK: Final = 4
SPECIAL: Final = 5
"""Fifo, socket or device node: the type is in the mode, the number in `rdev`."""

MAX_PAGE_BITS: Final = 9
MAX_DEPTH: Final = 4
HOLE: Final = BlockId(bytes(16))
"""A reference with this id, a zero key, digest and size stands for a block of zeros (a hole)."""

Name = Annotated[bytes, Size(1, NAME_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """What is needed to read one sealed block: id, single-use key, digest, plaintext size.

    The digest NO_HASH says that it is not taken yet: of a block sealed on this device, which alone
    knows the reference. No manifest holds one (`check_digests`)."""

    id: BlockId
    key: Bytes32
    digest: Hash
    size: U32

    @property
    def is_local(self) -> bool:
        """True iff the digest is not taken yet."""
        return self.digest == NO_HASH


@dataclass(frozen=True, slots=True, kw_only=True)
class Xattr:
    """One extended attribute."""

    name: Name
    value: Annotated[bytes, Size(0, XATTR_VALUE_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What stat shows. `mode` includes the file type; times are Unix nanoseconds."""

    mode: U32
    uid: U32
    gid: U32
    rdev: U64
    atime_ns: I64
    mtime_ns: I64
    ctime_ns: I64
    birth_ns: I64
    xattrs: Annotated[tuple[Xattr, ...], Increasing(), Size(0, 1024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileManifest:
    """A file. Content is `inline` (size <= 16 KiB, no refs), or blocks of 1 MiB.

    `inline` may be shorter than `size`: the rest is a hole. With depth 0 `refs` are data blocks;
    with depth d each ref is a block holding an encoded `RefNode` of depth d - 1.
    """

    attributes: Attributes
    size: U64
    inline: Annotated[bytes, Size(0, INLINE_MAX_SIZE)]
    depth: U8
    refs: Annotated[tuple[BlockRef, ...], Size(0, REFS_PER_NODE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefNode:
    """Up to 1,024 references, in file order; the content of a node block."""

    refs: Annotated[tuple[BlockRef, ...], Size(1, REFS_PER_NODE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderManifest:
    """A folder's own attributes; its children are in 2**page_bits pages found with `page_key`."""

    attributes: Attributes
    page_key: Bytes32
    page_bits: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """One name in a folder. `kind` is FILE, FOLDER, SYMLINK or SPECIAL."""

    name: Name
    id: ObjectId
    kind: U8


@dataclass(frozen=True, slots=True, kw_only=True)
class PageManifest:
    """Some children of a folder, by name. Its times count as the folder's: the later one wins."""

    folder: ObjectId
    mtime_ns: I64
    ctime_ns: I64
    children: Annotated[tuple[Child, ...], Increasing()]


@dataclass(frozen=True, slots=True, kw_only=True)
class SymlinkManifest:
    """A symbolic link."""

    attributes: Attributes
    target: Annotated[bytes, Size(1, SYMLINK_MAX_SIZE)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialManifest:
    """A fifo, socket or device node."""

    attributes: Attributes


Manifest = FileManifest | FolderManifest | PageManifest | SymlinkManifest | SpecialManifest

_CLASSES: Final[dict[int, type]] = {
    FILE: FileManifest,
    FOLDER: FolderManifest,
    PAGE: PageManifest,
    SYMLINK: SymlinkManifest,
    SPECIAL: SpecialManifest,
}
_KINDS: Final = {cls: kind for kind, cls in _CLASSES.items()}


def encode_manifest(manifest: Manifest) -> bytes:
    """One kind byte, then the canonical record. Raises DataError for a digest not taken yet."""
    if isinstance(manifest, FileManifest):
        check_digests(manifest.refs)
    return bytes((_KINDS[type(manifest)],)) + encode_trusted(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """Parse and check any manifest. Raises DataError; hostile names never get past here (A50)."""
    cls = _CLASSES.get(data[0]) if data else None
    if cls is None:
        raise DataError("manifest: unknown kind")
    manifest: Manifest = decode(cls, data[1:], max_size=MANIFEST_MAX_SIZE)
    if isinstance(manifest, PageManifest):
        for child in manifest.children:
            check_name(child.name)
            if child.kind not in (FILE, FOLDER, SYMLINK, SPECIAL):
                raise DataError("manifest: unknown kind of child")
    elif isinstance(manifest, FolderManifest) and manifest.page_bits > MAX_PAGE_BITS:
        raise DataError("manifest: too many pages")
    elif isinstance(manifest, SymlinkManifest) and b"\x00" in manifest.target:
        raise DataError("manifest: NUL in a symlink")
    elif isinstance(manifest, FileManifest):
        _check_file(manifest)
    return manifest


def check_name(name: bytes) -> bytes:
    """A name that a folder may hold. Raises DataError."""
    if not 0 < len(name) <= NAME_MAX_SIZE or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise DataError("not a valid file name")
    return name


def check_digests(refs: Iterable[BlockRef]) -> None:
    """A block is named with its digest, or it is a hole: a reference without one would be taken for
    this device's own, and opened by its key alone (decision 0020). Raises DataError."""
    if any(ref.digest == NO_HASH and ref.id != HOLE for ref in refs):
        raise DataError("manifest: a block without its digest")


def block_count(size: int) -> int:
    """Number of data blocks of a file of `size` bytes."""
    return -(-size // BLOCK_SIZE)


def _check_file(manifest: FileManifest) -> None:
    if manifest.size >= 2**63 or manifest.depth > MAX_DEPTH:
        raise DataError("manifest: file too large")
    if manifest.inline and (manifest.refs or len(manifest.inline) > manifest.size):
        raise DataError("manifest: inline content does not fit")
    if len(manifest.refs) > block_count(manifest.size):
        raise DataError("manifest: more blocks than the size allows")
    if any(ref.size > BLOCK_SIZE for ref in manifest.refs):
        raise DataError("manifest: block too large")
    check_digests(manifest.refs)


def page_of(name: bytes, page_key: bytes, page_bits: int) -> int:
    """Number of the page that holds a name (rule 11)."""
    if page_bits == 0:
        return 0
    return int.from_bytes(keyed(page_key, "page-of-name", name)[:8], "big") >> (64 - page_bits)


def page_id(page_key: bytes, page_bits: int, page: int) -> ObjectId:
    """Object id of a page; fresh for every number of bits, so split pages never come back."""
    place = bytes((page_bits,)) + page.to_bytes(4, "big")
    return ObjectId(keyed(page_key, "page-id", place)[:16])
