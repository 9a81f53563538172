"""What the control socket of a daemon answers.

Data flow: control -> one handler per command -> sync, auditor, facts -> JSON.
"""

from collections.abc import Callable, Mapping
from typing import Final

import trio

from parsec_fs.audit.auditor import Auditor
from parsec_fs.conflict_count import ConflictCount
from parsec_fs.control import Handler, Json, Progress
from parsec_fs.facts import WorkspaceFacts
from parsec_fs.history import History
from parsec_fs.protocol.errors import InputError, VerificationError
from parsec_fs.protocol.ids import UserId
from parsec_fs.workspace.assembly import Workspace

_LOOK_S: Final = 0.02
_TELL_S: Final = 0.25


class DaemonCommands:
    """Handlers of one mounted workspace."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        auditor: Auditor,
        facts: WorkspaceFacts,
        history: History,
        conflicts: ConflictCount,
        idle_s: Callable[[], float],
    ) -> None:
        self._workspace = workspace
        self._auditor = auditor
        self._facts = facts
        self._history = history
        self._conflicts = conflicts
        self._idle_s = idle_s

    def table(self) -> Mapping[str, Handler]:
        """By name."""
        return {
            "status": self.status,
            "wait": self.wait,
            "log": self.log,
            "verify": self.verify,
            "proof": self.proof,
            "share": self.share,
            "members": self.members,
            "authors": self.authors,
            "idle": self.idle,
        }

    async def status(self, parameters: Json, progress: Progress) -> Json:
        """State of the workspace; with `files` the names of what is not logged, with
        `conflicts` how many copies there are, null while they are being counted."""
        document = self._facts.document()
        if parameters.get("conflicts"):
            document["conflicts"] = await self._conflicts.now()
        if parameters.get("files"):
            document["files"] = self._history.pending()
        return document

    async def wait(self, parameters: Json, progress: Progress) -> Json:
        """Until all changes made so far reach a state. Raises TimeoutError, VerificationError,
        DeviceRevokedError."""
        state = parameters.get("state")
        if state not in ("logged", "anchored", "audited"):
            raise InputError("wait for: logged, anchored or audited")
        limit = parameters.get("timeout_s")
        with trio.move_on_after(float("inf") if limit is None else float(limit)):
            await self._reach_logged(progress)
            if state != "logged":
                await self._reach(state, self._workspace.replica.size(), progress)
            return dict(self._facts.document()["changes"])
        raise TimeoutError(f"not {state} after {limit} s: {self._what_is_left(state)}")

    def _what_is_left(self, state: str) -> str:
        """What stands between now and a state, and what the device knows of the cause."""
        document = self._facts.document()
        changes, trouble = document["changes"], document["trouble"]
        logged, reached = changes["logged"], changes[state]
        left = [f"{changes['local']:,} changes are local"] * bool(changes["local"])
        left += [f"{logged - reached:,} records are logged but not {state}"] * (logged > reached)
        left += [trouble or self._auditor.client_state().reason or "see `parsec-fs status`"]
        return "; ".join(left)

    async def _reach_logged(self, progress: Progress) -> None:
        filesystem, sync = self._workspace.filesystem, self._workspace.sync
        filesystem.journal_open_files()
        filesystem.flush()
        target = filesystem.tree.position
        told = 0.0
        while sync.progress().logged_position < target or filesystem.held:
            self._check_can_be()
            if filesystem.held.needs_somebody():
                raise TimeoutError(f"not logged: {self._what_is_left('logged')}")
            sync.wake()
            if trio.current_time() > told + _TELL_S:
                told = trio.current_time()
                now = sync.progress()
                trouble = f" ({now.trouble})" if now.trouble else ""
                await progress({"text": f"uploading, {now.pending:,} changes to go{trouble}"})
            await trio.sleep(_LOOK_S)

    async def _reach(self, state: str, size: int, progress: Progress) -> None:
        """Until that many records are anchored, or audited."""
        facts = self._facts
        reached = facts.audited_size if state == "audited" else facts.anchored_size
        told = 0.0
        while reached() < size:
            self._check_can_be()
            self._auditor.kick()
            if trio.current_time() > told + _TELL_S:
                told = trio.current_time()
                left = f"{size - reached():,} records are not {state} yet"
                await progress({"text": f"waiting for the next epoch, {left}"})
            await trio.sleep(_LOOK_S)

    def _check_can_be(self) -> None:
        """Nothing that a convicted server, or a revoked device, waits for ever comes."""
        self._workspace.sync.standing.check_member()
        if self._auditor.convicted:
            raise VerificationError(self._auditor.client_state().reason)

    async def log(self, parameters: Json, progress: Progress) -> Json:
        """Versions of an object, newest first."""
        return {"versions": self._history.versions(int(parameters["inode"]))}

    async def verify(self, parameters: Json, progress: Progress) -> Json:
        """Audit now; what was verified."""
        await progress({"text": "auditing"})
        await self._auditor.audit_once()
        return self._history.report()

    async def proof(self, parameters: Json, progress: Progress) -> Json:
        """The newest audited version of an object, provable offline."""
        label = str(parameters.get("label", "")).encode()
        proof = await self._history.proof(int(parameters["inode"]), label)
        qualifiers = list(self._auditor.client_state().qualifiers)
        return {"proof": proof.hex(), "qualifiers": qualifiers}

    async def share(self, parameters: Json, progress: Progress) -> Json:
        """Give or take a role."""
        user, role = UserId(bytes.fromhex(parameters["user"])), int(parameters["role"])
        changed = await self._workspace.sharing.set_role(user, role)
        return {"changed": changed, "key": self._workspace.keys.newest().index}

    async def members(self, parameters: Json, progress: Progress) -> Json:
        """Who may do what, as far as the log is known here."""
        return {"members": self._facts.members()}

    async def idle(self, parameters: Json, progress: Progress) -> Json:
        """Seconds since the mount was used."""
        return {"idle_s": self._idle_s()}

    async def authors(self, parameters: Json, progress: Progress) -> Json:
        """Whose versions conflict copies with these labels are, seen from this device."""
        labels = {str(one) for one in parameters.get("labels", ())}
        return {"authors": {one: self._facts.conflict_author(one) for one in labels}}
