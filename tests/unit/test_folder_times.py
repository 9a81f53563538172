"""A folder shows the times of its latest change, whichever object carries them (rule 11)."""

from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import names
from parsec_fs.workspace.nodes import TYPE_FOLDER
from parsec_fs.workspace.times import NEVER, latest
from tests.support.trees import World


def test_a_modification_time_set_back_later_wins_over_an_older_page():
    page, attributes = (2_000, 2_000), (5, 3_000)
    assert latest(attributes, page) == attributes


def test_a_name_added_later_wins_over_the_attributes():
    page, attributes = (4_000, 4_000), (5, 3_000)
    assert latest(attributes, page) == page


def test_anything_is_later_than_never():
    assert latest(NEVER, (-7, -7)) == (-7, -7)


def make(world: World, *folder: bytes) -> None:
    *above, name = folder
    inode = world.folder(*above).inode
    world.call(names.create, inode, name, TYPE_FOLDER | 0o755, owner=(0, 0), now=world.now)


def log(world: World) -> None:
    capture = world.capture()
    world.store.take(capture)
    captures.logged(world.tree, capture)
    world.records = [one for one in world.records if one[0] > capture.position]


def test_a_replayed_rename_of_a_folder_leaves_its_modification_time():
    """It sets the change time alone: the time of the newest name below is in a page."""
    world = World()
    for folder in ((b"a",), (b"a", b"below")):
        make(world, *folder)
        log(world)
    world.call(names.rename, 1, b"a", 1, b"b", flags=0, uid=0, now=world.now)
    assert World(world.store, world.records).visible() == world.visible()
