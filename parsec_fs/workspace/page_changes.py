"""What changed pages mean: names per folder, link counts.

Data flow: replica (old and new versions of pages) -> this -> store (links), tree (RemoteNames).

Pure. A folder that was split has its names in new pages while the old ones are deleted: so names
are compared per folder, over all its changed pages together, never per page.
"""

from collections import Counter
from dataclasses import dataclass, field

from parsec_fs.protocol.ids import ObjectId
from parsec_fs.protocol.manifests import (
    Child,
    FolderManifest,
    PageManifest,
    page_id,
    page_of,
)
from parsec_fs.workspace.remote_changes import RemoteNames
from parsec_fs.workspace.times import latest


@dataclass(slots=True)
class _Folder:
    old: dict[bytes, Child] = field(default_factory=dict)
    new: dict[bytes, Child] = field(default_factory=dict)
    mtime_ns: int = -(2**63)
    ctime_ns: int = -(2**63)


class PageChanges:
    """Collects pages in any order, then tells the differences."""

    def __init__(self) -> None:
        self._folders: dict[ObjectId, _Folder] = {}

    def was(self, page: PageManifest) -> None:
        """A page as it was before."""
        folder = self._folders.setdefault(page.folder, _Folder())
        folder.old.update({child.name: child for child in page.children})

    def is_now(self, page: PageManifest) -> None:
        """A page as it is now (not called for one that is deleted)."""
        folder = self._folders.setdefault(page.folder, _Folder())
        folder.new.update({child.name: child for child in page.children})
        folder.mtime_ns, folder.ctime_ns = latest(
            (folder.mtime_ns, folder.ctime_ns), (page.mtime_ns, page.ctime_ns)
        )

    def links(self) -> dict[ObjectId, int]:
        """By how much the number of names of each object changed."""
        count: Counter[ObjectId] = Counter()
        for folder in self._folders.values():
            count.update(child.id for child in folder.new.values())
            count.subtract(child.id for child in folder.old.values())
        return {id: change for id, change in count.items() if change}

    def names(self) -> list[RemoteNames]:
        """Changed names, per folder."""
        changed = []
        for id, folder in self._folders.items():
            names = _difference(folder.old, folder.new)
            if names:
                changed.append(
                    RemoteNames(
                        folder=id,
                        names=names,
                        mtime_ns=folder.mtime_ns,
                        ctime_ns=folder.ctime_ns,
                    )
                )
        return changed


def _difference(old: dict[bytes, Child], new: dict[bytes, Child]) -> dict[bytes, Child | None]:
    changed: dict[bytes, Child | None] = {
        name: child for name, child in new.items() if old.get(name) != child
    }
    changed.update({name: None for name in old if name not in new})
    return changed


def belongs(page: PageManifest, id: ObjectId, folder: FolderManifest) -> bool:
    """True iff `id` is a page of this folder. Judged by where its first name belongs; a page
    without names changes nothing, whosever it is."""
    if not page.children:
        return True
    number = page_of(page.children[0].name, folder.page_key, folder.page_bits)
    return page_id(folder.page_key, folder.page_bits, number) == id
