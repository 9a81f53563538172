"""P9: one device key signed for two histories of one log in one run of its program.

Data flow: two signed records -> evidence file -> `check_equivocation` with the own anchor.

A device moves forward only and draws an incarnation at every start, so an honest one never signs,
under one incarnation, two records that saw the same size with different roots. Who does has been
duplicated or stolen; that is all that is said (rule 31). Two records with one sequence number prove
nothing by themselves: a refused record is replaced under the same number (rule 15).
"""

from dataclasses import dataclass

from parsec_fs.audit.transitions import Body, OrgLog, valid_org
from parsec_fs.audit.verdict import Kind, NotProvenError, Verdict
from parsec_fs.identity import TrustAnchor
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.certificates import verify_certificate
from parsec_fs.protocol.codec import U8
from parsec_fs.protocol.commits import verify_commit
from parsec_fs.protocol.errors import DataError
from parsec_fs.protocol.ids import DeviceId, LogId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.protocol.records import CERTIFICATE, COMMIT, DeviceHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRecord:
    """A signed record as it stands in a leaf; whether any log holds it does not matter."""

    kind: U8
    body: Body


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEquivocation:
    """P9. `org` shows whose key it is."""

    org: OrgLog
    log: LogId
    device: DeviceId
    first: DeviceRecord
    second: DeviceRecord


def check_equivocation(unverified: DeviceEquivocation, anchor: TrustAnchor) -> Verdict:
    """Raises DataError, VerificationError; NotProvenError if an honest device could do this."""
    org = valid_org(unverified.org, anchor)
    first, second = (
        _header(one, unverified, org, anchor) for one in (unverified.first, unverified.second)
    )
    if first.incarnation != second.incarnation:
        raise NotProvenError("two runs of the program: a restored device, not two at once")
    if first.seen.size != second.seen.size:
        raise NotProvenError("the records saw different sizes, which one history allows")
    if (first.seen.log_root, first.seen.map_root) == (second.seen.log_root, second.seen.map_root):
        raise NotProvenError("both records saw the same history")
    user = org.users[org.device(unverified.device).device.user]
    label = plain_name(org.device(unverified.device).device.label)
    name = plain_name(user.name)
    return Verdict(
        kind=Kind.DEVICE_EQUIVOCATION,
        blamed=f"device {label} of {name}: duplicated or stolen",
        details=(f"records {first.sequence} and {second.sequence} at {first.seen.size} leaves",),
    )


def _header(
    record: DeviceRecord, unverified: DeviceEquivocation, org: OrgState, anchor: TrustAnchor
) -> DeviceHeader:
    key = org.device(unverified.device).key
    context = anchor.context(unverified.log)
    if record.kind == COMMIT:
        commit = verify_commit(record.body, key=key, expected_context=context).commit
        header = commit.header
    elif record.kind == CERTIFICATE:
        header = verify_certificate(record.body, key=key, expected_context=context).header
    else:
        raise DataError("this kind of leaf holds no device's record")
    if header.device != unverified.device:
        raise DataError("equivocation: record of another device")
    return header
