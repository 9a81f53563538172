"""The commands of a realm: create, append, commit, observe, payloads, box, snapshots, list.

Data flow: signed request -> endpoint -> this -> log/sequencer, log/reader -> answer.
"""

from starlette.routing import Route

from parsec_fs.protocol.commands import (
    STORAGE_FULL,
    AppendCertificate,
    CommitBatch,
    CreateRealm,
    Nothing,
    Observe,
    Observed,
    Outcome,
    ReadBox,
    ReadPayloads,
    RealmList,
)
from parsec_fs.protocol.snapshots import ReadSnapshot, ReadSnapshotPage
from server.http.endpoint import LARGE, MEDIUM, Refused, command
from server.http.services import Services
from server.log.sequencer import Caller


def routes(services: Services) -> list[Route]:
    """Data flow: device -> sequencer, stamps or reader -> realm log."""
    sequencer, reader = services.sequencer, services.reader

    async def commit(caller: Caller, batch: CommitBatch) -> object:
        result = await sequencer.commit(caller, batch)
        if result is Outcome.QUOTA:
            return Refused(outcome=result, status=STORAGE_FULL)
        return result

    async def observe(caller: Caller, request: Observe) -> Observed | Outcome:
        if services.stamp_limits.take(caller) is None:
            return Outcome.QUOTA
        return await services.stamps.observe(caller, request)

    async def list_realms(caller: Caller, _request: Nothing) -> RealmList | Outcome:
        return await reader.realms(caller)

    return [
        command(services, "/v1/realm/create", CreateRealm, sequencer.create_realm, limit=MEDIUM),
        command(
            services, "/v1/realm/append", AppendCertificate, sequencer.append_realm, limit=MEDIUM
        ),
        command(services, "/v1/realm/commit", CommitBatch, commit, limit=LARGE),
        command(services, "/v1/realm/observe", Observe, observe),
        command(services, "/v1/realm/payloads", ReadPayloads, reader.payloads, limit=MEDIUM),
        command(services, "/v1/realm/box", ReadBox, reader.box),
        command(services, "/v1/realm/snapshot", ReadSnapshot, reader.snapshot),
        command(services, "/v1/realm/objects", ReadSnapshotPage, reader.objects),
        command(services, "/v1/realm/list", Nothing, list_realms),
    ]
