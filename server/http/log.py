"""log/leaves: leaves of the org log or of a realm, and the newest head.

Data flow: signed request -> endpoint -> this -> log/reader -> leaves and head.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import ReadLeaves
from server.http.endpoint import command
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: device -> reader -> leaves and head -> replica."""
    return [command(services, "/v1/log/leaves", ReadLeaves, services.reader.leaves)]
