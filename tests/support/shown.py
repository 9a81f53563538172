"""What an application shows in its windows, as a screen reader is told it.

Data flow: accessibility bus (AT-SPI) -> this program -> JSON on stdout -> tests/support/desktop.

    shown.py APPLICATION                 windows: title, whether it has the focus, all its texts,
                                         whether a text field in it has the cursor
    shown.py APPLICATION --press BUTTON  press a button that can be seen; true, or false without one

A program of its own, run by the system's Python: the bindings are Debian's packages (python3-gi,
gir1.2-atspi-2.0) and in no virtual environment. A process per question, because the library keeps
what it read once, and only a main loop would tell it what changed.
"""

import json
import sys
from collections.abc import Iterator

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402

MOST_CHILDREN = 200
"""Of one element: a long list is not read to its end."""


def children(node: Atspi.Accessible) -> list[Atspi.Accessible]:
    """Those that exist; a window may close while it is read."""
    try:
        count = min(node.get_child_count(), MOST_CHILDREN)
        found = [node.get_child_at_index(index) for index in range(count)]
    except GLib.Error:
        return []
    return [one for one in found if one is not None]


def below(node: Atspi.Accessible) -> Iterator[Atspi.Accessible]:
    """An element and all that it contains."""
    yield node
    for child in children(node):
        yield from below(child)


def name_of(node: Atspi.Accessible) -> str:
    """Its text; nothing if it is gone."""
    try:
        return node.get_name() or ""
    except GLib.Error:
        return ""


def has_state(node: Atspi.Accessible, state: Atspi.StateType) -> bool:
    """False if it is gone."""
    try:
        return bool(node.get_state_set().contains(state))
    except GLib.Error:
        return False


def windows(application: str) -> list[Atspi.Accessible]:
    """All windows of an application."""
    running = children(Atspi.get_desktop(0))
    return [one for found in running if name_of(found) == application for one in children(found)]


def takes_text(node: Atspi.Accessible) -> bool:
    """Does what is typed go into this text field?"""
    states = (Atspi.StateType.FOCUSED, Atspi.StateType.EDITABLE)
    return all(has_state(node, state) for state in states)


def described(window: Atspi.Accessible) -> dict[str, object]:
    """What can be read in one window."""
    nodes = list(below(window))
    return {
        "title": name_of(window),
        "active": has_state(window, Atspi.StateType.ACTIVE),
        "texts": [text for node in nodes if (text := name_of(node))],
        "typing": any(map(takes_text, nodes)),
    }


def press(application: str, button: str) -> bool:
    """False if there is no such button to be seen."""
    for window in windows(application):
        for node in below(window):
            if name_of(node) == button and has_state(node, Atspi.StateType.SHOWING):
                return bool(node.do_action(0))
    return False


if __name__ == "__main__":
    if sys.argv[2:3] == ["--press"]:
        print(json.dumps(press(sys.argv[1], sys.argv[3])))
    else:
        print(json.dumps([described(one) for one in windows(sys.argv[1])]))
