"""What people do at their screens in a story, and what can be seen of their devices.

Data flow: chapter -> two terminals that wait for each other; mounts -> true or false.
"""

import errno

from tests.support.installation import tree_of
from tests.support.story import SLOWEST_S, Computer, Story
from tests.support.terminals import Terminal


class Cast:
    """The computers, and what somebody has on paper."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.laptop = story.computer("alice", "laptop")
        self.desktop = story.computer("bob", "desktop")
        self.notebook = story.computer("bob", "notebook")
        self.tablet = story.computer("carol", "tablet")
        self.replacement = story.computer("alice", "replacement")
        self.paper = ""
        self.kit = ""


def pick(terminal: Terminal, code: str) -> None:
    """One of the three codes that are shown: the one that was heard."""
    shown = terminal.expect(r"\[1\] (\S+)  \[2\] (\S+)  \[3\] (\S+)  \[0\] none", SLOWEST_S)
    terminal.expect("Number: ", SLOWEST_S)
    terminal.type(str(shown.groups().index(code) + 1))


def exchange(one: Terminal, other: Terminal) -> None:
    """The link of the one, then the code of each, picked on the other."""
    link = one.expect(r"(http\S+#\S+)\r\n", SLOWEST_S)[1]
    other.expect(r"The link (that you were sent|of your other device):", SLOWEST_S)
    other.type(link)
    code = r"(?:Read this code to|Pick this code on) [\w ]+: (\S+)\r\n"
    pick(one, other.expect(code, SLOWEST_S)[1])
    pick(other, one.expect(code, SLOWEST_S)[1])


def invite(story: Story, here: Computer, there: Computer) -> None:
    """A person on the telephone with another one: a link, and a code in each direction."""
    name = there.person
    with story.both(
        (here, f"parsec-fs user invite {name} --email {name}@acme.example"),
        (there, f"parsec-fs user join --device {there.device}"),
        says=[rf"{name} joined \(device {there.device}\)", f"You are in acme now, as {name}"],
    ) as (inviting, joining):
        exchange(inviting, joining)


def add_device(story: Story, here: Computer, there: Computer) -> None:
    """One person at two screens."""
    with story.both(
        (here, "parsec-fs device add"),
        (there, f"parsec-fs device join --name {there.device}"),
        says=[f"^{there.device} joined", "This device is one of yours now"],
    ) as (adding, joining):
        exchange(adding, joining)


def refused(computer: Computer, name: str) -> bool:
    """Is a file refused at open, before anything is written?"""

    def open_to_write() -> None:
        with (computer.folder / name).open("r+b"):
            pass

    return computer.refusal(open_to_write) == errno.EACCES


def peaceful(computer: Computer) -> bool:
    """Everything is verified, from the first record on; nothing waits, nobody is accused."""
    status = computer.status()
    state, changes = status["state"], status["changes"]
    return (
        state["word"] == "verified"
        and "bootstrapped" not in state["qualifiers"]
        and not state["evidence"]
        and changes["local"] == 0
        and changes["audited"] == changes["logged"]
    )


def same_trees(*computers: Computer) -> bool:
    """Names, kinds, modes, times and contents."""
    first, *others = (tree_of(one.folder) for one in computers)
    return all(one == first for one in others)
