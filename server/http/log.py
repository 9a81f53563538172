"""Commands of any log, org or realm: leaves, proofs and openings, with the newest head.

Data flow: signed request -> endpoint -> this -> log/reader -> leaves or proof, and head.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import ReadLeaves
from parsec_fs.protocol.proofs import ReadOpening, ReadProof
from server.http.endpoint import command
from server.http.services import Services


def routes(services: Services) -> list[Route]:
    """Data flow: device -> reader -> leaves or proof, and head -> replica."""
    reader = services.reader
    return [
        command(services, "/v1/log/leaves", ReadLeaves, reader.leaves),
        command(services, "/v1/log/proof", ReadProof, reader.proof),
        command(services, "/v1/log/opening", ReadOpening, reader.opening),
    ]
