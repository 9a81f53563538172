"""org/create, org/append: founding an organization, adding users and devices.

Data flow: request -> endpoint -> this -> founding, log/sequencer -> head.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import AppendCertificate, CreateOrg
from server.http.endpoint import MEDIUM, command, open_command
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: device -> sequencer -> org log."""
    sequencer = services.sequencer
    return [
        open_command(services, "/v1/org/create", CreateOrg, services.founder.found, limit=MEDIUM),
        command(services, "/v1/org/append", AppendCertificate, sequencer.append_org, limit=MEDIUM),
    ]
