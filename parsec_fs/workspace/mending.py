"""Large files whose node blocks could not be had when their manifest came: asked for again.

Data flow: realm_store (files without references), blocks -> this -> realm_store, tree.

A replica goes past such a manifest, because one lost block must stop nobody (rule 12), and stores
it closed. What was out of reach is asked for with growing pauses, and at once when somebody opens
the file; what is wrong in a way that no other answer can mend is left alone.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from parsec_fs.protocol.errors import LocalError
from parsec_fs.protocol.ids import Hash, ObjectId
from parsec_fs.protocol.manifests import FileManifest, decode_manifest
from parsec_fs.storage.realm_store import RealmStore
from parsec_fs.storage.realm_tables import StoredObject
from parsec_fs.workspace.nesting import flatten
from parsec_fs.workspace.opener import DAMAGE, Opener
from parsec_fs.workspace.payloads import Found, ReadNode
from parsec_fs.workspace.remote_changes import RemoteNode

log = logging.getLogger(__name__)

_LEAST_S: Final = 1.0
_PAUSE_FIRST_S: Final = 5.0
_PAUSE_LONGEST_S: Final = 600.0


class Mending:
    """The closed files of one realm."""

    def __init__(
        self,
        store: RealmStore,
        opener: Opener,
        *,
        read_node: ReadNode,
        in_tree: Callable[[ObjectId], bool],
    ) -> None:
        self.on_changes: Callable[[Found], None] = lambda found: None
        self._store = store
        self._opener = opener
        self._read_node = read_node
        self._in_tree = in_tree
        self._hopeless: set[Hash] = set()
        self._asked = trio.Event()

    def ask(self) -> None:
        """Somebody wants an object that does not open here."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        pause = _PAUSE_FIRST_S
        while True:
            left = await self.mend()
            pause = min(2 * pause, _PAUSE_LONGEST_S) if left else _PAUSE_FIRST_S
            with trio.move_on_after(pause):
                await self._asked.wait()
            self._asked = trio.Event()
            await trio.sleep(_LEAST_S)

    async def mend(self) -> int:
        """One look at every closed file; how many are still out of reach."""
        left = 0
        for id in self._store.closed():
            row = self._store.object(id)
            if row is None or row.kind or row.sealed is None or row.state.write in self._hopeless:
                continue
            try:
                await self._mend(row)
            except LocalError:
                left += 1
            except DAMAGE:
                self._hopeless.add(row.state.write)
        return left

    async def _mend(self, row: StoredObject) -> None:
        """Raises LocalError: not now; DAMAGE: never."""
        assert row.sealed is not None
        data = self._opener.open_bytes(row.sealed, row.id, row.state.version, row.author)
        nested = decode_manifest(data)
        if not isinstance(nested, FileManifest) or not nested.depth:
            self._hopeless.add(row.state.write)
            return
        manifest = await flatten(nested, self._read_node)
        flat = self._opener.seal_flat(manifest.refs, row.id)
        async with self._store.writing() as write:
            now = self._store.state(row.id)
            if now is None or now.write != row.state.write:
                return
            write.object(replace(row, kind=data[0], flat=flat))
        log.info("object %s opens now", row.id.hex())
        if self._in_tree(row.id):
            self.on_changes(Found(changes=[RemoteNode(id=row.id, manifest=manifest)]))
