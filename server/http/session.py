"""session/open: a device gets a nonce to sign its requests with (rule 33).

Data flow: device -> this -> sessions -> nonce for its signatures.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import OpenSession, SessionOpened
from server.http.endpoint import open_command
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: device -> session -> `sessions.authenticate` of every later request."""

    async def open_session(request: OpenSession) -> SessionOpened:
        org = await services.reader.org(request.org)
        entry = None if org is None else org.devices.get(request.device)
        return services.sessions.open(request, None if entry is None else entry.key)

    return [open_command(services, "/v1/session/open", OpenSession, open_session)]
