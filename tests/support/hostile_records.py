"""Records that no honest server would append, written past all decisions into its database.

Data flow: control -> this -> rows as the real store writes them -> the real application goes on.
"""

from parsec_fs.protocol.ids import RealmId
from parsec_fs.protocol.records import CERTIFICATE, Context
from server.decisions.effects import LogChange, next_leaf
from server.log.books import newest_realm
from server.store import logs
from server.store.database import Database, Transaction
from server.store.server_row import due_epoch
from tests.support.weakened import believe_role, role_of


async def append_again(
    database: Database, realm: RealmId, number: int, *, context: Context, now_ms: int
) -> None:
    """Append an old role certificate, byte for byte; maps and roots follow from believing it."""

    def write(transaction: Transaction) -> None:
        state = newest_realm(transaction, realm, None, context=context)
        assert state is not None
        body = logs.certificates(transaction, state.context.log)[number]
        leaf = next_leaf(
            state.position,
            CERTIFICATE,
            body,
            map_root=state.map.root(),
            org_size=state.position.org_size,
            now_ms=now_ms,
        )
        after = believe_role(None, state, leaf).state
        role = role_of(body)
        change = LogChange(
            context=state.context,
            position=after.position,
            map_root=after.map.root(),
            leaves=(leaf,),
            roles={role.user: role.role},
        )
        logs.append(transaction, change, due_epoch=due_epoch(transaction))

    await database.write(write)
