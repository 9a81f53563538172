"""Journal records: tuples of integers and bytes, each an assignment of full state.

Data flow: workspace/tree -> record -> storage/journal; storage/journal -> workspace/replay -> tree.

Replaying a record over a state that already contains it, or a later one, changes nothing that a
later record does not assign again: so the journal may be replayed over any newer or equal store.
The first item is the tag; ids are 16 bytes, times Unix nanoseconds, no name is b"".
"""

from typing import Final

Record = tuple[int | bytes, ...]

CREATE: Final = 1
"""folder, name, id, mode, uid, gid, rdev, now, extra. All times and the folder's are `now`;
extra is a folder's page key or a symlink's target."""

ENTRY: Final = 2
"""folder, name, id or b"", kind, now: the name stands for that object from now on, or is gone."""

MOVE: Final = 3
"""folder, name, new folder, new name, id, kind, now."""

SWAP: Final = 4
"""folder, name, id, kind (what this name stands for now), the same four for the other, now."""

NODE: Final = 5
"""id, mode, uid, gid, rdev, atime, mtime, ctime, birth, extra."""

INLINE: Final = 6
"""id, size, mtime, ctime, content: the whole file; what `content` lacks up to size is a hole."""

DATA: Final = 7
"""id, offset, bytes: part of a file in blocks, not sealed as a block yet."""

SIZE: Final = 8
"""id, size, mtime, ctime: cut or extended (with a hole) to exactly that size."""

BLOCK: Final = 9
"""id, index, block id, key, digest, plaintext size, file size, mtime, ctime: block `index` is
this sealed block (block id 0: a hole); the file has at least `file size` bytes. A digest of zeros
is not taken yet: that comes with DIGEST."""

XATTR: Final = 10
"""id, ctime, name, value."""

XATTR_GONE: Final = 11
"""id, ctime, name."""

REVERT: Final = 12
"""id: our changes of the object so far are given up, it is what the store says."""

THEIRS: Final = 13
"""folder, name: our change of the name is given up, it stands for what the store says."""

TAKEN: Final = 14
"""size: from here on the store says what others wrote up to that size of the log (decision 0013).
The exception: replayed over a store that has it, it does nothing."""

SETTLED: Final = 15
"""Nothing more: all that was contested before is settled, by the records before this one."""

SETTLING: Final = 16
"""count: that many records follow that settle what is contested, all of them count or none."""

ABANDONED: Final = 17
"""Nothing more: the program ended while a settlement was being journalled; the records since
SETTLING count for nothing."""

DIGEST: Final = 18
"""block id, digest: of a block that BLOCK named without one. It changes nothing else, and is in the
journal as long as such a BLOCK is: nothing is uploaded before it is durable."""
