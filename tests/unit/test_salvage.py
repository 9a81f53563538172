"""What lay behind damage in the journal comes back as files of their own, and changes nothing else.

Data flow: records of one device's life -> the part behind a gap -> `salvage` -> a tree without it.
"""

from typing import Any

from parsec_fs.workspace import capture as captures
from parsec_fs.workspace import files, names, records
from parsec_fs.workspace.nodes import ROOT_INODE, FileNode
from parsec_fs.workspace.salvage import salvage
from tests.support.trees import World, content_of

OWNER = (0, 0)
RECOVERED = b"recovered"


def lived() -> World:
    """A device with two files, one of them renamed, one changed in place."""
    world = World()
    for name, content in ((b"letter", b"dear all"), (b"draft", b"first words")):
        node = world.call(names.make_file, ROOT_INODE, name, 0o644, OWNER, world.now)
        world.call(files.write, node, 0, content, world.now)
        files.journal_content(world.tree, node)
    how = {"flags": 0, "uid": 0, "now": world.now}
    world.call(names.rename, ROOT_INODE, b"draft", ROOT_INODE, b"final", **how)
    return world


def recovered(world: World, behind: list[tuple[int, Any]]) -> dict[bytes, bytes]:
    """Name and content of every file in the folder that is made."""
    made = world.call(salvage, behind, RECOVERED, world.now)
    folder = world.tree.lookup(ROOT_INODE, RECOVERED)
    if folder is None:
        assert made == []
        return {}
    found = {
        name: world.look(world.folder(RECOVERED), name)
        for name in world.folder(RECOVERED).children or {}
    }
    assert set(made) == set(found.values())
    return {
        name: content_of(world, node) for name, node in found.items() if isinstance(node, FileNode)
    }


def test_files_come_back_under_their_last_names() -> None:
    assert recovered(World(), lived().records) == {b"letter": b"dear all", b"final": b"first words"}


def test_content_without_a_name_is_named_by_its_id() -> None:
    contents = [one for one in lived().records if one[1][0] not in (records.CREATE, records.MOVE)]
    found = recovered(World(), contents)
    assert sorted(found.values()) == [b"dear all", b"first words"]
    assert {len(name) for name in found} == {32}


def test_without_content_there_is_nothing_to_recover() -> None:
    only_names = [one for one in lived().records if one[1][0] in (records.CREATE, records.MOVE)]
    assert recovered(World(), only_names) == {}
    assert recovered(World(), []) == {}


def test_what_is_there_stays_as_it_is() -> None:
    world = lived()
    before = world.visible()["names"]
    behind = list(world.records)
    assert recovered(world, behind).keys() == {b"letter", b"final"}
    after = world.visible()["names"]
    assert {name: after[name] for name in before} == before


def test_a_folder_of_that_name_is_not_filled_up() -> None:
    world = lived()
    behind = list(world.records)
    assert len(recovered(world, behind)) == 2
    world.call(salvage, behind, RECOVERED, world.now)
    assert len(world.folder(RECOVERED + b" 2").children or {}) == 2
    assert len(world.folder(RECOVERED).children or {}) == 2


def test_a_damaged_record_costs_itself() -> None:
    behind = [*lived().records, (99, (records.DATA, 1)), (100, (records.SIZE, b"?" * 16, b"no"))]
    found = recovered(World(), behind)
    assert {b"dear all", b"first words"} <= set(found.values())


def test_a_root_that_is_not_in_memory_is_loaded_first() -> None:
    """A workspace whose journal holds nothing but damage starts from the store alone."""
    world = lived()
    capture = world.capture()
    world.store.take(capture)
    captures.logged(world.tree, capture)
    again = World(world.store)
    assert recovered(again, world.records).keys() == {b"letter", b"final"}
    assert {b"letter", b"final", RECOVERED} <= (again.folder().children or {}).keys()


def test_recovered_files_survive_a_restart() -> None:
    """They are recorded whole: the journal behind the damage is not needed any more."""
    world = World()
    first = recovered(world, lived().records)
    again = World(world.store, world.records)
    folder = again.folder(RECOVERED)
    assert {
        name: content_of(again, again.look(folder, name))  # type: ignore[arg-type]
        for name in folder.children or {}
    } == first
