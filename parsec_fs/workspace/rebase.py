"""Two devices changed one object: what becomes of our change. Three-way, by kind, nothing lost.

Data flow: base (what both started from), ours (tree), theirs (store) -> `judge` -> resolution.

Pure. Names are merged elsewhere (`manifest_build`, rule 11); this is about the objects themselves.
"""

from dataclasses import fields, replace
from enum import Enum

from parsec_fs.protocol.manifests import Attributes, FileManifest
from parsec_fs.workspace.assigning import NodeManifest


class Verdict(Enum):
    """What to do with our version."""

    OURS = "commit ours on top of theirs"
    MERGE = "take theirs, with the attributes that only we changed"
    THEIRS = "drop ours"
    COPY = "ours becomes a conflict copy beside theirs"
    REVIVE = "we deleted what they changed: theirs stays"


def judge(
    base: NodeManifest | None, ours: NodeManifest | None, theirs: NodeManifest | None
) -> Verdict:
    """None: deleted. Both sides have changed the object since `base`."""
    if ours is None:
        return Verdict.THEIRS if theirs is None else Verdict.REVIVE
    if theirs is None:
        # Their deletion would take our content along; an id never comes back (rule 7).
        return Verdict.COPY
    if ours == theirs:
        return Verdict.THEIRS
    if not isinstance(ours, FileManifest) or not isinstance(theirs, FileManifest):
        return Verdict.OURS
    if same_content(ours, theirs) or (
        isinstance(base, FileManifest) and same_content(base, theirs)
    ):
        return Verdict.OURS
    if isinstance(base, FileManifest) and same_content(base, ours):
        return Verdict.MERGE
    return Verdict.COPY


def same_content(one: FileManifest, other: FileManifest) -> bool:
    """True iff both files have the same bytes, as far as references tell."""
    return (one.size, one.inline, one.refs) == (other.size, other.inline, other.refs)


def merged_attributes(base: Attributes, ours: Attributes, theirs: Attributes) -> Attributes:
    """Each attribute that only we changed is ours, everything else theirs."""
    changed = {
        field.name: getattr(ours, field.name)
        for field in fields(Attributes)
        if getattr(ours, field.name) != getattr(base, field.name)
        and getattr(theirs, field.name) == getattr(base, field.name)
    }
    return replace(theirs, **changed)
