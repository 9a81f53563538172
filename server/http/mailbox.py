"""mailbox/put, mailbox/read: where a joining device and its inviter leave sealed messages.

Data flow: one device -> this -> store -> this -> the other device.

The server sees an address, a slot and opaque bytes; both sides authenticate inside (rule 25).
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import Mail, Nothing, Outcome, PutMail, ReadMail
from parsec_fs.protocol.limits import KIB
from server.http.endpoint import SMALL, open_command
from server.http.services import Services
from server.store import mail


def routes(services: Services) -> list[Route]:
    """Data flow: device -> row that expires -> other device."""
    quotas, timing = services.config.quotas, services.config.timing

    async def put(request: PutMail) -> Nothing | Outcome:
        if len(request.data) > quotas.mail_bytes:
            return Outcome.TOO_LARGE
        now_ms = services.wall_ms()
        stored = await services.database.write(
            lambda transaction: mail.put(
                transaction,
                request.address,
                request.slot,
                request.data,
                now_ms=now_ms,
                expires_ms=now_ms + 1000 * timing.mail_s,
                most=quotas.mails,
            )
        )
        if stored is None:
            return Outcome.QUOTA
        return Nothing() if stored else Outcome.EXISTS

    async def read(request: ReadMail) -> Mail | Outcome:
        now_ms = services.wall_ms()
        data = await services.database.read(
            lambda transaction: mail.get(transaction, request.address, request.slot, now_ms=now_ms)
        )
        return Outcome.NOT_FOUND if data is None else Mail(data=data)

    return [
        open_command(services, "/v1/mailbox/put", PutMail, put, limit=SMALL + KIB),
        open_command(services, "/v1/mailbox/read", ReadMail, read),
    ]
