"""What a running daemon knows about its workspace and about each object: status, xattrs.

Data flow: sync, auditor, stores -> this -> mount (`.status`, xattrs), control socket -> people.

The words are those of data on its way: local, uploaded, logged, anchored, audited. Anchored means
that the light client saw the checkpoint final and that its opening covers this place of the log;
audited, that the log up to there was compared with this device's own. A word is never better than
what was verified: what cannot be reached is not shown as fine.
"""

import json
import os
from typing import Any, Final

from parsec_fs.audit.auditor import Auditor
from parsec_fs.authors import judge
from parsec_fs.connection import Connection
from parsec_fs.directory import Workspace as NamedWorkspace
from parsec_fs.held_files import held_files
from parsec_fs.people import members_of
from parsec_fs.people_log import author, device_document
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.ids import DeviceId, ObjectId
from parsec_fs.recovery import kits_of
from parsec_fs.workspace.assembly import Workspace
from parsec_fs.workspace.nodes import FileNode

Json = dict[str, Any]
_S: Final = 1_000_000_000
PREFIX: Final = b"user.parsec."


class WorkspaceFacts:
    """One mounted workspace."""

    def __init__(
        self,
        named: NamedWorkspace,
        mountpoint: str,
        *,
        connection: Connection,
        workspace: Workspace,
        auditor: Auditor,
    ) -> None:
        self._named = named
        self._mountpoint = mountpoint
        self._org = connection.org
        self._device = connection.identity.secrets.device
        self._workspace = workspace
        self._auditor = auditor
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        """Something that people must see in the status until the next mount."""
        self._notes.append(text)

    @property
    def title(self) -> str:
        """The workspace's name for people."""
        return self._named.title

    # Objects

    def state_word(self, id: ObjectId) -> str:
        """local, uploaded, logged, anchored or audited."""
        tree = self._workspace.filesystem.tree
        if tree.is_dirty(id):
            # Blocks of what is in the outbox were uploaded before it was signed (rule 21). What has
            # none is sent with the commit: nothing of it is beyond this device before.
            signed = id in tree.flying_nodes and not self._workspace.store.outbox.empty()
            node = tree.nodes.get(id)
            return "uploaded" if signed and type(node) is FileNode and node.blocks else "local"
        index = self._workspace.sync.logged_index(id)
        if index is None:
            return "local"
        return self.record_word(index)

    def record_word(self, index: int) -> str:
        """logged, anchored or audited: a record of this workspace's log."""
        if index < self.audited_size():
            return "audited"
        return "anchored" if index < self.anchored_size() else "logged"

    def anchored_size(self) -> int:
        """Leaves of this workspace's log that a final checkpoint covers; at least the audited."""
        replica = self._workspace.replica
        return min(self._auditor.anchored_index(replica.log), replica.size())

    def audited_size(self) -> int:
        """Leaves of this workspace's log that are anchored and audited."""
        return self._auditor.verified_index(self._workspace.replica.log)

    def is_audited(self, id: ObjectId) -> bool:
        """Was the newest stored version of this object verified?"""
        state = self._workspace.store.state(id)
        return state is not None and state.write_index < self.audited_size()

    def author(self, id: ObjectId) -> str | None:
        """Who wrote the newest logged version: user and device."""
        found = self._workspace.store.object(id)
        return None if found is None else self.person(found.author)

    def person(self, device: DeviceId) -> str:
        """A device and its user, for people."""
        return author(device_document(device, self._org.state))

    def people_of(self, device: DeviceId) -> Json:
        """The same for programs: `name` and `email` of the user, and the `device`."""
        return device_document(device, self._org.state)

    def members(self) -> list[Json]:
        """Who may do what in this workspace, the most powerful first."""
        return members_of(self._org.state, self._workspace.replica.state)

    def xattr(self, id: ObjectId, name: bytes) -> bytes | None:
        """Value of a virtual attribute, or None."""
        if name == PREFIX + b"state":
            return self.state_word(id).encode()
        if name == PREFIX + b"author":
            author = self.author(id)
            return None if author is None else author.encode()
        if name == PREFIX + b"version":
            state = self._workspace.store.state(id)
            return None if state is None else str(state.version).encode()
        if name == PREFIX + b"verified_epoch" and self.is_audited(id):
            return str(self._auditor.epochs - 1).encode()
        return None

    # The workspace

    def conflict_author(self, label: str) -> Json:
        """Whose version a conflict copy with this label is: `whose` is mine, theirs, unsure or
        unknown; `name`, `email` and `device` are empty where several are meant."""
        found = judge(self._org.state, self._device, label)
        told = [device_document(one.device, self._org.state) for one in found.devices]
        common = {
            key: values.pop() if len(values := {one[key] for one in told}) == 1 else ""
            for key in ("name", "email", "device")
        }
        return {"whose": str(found.whose), **common, "of": [author(one) for one in told]}

    def _kits(self) -> list[str]:
        """Names of this user's recovery kits."""
        org = self._org.state
        entry = org.devices.get(self._device)
        return [plain_name(one.label) for one in kits_of(org, entry.device.user)] if entry else []

    def document(self) -> Json:
        """Everything that `status` shows."""
        progress = self._workspace.sync.progress()
        held = held_files(self._workspace.filesystem, self._mountpoint)
        return {
            "name": self._named.title,
            "id": self._named.realm.hex(),
            "mountpoint": self._mountpoint,
            "pid": os.getpid(),
            "device": plain_name(self._org.state.device(self._device).device.label),
            "recovery": self._kits(),
            "state": self._state([one["note"] for one in held]),
            "changes": {
                "local": progress.pending,
                "logged": progress.log_size,
                "anchored": self.anchored_size(),
                "audited": self.audited_size(),
                "pending_bytes": self._workspace.contents.files.pending_size,
            },
            "held": held,
            "online": progress.online,
            "revoked": self._workspace.sync.standing.revoked,
            "trouble": progress.trouble,
        }

    def _state(self, held: list[str]) -> Json:
        state = self._auditor.client_state()
        progress = self._workspace.sync.progress()
        notes = [*self._notes, state.reason] if state.reason else list(self._notes)
        notes += [progress.trouble] if progress.trouble not in ("", state.reason) else []
        notes += held
        notes += [problem] if (problem := self._workspace.filesystem.room.problem()) else []
        notes += [f"evidence: {one}" for one in state.evidence]
        return {
            "word": str(state.word),
            "qualifiers": list(state.qualifiers),
            "epochs": state.epochs,
            "age_s": round(state.age_ns / _S, 1),
            "frozen": state.frozen,
            "evidence": list(state.evidence),
            "notes": notes,
        }

    def status_text(self) -> bytes:
        """For people: `.status` in the mount."""
        document = self.document()
        changes = document["changes"]
        lines = [
            f"workspace  {document['name']}",
            *["revoked: what this device shows was verified before"] * document["revoked"],
            *self._auditor.client_state().text().splitlines(),
            f"changes    {changes['local']} on this device only",
            f"log        {changes['logged']} records, {changes['anchored']} of them anchored, "
            f"{changes['audited']} audited",
            f"server     {'connected' if document['online'] else 'not connected'}",
            *(f"note       {note}" for note in document["state"]["notes"]),
        ]
        return ("\n".join(lines) + "\n").encode()

    def status_json(self) -> bytes:
        """For programs: `.status.json` in the mount."""
        return (json.dumps(self.document(), indent=2) + "\n").encode()
