"""The maps of an epoch as immutable values that follow from those of the epoch before.

Data flow: states cut in an epoch -> `OrgAt.after`, `orgs_after` -> roots in the epoch leaf, proofs.

Pure. `parsec_fs.protocol.epochs` defines what is hashed; here it is only kept up to date.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from parsec_fs.protocol.commands import LogOpening
from parsec_fs.protocol.epochs import log_state_hash
from parsec_fs.protocol.hashing import log_map_key, org_map_key
from parsec_fs.protocol.ids import Hash, LogId, OrgId
from parsec_fs.protocol.prefix_map import PrefixMap
from parsec_fs.protocol.records import LogState


@dataclass(frozen=True, slots=True, kw_only=True)
class OrgAt:
    """An organization at an epoch: the states of its logs, and the map over them."""

    org: OrgId
    map: PrefixMap = field(default_factory=PrefixMap)
    states: Mapping[LogId, LogState] = field(default_factory=lambda: MappingProxyType({}))

    def after(self, changed: Iterable[LogState]) -> "OrgAt":
        """With the states that an epoch cut."""
        new = {state.log: state for state in changed}
        if not new:
            return self
        return OrgAt(
            org=self.org,
            map=self.map.set_many(
                (log_map_key(self.org, log), log_state_hash(state)) for log, state in new.items()
            ),
            states=MappingProxyType({**self.states, **new}),
        )

    def open(self, log: LogId) -> LogOpening:
        """State of a log with its proof, or the proof that there is none."""
        state = self.states.get(log)
        proof = self.map.open(log_map_key(self.org, log))
        return LogOpening(state=() if state is None else (state,), proof=proof)


def orgs_after(orgs: PrefixMap, roots: Mapping[OrgId, Hash]) -> PrefixMap:
    """The map of organizations with the roots that an epoch changed."""
    return orgs.set_many((org_map_key(org), root) for org, root in roots.items())
