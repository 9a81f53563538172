"""recovery/put, recovery/read: where a paper device finds its organization again.

Data flow: device that makes a kit -> this -> store -> this -> new machine that has only the words.

What is kept is public (trust anchor, user, a state of the org log), and worth nothing without the
words: they pin it by digest. Hence nobody is asked who he is, and the server is not believed.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import Nothing, Outcome
from parsec_fs.protocol.recoveries import PutRecovery, ReadRecovery, Recovery
from server.http.endpoint import command, open_command
from server.http.services import Services
from server.log.sequencer import Caller
from server.store import recovery


def routes(services: Services) -> list[Route]:
    """Data flow: device -> row for good -> whoever names the paper device."""
    most = services.config.quotas.recoveries

    async def put(caller: Caller, request: PutRecovery) -> Nothing | Outcome:
        stored = await services.database.write(
            lambda transaction: recovery.put(
                transaction,
                request.device,
                request.data,
                org=caller.org,
                author=caller.device,
                most=most,
            )
        )
        if stored is None:
            return Outcome.QUOTA
        return Nothing() if stored else Outcome.EXISTS

    async def read(request: ReadRecovery) -> Recovery | Outcome:
        data = await services.database.read(
            lambda transaction: recovery.get(transaction, request.device)
        )
        return Outcome.NOT_FOUND if data is None else Recovery(data=data)

    return [
        command(services, "/v1/recovery/put", PutRecovery, put),
        open_command(services, "/v1/recovery/read", ReadRecovery, read),
    ]
