"""An ordinary file manager works on the mount, and shows what another device does in it.

Data flow: keys -> Thunar on a screen that nobody sees -> alice's mount -> server -> bob's mount.

Thunar only: scripts/file_managers drives Nautilus as well, and keeps pictures.
"""

from tests.support.desktop import require_desktop
from tests.support.file_manager_steps import visit
from tests.support.file_managers import Thunar
from tests.support.product import product
from tests.support.requirements import require_fuse


def test_thunar_on_the_mount_of_two_devices() -> None:
    require_fuse()
    require_desktop(Thunar.program, "mousepad")
    with product() as server, visit(Thunar, server) as prepared:
        for step in prepared.steps.values():
            step()
