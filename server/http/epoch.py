"""epoch/read: openings of published epochs.

Data flow: signed request -> endpoint -> this -> log/epochs -> openings.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import ReadEpochs
from server.http.endpoint import command
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: device -> epoch reader -> openings -> audit."""
    return [command(services, "/v1/epoch/read", ReadEpochs, services.epochs.read)]
