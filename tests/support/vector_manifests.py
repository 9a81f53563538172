"""Test vectors of manifests, and of pages by keyed hash, made by the reference alone.

Data flow: fixed inputs -> `tests.support.reference` -> dictionaries -> tests/vectors/*.json.
"""

from tests.support import reference as ref
from tests.support.reference import ZERO, Plain
from tests.support.vector_formats import BLOCK, KEY, OBJECT, Vectors, bad

FILE, FOLDER, PAGE, SYMLINK, SPECIAL = 1, 2, 3, 4, 5
TIME = 1_800_000_000_123_456_789
MIB = 2**20
ATTRIBUTES: Plain = [0o100644, 1000, 1000, 0, TIME, TIME, TIME, -1, [[b"user.tag", b"red"]]]
BLOCK_REF: Plain = [BLOCK, KEY, ref.sha256(b"ciphertext"), MIB]
HOLE: Plain = [bytes(16), ZERO, ZERO, 0]


def encoded(kind: int, *fields: Plain) -> str:
    return (bytes([kind]) + ref.pack([*fields])).hex()


def good() -> dict[str, str]:
    inline = b"hello, world\n"
    return {
        "empty-file": encoded(FILE, ATTRIBUTES, 0, b"", 0, []),
        "inline-file": encoded(FILE, ATTRIBUTES, len(inline), inline, 0, []),
        "inline-file-with-hole-after": encoded(FILE, ATTRIBUTES, 5 * MIB, inline, 0, []),
        "file-of-two-blocks": encoded(FILE, ATTRIBUTES, MIB + 1, b"", 0, [BLOCK_REF, BLOCK_REF]),
        "file-with-hole": encoded(FILE, ATTRIBUTES, 2 * MIB, b"", 0, [HOLE, BLOCK_REF]),
        "large-file": encoded(FILE, ATTRIBUTES, 2000 * MIB, b"", 1, [BLOCK_REF, BLOCK_REF]),
        "folder": encoded(FOLDER, ATTRIBUTES, KEY, 0),
        "page": encoded(PAGE, OBJECT, TIME, TIME, [[b"a", BLOCK, FILE], [b"b", OBJECT, FOLDER]]),
        "empty-page": encoded(PAGE, OBJECT, 0, 0, []),
        "symlink": encoded(SYMLINK, ATTRIBUTES, b"../target"),
        "fifo": encoded(SPECIAL, ATTRIBUTES),
    }


def wrong() -> dict[str, str]:
    def page(*names: bytes) -> str:
        return encoded(PAGE, OBJECT, 0, 0, [[name, OBJECT, FILE] for name in names])

    large: Plain = [BLOCK, KEY, ZERO, MIB + 1]
    return {
        "nothing": "",
        "unknown-kind": encoded(9, ATTRIBUTES),
        "name-dot": page(b"."),
        "name-dot-dot": page(b".."),
        "name-with-slash": page(b"a/b"),
        "name-with-nul": page(b"a\x00b"),
        "name-empty": page(b""),
        "name-too-long": page(b"a" * 256),
        "names-out-of-order": page(b"b", b"a"),
        "name-twice": page(b"a", b"a"),
        "child-that-is-a-page": encoded(PAGE, OBJECT, 0, 0, [[b"a", OBJECT, PAGE]]),
        "too-many-pages": encoded(FOLDER, ATTRIBUTES, KEY, 10),
        "symlink-with-nul": encoded(SYMLINK, ATTRIBUTES, b"a\x00b"),
        "symlink-empty": encoded(SYMLINK, ATTRIBUTES, b""),
        "inline-and-blocks": encoded(FILE, ATTRIBUTES, MIB, b"x", 0, [BLOCK_REF]),
        "inline-longer-than-size": encoded(FILE, ATTRIBUTES, 1, b"xy", 0, []),
        "inline-too-long": encoded(FILE, ATTRIBUTES, 2**15, bytes(2**14 + 1), 0, []),
        "more-blocks-than-size": encoded(FILE, ATTRIBUTES, MIB, b"", 0, [BLOCK_REF, BLOCK_REF]),
        "block-too-large": encoded(FILE, ATTRIBUTES, 2 * MIB, b"", 0, [large]),
        "size-beyond-kernel": encoded(FILE, ATTRIBUTES, 2**63, b"", 0, []),
        "too-deep": encoded(FILE, ATTRIBUTES, MIB, b"", 5, [BLOCK_REF]),
    }


def manifests() -> Vectors:
    page_names = [b"a", "größer".encode(), b"x" * 255]
    return {
        "good": [{"name": name, "encoded": one} for name, one in good().items()],
        "bad": [bad(name, "DataError", encoded=one) for name, one in wrong().items()],
        "page_of_name": [
            {
                "key": KEY.hex(),
                "name": name.hex(),
                "bits": bits,
                "page": int.from_bytes(ref.keyed(KEY, "page-of-name", name)[:8], "big")
                * 2**bits
                // 2**64,
            }
            for name in page_names
            for bits in (0, 1, 9)
        ],
        "page_id": [
            {
                "key": KEY.hex(),
                "bits": bits,
                "page": page,
                "id": ref.keyed(KEY, "page-id", bytes([bits]) + page.to_bytes(4, "big"))[:16].hex(),
            }
            for bits, page in [(0, 0), (1, 0), (1, 1), (9, 511)]
        ],
    }
