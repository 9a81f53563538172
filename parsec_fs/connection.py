"""What every program of an enrolled device opens first: server client, org store, org replica.

Data flow: Identity, Home -> this -> commands, daemon.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from parsec_fs.config import Home
from parsec_fs.identity import Author, Identity
from parsec_fs.protocol.keys import VerifyKey
from parsec_fs.remote.chain_node import HttpChainNode
from parsec_fs.remote.server_client import ServerClient
from parsec_fs.remote.sessions import Signer
from parsec_fs.remote.transport import HttpClients, Transport, http_client
from parsec_fs.storage.org_store import OrgStore
from parsec_fs.workspace.audit_view import Unaudited
from parsec_fs.workspace.org_replica import OrgReplica
from parsec_fs.workspace.replica_checks import REPLICA_CHECKS, ReplicaChecks


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Open doors of one device; `author` signs with an incarnation of this process (rule 1)."""

    identity: Identity
    nodes: tuple[HttpChainNode, ...]
    signer: Signer
    server: ServerClient
    store: OrgStore
    org: OrgReplica
    author: Author


@asynccontextmanager
async def connect(
    home: Home,
    identity: Identity,
    *,
    checks: ReplicaChecks = REPLICA_CHECKS,
    clients: HttpClients = http_client,
) -> AsyncIterator[Connection]:
    """Opens files, but sends nothing yet; works offline."""
    anchor, secrets = identity.anchor, identity.secrets
    store = OrgStore(home.org_database, anchor.org)
    try:
        async with clients() as http:
            signer = Signer(
                Transport(http, anchor.server_url.decode()),
                server_log=anchor.server.server_log,
                org=anchor.org,
                device=secrets.device,
                key=secrets.signing_key(),
            )
            server = ServerClient(
                signer,
                context=anchor.context(),
                head_key=VerifyKey(anchor.server.head_key),
                random=os.urandom,
            )
            org = OrgReplica(
                store,
                server,
                genesis=anchor.genesis,
                audit=Unaudited(),
                pins=identity.pins,
                checks=checks,
            )
            yield Connection(
                identity=identity,
                nodes=tuple(HttpChainNode(url.decode(), http) for url in anchor.rpc_urls),
                signer=signer,
                server=server,
                store=store,
                org=org,
                author=Author(secrets=secrets, incarnation=os.urandom(16), random=os.urandom),
            )
    finally:
        store.close()
