"""Ordinary file managers work on the mount, and show what another device does in it.

Data flow: keys -> a file manager on a screen that nobody sees -> alice's mount -> server -> bob's
    mount.

scripts/file_managers takes the same steps. Pictures of them, also of the screen at which a step
failed, lie in the test's folder (below pytest's --basetemp or /tmp/pytest-of-USER).
"""

from pathlib import Path

import pytest

from tests.support.desktop import require_desktop
from tests.support.file_manager_steps import visit
from tests.support.file_managers import FILE_MANAGERS
from tests.support.product import product
from tests.support.requirements import require_fuse


@pytest.mark.parametrize("program", FILE_MANAGERS)
def test_a_file_manager_on_the_mount_of_two_devices(program: str, tmp_path: Path) -> None:
    require_fuse()
    require_desktop(program, "mousepad")
    with product() as server, visit(FILE_MANAGERS[program], server, tmp_path) as prepared:
        for step in prepared.steps.values():
            step()
