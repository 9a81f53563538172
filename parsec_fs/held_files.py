"""Files that are held back, for people: which, why, and what to type.

Data flow: workspace (held, tree) -> this -> facts -> status, `.status`, `.status.json`.
"""

import shlex
from itertools import islice
from typing import Any, Final

from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.ids import ObjectId
from parsec_fs.workspace.circles import places_above
from parsec_fs.workspace.filesystem import Filesystem
from parsec_fs.workspace.held import AGAIN_S, Obstacle, Reason
from parsec_fs.workspace.name_index import NameKey
from parsec_fs.workspace.nodes import FileNode, FolderNode
from parsec_fs.workspace.tree import Tree

Json = dict[str, Any]
_TOLD_MOST: Final = 10


def held_files(filesystem: Filesystem, mountpoint: str) -> list[Json]:
    """At most ten: `path` in the workspace, `reason`, and `note`, which says what to type."""
    found = list(islice(filesystem.held.items(), _TOLD_MOST))
    names = _names(filesystem.tree, {node.id for node, _ in found}) if found else {}
    told = []
    for node, obstacle in found:
        path = _path(filesystem.tree, names[node.id]) if node.id in names else "?"
        note = _note(node, obstacle, path, f"{mountpoint}/{path}")
        told.append({"path": path, "reason": str(obstacle.reason), "note": note})
    return told


def _names(tree: Tree, ids: set[ObjectId]) -> dict[ObjectId, NameKey]:
    """One name of each of these files; names that are not in memory have no change that waits."""
    folders = [one for one in tree.nodes.values() if type(one) is FolderNode and one.nlink]
    return {
        entry[0]: (folder.id, name)
        for folder in folders
        for name, entry in (folder.children or {}).items()
        if entry[0] in ids
    }


def _path(tree: Tree, name: NameKey) -> str:
    above = [part for _, part in places_above(tree, name[0])]
    return plain_name(b"/".join((*reversed(above), name[1])))


def _note(node: FileNode, obstacle: Obstacle, path: str, full: str) -> str:
    quoted, beside = shlex.quote(full), shlex.quote(full + ".new")
    shown = "do not see it yet" if node.created else "go on seeing the version before"
    others = f"other devices {shown}, all other changes go on"
    if obstacle.reason is Reason.DAMAGED:
        return (
            f"{path} is held back: a part of its content, never sent, is damaged on this device; "
            f"{others}. Write it anew (cp COPY {quoted}) or delete it (rm {quoted})"
        )
    if obstacle.reason is Reason.FULL:
        return (
            f"{path} is held back: the server has no room for it; {others}. It is tried again "
            f"every {AGAIN_S:.0f} s; to give it up: rm {quoted}"
        )
    return (
        f"{path} is held back: the server refuses a part of it ({obstacle.detail}); {others}. "
        f"Store it as a new one: cp -a {quoted} {beside} && mv {beside} {quoted}"
    )
