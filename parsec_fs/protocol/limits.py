"""Every size, count and clock limit that two programs must agree on, each with its reason.

Data flow: read by the parsers and verifiers; a limit is a defence against exhaustion (rule 2).
"""

KIB = 1024
MIB = 1024 * KIB

ENTRY_MAX_SIZE = 256 * KIB
"""One log entry (commit with 1,000 object records is about 180 KiB)."""

BATCH_MAX_SIZE = 16 * MIB
"""One request or answer body, payloads included."""

PROOF_MAX_HASHES = 64
"""A tree of 2^64 leaves needs no more."""

MANIFEST_MAX_SIZE = 1 * MIB
"""One sealed manifest (or manifest node)."""

BLOCK_SIZE = 1 * MIB
"""Plaintext bytes in every block of a file but the last."""

SEALED_BLOCK_MAX_SIZE = BLOCK_SIZE + 16
"""A block and its AEAD tag."""

SMALL_BLOCK_MAX_SIZE = 256 * KIB + 16
"""A sealed block that may travel with others: beyond that a request of its own costs little."""

BLOCKS_PER_REQUEST = 64
"""Blocks put in one request, each of which is an open file of the server's meanwhile."""

BLOCKS_MAX_SIZE = 4 * MIB
"""One request that puts several blocks."""

INLINE_MAX_SIZE = 16 * KIB
"""Files up to this size travel inside their manifest: no block object, no round trip."""

REFS_PER_NODE = 1024
"""Block references held by one manifest node; larger files nest."""

COMMIT_MAX_OBJECTS = 1000
"""Objects in one commit (rule 3)."""

PAGE_MAX_CHILDREN = 1000
"""Children of one folder page before the folder is split into twice as many (rule 11)."""

NAME_MAX_SIZE = 255
"""Bytes in a file name, as POSIX file systems have it; the kernel does not enforce it for us."""

SYMLINK_MAX_SIZE = 4095
"""Bytes in a symbolic link's target (PATH_MAX without the final NUL)."""

XATTR_VALUE_MAX_SIZE = 64 * KIB
"""Bytes in one extended attribute value, as Linux has it."""

XATTRS_MAX_SIZE = 128 * KIB
"""Bytes in all names and values of one object; keeps manifests within their limit."""

LABEL_MAX_SIZE = 255
"""Bytes in names of users, devices, servers and the like."""

FILE_MAX_SIZE = 2**63 - 1
"""Largest file size the kernel can carry."""

DUE_EPOCH_MAX_AHEAD = 2
"""A head may promise at most newest verified epoch + 2 (rule 23)."""

KEY_CHANGES_MAX = 8
"""Changes of a server's statement keys; every later statement carries them, 6.3 KiB each."""

USER_DEVICES_MAX = 128
"""Devices of one user: a new user key is sealed to each of them in one certificate."""

RECOVERY_MAX_SIZE = 32 * KIB
"""What a server keeps for one paper device: a trust anchor and a state of the org log."""

SESSION_LIFETIME_S = 600
"""A signed session lasts ten minutes (rule 33)."""
