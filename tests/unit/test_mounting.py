"""Where many workspaces are mounted, and what a service's unit says, whatever they are called."""

import shutil
import subprocess
from pathlib import Path

import pytest

from parsec_fs.cli.exit_codes import CommandError
from parsec_fs.cli.mounting import places
from parsec_fs.cli.service import unit_name, unit_text
from parsec_fs.config import Home
from parsec_fs.directory import Workspace
from parsec_fs.protocol.ids import RealmId
from tests.support.service_manager import setting, words

PARENT = Path("/mnt/all")


def workspace(name: str, number: int) -> Workspace:
    return Workspace(realm=RealmId(bytes([number]) * 32), name=name.encode())


@pytest.mark.parametrize(
    "name", ["../../etc", "..", ".", "/etc/passwd", "a/b", " ", "\n", "x" * 300, "\u00e4" * 200]
)
def test_a_name_leads_to_one_new_folder_in_the_parent(name: str) -> None:
    ((_, place),) = places([workspace(name, 1)], PARENT)
    assert place.parent == PARENT
    assert place.name not in ("", ".", "..")
    assert len(place.name.encode()) <= 255


def test_workspaces_of_one_name_get_folders_of_their_own() -> None:
    found = places([workspace("notes", 1), workspace("notes", 2), workspace("other", 3)], PARENT)
    assert [place.name for _, place in found] == ["notes 01010101", "notes 02020202", "other"]


def test_names_and_ids_that_somebody_chose_put_nothing_in_the_place_of_another() -> None:
    """Two ids that begin alike, and a name that is what one of the others would be called."""
    twins = [Workspace(realm=RealmId(b"\xaa" * 4 + bytes([n]) * 28), name=b"Team") for n in (1, 2)]
    third = Workspace(realm=RealmId(b"\x03" * 32), name=b"Team aaaaaaaa")
    found = [place for _, place in places([*twins, third], PARENT)]
    assert len(set(found)) == 3
    assert PARENT / "Team aaaaaaaa" not in found
    assert all(len(place.name.encode()) <= 255 for place in found)


def test_a_unit_calls_the_same_words(tmp_path: Path) -> None:
    place = tmp_path / 'a "b" $HOME 100% \\ c'
    mount = ["--home", "/h", "mount", "ab", str(place)]
    unit = tmp_path / "unit.service"
    unit.write_text(unit_text(Home(root=Path("/h")), workspace("%n\\", 1), place, mount))
    assert words(setting(unit, "ExecStart"))[3:] == [*mount, "--foreground"]
    assert words(setting(unit, "ExecStop"))[3:] == ["--home", "/h", "umount", "01" * 32]


def test_a_folder_with_a_newline_gets_no_unit() -> None:
    place = Path("/mnt/a\nExecStart=/bin/evil")
    with pytest.raises(CommandError, match="control characters"):
        unit_text(Home(root=Path("/h")), workspace("w", 1), place, ["mount", str(place)])


def test_systemd_finds_nothing_wrong_with_a_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    home, one = Home(root=Path("/h")), workspace("100% \\ $HOME", 1)
    unit = tmp_path / unit_name(home, one)
    unit.write_text(unit_text(home, one, Path('/mnt/100% "x"'), ["mount", '/mnt/100% "x"']))
    command = ["systemd-analyze", "--user", "verify", str(unit)]
    done = subprocess.run(
        command, env={"XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    assert said == []
