"""A device's line to a server that lies about snapshots, and about nothing else.

Data flow: real server -> the whole snapshot -> `lie` -> the device, page by page.
"""

from collections.abc import Callable

from parsec_fs.protocol.ids import DeviceId, ObjectId, RealmId
from parsec_fs.protocol.snapshots import SnapshotItem, SnapshotPage, SnapshotStart
from parsec_fs.remote.server_client import ServerClient
from tests.support.honest_snapshots import Told

Lie = Callable[[Told], Told]
_ALL = 10_000


class LyingClient(ServerClient):
    """`told` is what the device has been told last."""

    def __init__(self, client: ServerClient, lie: Lie) -> None:
        vars(self).update(vars(client))
        self._lie = lie
        self.told: Told | None = None

    async def read_snapshot(self, realm: RealmId, vouchers: tuple[DeviceId, ...]) -> SnapshotStart:
        """The real one, twisted."""
        start = await super().read_snapshot(realm, vouchers)
        size = start.last.index + 1
        items: list[SnapshotItem] = []
        more = True
        while more:
            page = await super().read_snapshot_page(
                realm, size, tuple(one.object for one in items[-1:]), _ALL
            )
            items += page.items
            more = bool(page.more)
        self.told = self._lie(Told(start=start, items=tuple(items)))
        return self.told.start

    async def read_snapshot_page(
        self, realm: RealmId, size: int, after: tuple[ObjectId, ...], most: int
    ) -> SnapshotPage:
        """The next few items of the lie."""
        assert self.told is not None
        rest = [one for one in self.told.items if not after or one.object > after[0]]
        return SnapshotPage(items=tuple(rest[:most]), more=int(len(rest) > most))
