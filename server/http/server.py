"""server/info: what the server says of itself; the only thing that it says before it is open.

Data flow: anybody -> this -> registration and chain id.
"""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from parsec_fs.protocol.commands import ServerInfo
from server.http.endpoint import answer
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: anyone -> registration, chain id, time."""

    async def info(_request: Request) -> Response:
        return answer(
            ServerInfo(
                registration=services.identity.registration,
                chain_id=services.config.chain_id,
                time_ms=services.wall_ms(),
            )
        )

    return [Route("/v1/server/info", info, methods=["POST"])]
