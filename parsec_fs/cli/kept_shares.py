"""The shares of colleagues' kits that this device keeps: one file each, in one folder.

Data flow: file that checks -> `keep_share` -> folder -> `read_kept` -> shares, and damaged files.

One person gets one share of a kit. So a second file for a kit that is kept already is refused, not
put into the place of the first: whoever stole the owner's device can sign one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from parsec_fs.cli.exit_codes import CommandError, ExitCode
from parsec_fs.device_file import replace_private
from parsec_fs.plain_text import plain_name
from parsec_fs.protocol.errors import DataError, VerificationError
from parsec_fs.protocol.ids import OrgId
from parsec_fs.protocol.membership import OrgState
from parsec_fs.sealed_shares import FILE_MAX_SIZE, SealedShare, check_share_file

SUFFIX: Final = ".share"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """A file, the bytes that were checked, and what they say."""

    path: Path
    data: bytes
    share: SealedShare


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What lies in the folder, each in order of names. Damaged: unreadable, or it does not check
    any more; such a file takes none of the others away."""

    files: tuple[KeptFile, ...] = ()
    damaged: tuple[Path, ...] = ()


def read_share_file(path: Path) -> bytes:
    """At most one byte more than such a file may have. Raises OSError."""
    with path.open("rb") as file:
        return file.read(FILE_MAX_SIZE + 1)


def read_kept(folder: Path, org: OrgState, *, expected_org: OrgId) -> Kept:
    """Checked again: the disk may have changed since."""
    files: list[KeptFile] = []
    damaged: list[Path] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            data = read_share_file(path)
            share = check_share_file(data, org, expected_org=expected_org)
        except (OSError, DataError, VerificationError):
            damaged.append(path)
        else:
            files.append(KeptFile(path=path, data=data, share=share))
    return Kept(files=tuple(files), damaged=tuple(damaged))


def keep_share(folder: Path, data: bytes, share: SealedShare, org: OrgState) -> Path:
    """Keep a file that was checked, durable when this returns; a damaged one makes room for it.
    Raises CommandError: another file of this kit is kept, and stays."""
    for one in read_kept(folder, org, expected_org=share.org).files:
        if one.share.kit == share.kit and one.data == data:
            return one.path
        if one.share.kit == share.kit:
            owner = plain_name(org.users[share.owner].name)
            raise CommandError(
                ExitCode.BUSY,
                f"you keep another file for this kit of {owner}: {one.path}. It stays, and nothing "
                f"else was kept: a thief of their device could have sent this one. Ask {owner}, in "
                "person, which one is right; if it is the new one, move the old one away and type "
                "this again",
            )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{share.kit.hex()}-{share.place}{SUFFIX}"
    replace_private(path, data)
    return path
