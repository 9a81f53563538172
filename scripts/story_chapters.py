"""The chapters of scripts/story_people, in the order in which they are told.

Data flow: `Cast` (computers) -> chapter: what is typed, what it must say, what must be true then.
"""

import re
import shutil
import signal
from pathlib import Path

from tests.support.story import Computer, Story
from tests.support.story_acts import add_device, invite, peaceful, refused, same_trees

PASSPHRASE = "correct horse battery"
STATE_OF_TRIP = "getfattr --absolute-names --only-values -n user.parsec.state ~/Acme/trip"


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


def found(cast: Cast) -> None:
    story, alice = cast.story, cast.laptop
    story.chapter(
        "Found an organization",
        "The server's operator gives Alice a one-time token. She founds the organization, which "
        "makes her laptop its first device, creates a workspace and mounts it.",
    )
    genesis = Path(story.server.node.home) / "config/genesis.json"
    shutil.copy(genesis, alice.home / "genesis.json")
    Path(story.server.draw_token()).rename(alice.home / "token")
    story.run(
        alice,
        "parsec-fs org create acme --server $SERVER --chain $CHAIN --genesis ~/genesis.json"
        " --token-file ~/token --user alice --email alice@acme.example --device laptop",
        says=["Organization acme created", "recovery: none"],
    )
    story.run(alice, "parsec-fs workspace create research", says=["Workspace research created"])
    story.run(alice, "parsec-fs mount research ~/Acme", says=["mounted research at ~/Acme"])
    story.run(alice, "echo 'meet at noon' > ~/Acme/plan.txt")
    story.holds("the plan is in Alice's folder", lambda: alice.read("plan.txt") == "meet at noon\n")


def write_down(cast: Cast) -> None:
    story, alice = cast.story, cast.laptop
    story.chapter(
        "A kit on paper",
        "Alice has one device. Whoever loses the last one loses the data, so she writes 24 words "
        "on paper. Some days later she makes a new key for herself; the paper stays good.",
    )

    def three_words(screen: str) -> str:
        numbered = {int(at): word for at, word in re.findall(r"\b(\d+) ([a-z]+) *", screen)}
        cast.paper = " ".join(numbered[at] for at in range(1, 25))
        asked = re.findall(r"\d+", screen.rpartition("Type words")[2])
        return " ".join(numbered[int(at)] for at in asked)

    said = story.run(
        alice,
        "parsec-fs recovery create",
        says=["is active"],
        answers=[("from your paper:", three_words)],
    )
    cast.kit = re.findall(r"^(.*) is active", said, re.MULTILINE)[0]
    story.run(
        alice,
        "parsec-fs device rotate-user-key",
        says=["a new key, number 2, for .*laptop", f"a new key, number 2, for .*{cast.kit}"],
    )
    story.holds("status knows the kit", lambda: alice.status()["recovery"] == [cast.kit])


def join(cast: Cast) -> None:
    story, alice, bob = cast.story, cast.laptop, cast.desktop
    story.chapter(
        "Invite a person",
        "Alice invites Bob and calls him: each reads a code to the other, and picks the one that "
        "was heard. He is in the organization then, and sees no workspace yet.",
    )
    invite(story, alice, bob)
    story.run(alice, "parsec-fs user list", says=[r"^bob +bob@acme\.example +standard +1$"])
    story.run(bob, "parsec-fs workspace list", says=["No workspaces"])


def share(cast: Cast) -> None:
    story, alice, bob = cast.story, cast.laptop, cast.desktop
    story.chapter(
        "Share a workspace",
        "Bob may read at first. What he is not allowed is refused when a file is opened, not after "
        "he has written. Then Alice lets him write.",
    )
    story.run(
        alice,
        "parsec-fs workspace share research bob --role reader",
        says=["bob is now reader of research"],
    )
    story.run(bob, "parsec-fs workspace list", says=["^research"])
    story.run(bob, "parsec-fs mount research ~/Acme", says=["mounted research"])
    story.run(bob, "cat ~/Acme/plan.txt", says=["meet at noon"])
    story.run(bob, "echo mine > ~/Acme/new || echo refused", says=["Permission denied", "refused"])
    story.holds("an existing file is refused as well", lambda: refused(bob, "plan.txt"))
    story.run(
        bob,
        'parsec-fs workspace share research bob --role owner; echo "exit code $?"',
        says=["your role does not allow", "^exit code 13$"],
    )
    story.run(
        alice,
        "parsec-fs workspace share research bob@acme.example --role contributor",
        says=["bob is now contributor of research"],
    )
    story.holds("Bob's mount has heard of it", lambda: not refused(bob, "plan.txt"))
    story.run(bob, "echo 'meet at one' > ~/Acme/plan.txt")
    story.holds("Alice sees what Bob wrote", lambda: alice.read("plan.txt") == "meet at one\n")
    story.run(
        alice, "parsec-fs members research", says=["^alice .* owner ", "^bob .* contributor "]
    )


def second_device(cast: Cast) -> None:
    story, desktop, notebook = cast.story, cast.desktop, cast.notebook
    story.chapter(
        "Add a device",
        "Bob has a notebook, too. Both screens show a fingerprint of its keys, which he compares. "
        "On the notebook a passphrase opens his keys, asked for once per session.",
    )
    add_device(story, desktop, notebook)
    story.run(
        notebook,
        "parsec-fs device passphrase set",
        says=["opened by a passphrase"],
        answers=[("New passphrase: ", PASSPHRASE), ("The same again: ", PASSPHRASE)],
    )
    story.run(
        notebook,
        "parsec-fs unlock",
        says=["Unlocked until"],
        answers=[("Passphrase of this device: ", PASSPHRASE)],
    )
    story.run(notebook, "parsec-fs mount research ~/Acme", says=["mounted research"])
    story.holds(
        "the notebook has the same folder", lambda: notebook.read("plan.txt") == "meet at one\n"
    )


def at_once(cast: Cast) -> None:
    story, alice, bob = cast.story, cast.laptop, cast.desktop
    story.chapter(
        "Work at once",
        "Alice and Bob save the same file in the same moment. One of the two was first and keeps "
        "the name; the other version goes on beside it, on every device.",
    )
    # The same moment is one in which neither can have heard of the other.
    story.server.programs.send("server", signal.SIGSTOP)
    story.run(alice, "echo 'alice: by train' > ~/Acme/plan.txt")
    story.run(bob, "echo 'bob: by car' > ~/Acme/plan.txt")
    story.server.programs.send("server", signal.SIGCONT)
    both = {"alice: by train\n", "bob: by car\n"}

    def has_both(one: Computer) -> bool:
        return len(one.names()) == 2 and {one.read(name) for name in one.names()} == both

    story.holds(
        "every device has both versions",
        lambda: all(has_both(one) for one in (alice, bob, cast.notebook)),
        lambda: [one.names() for one in (alice, bob, cast.notebook)],
    )
    story.run(bob, "parsec-fs conflicts", says=[r"plan \(conflict, (laptop|desktop) .*\)\.txt"])
    story.run(
        bob,
        "parsec-fs conflicts resolve ~/Acme/plan*conflict* --keep both",
        says=[r"plan \((laptop|desktop) .*\)\.txt"],
    )
    story.run(bob, "parsec-fs conflicts", says=["(?i)no conflict"])
    story.holds(
        "nothing is lost, and nobody has a conflict any more",
        lambda: all(
            has_both(one) and not any("conflict" in name for name in one.names())
            for one in (alice, bob, cast.notebook)
        ),
    )


def third_person(cast: Cast) -> None:
    story, alice, carol = cast.story, cast.laptop, cast.tablet
    story.chapter("A third person", "Carol is invited in the same way, and may write.")
    invite(story, alice, carol)
    story.run(
        alice,
        "parsec-fs workspace share research carol --role contributor",
        says=["carol is now contributor of research"],
    )
    story.run(carol, "parsec-fs mount research ~/Acme", says=["mounted research"])
    story.run(carol, "echo 'budget: 900' > ~/Acme/budget.txt")
    story.holds(
        "everybody has Carol's file",
        lambda: all(
            one.read("budget.txt") == "budget: 900\n"
            for one in (alice, cast.desktop, cast.notebook)
        ),
    )


def offline(cast: Cast) -> None:
    story, alice, bob, carol = cast.story, cast.laptop, cast.desktop, cast.tablet
    story.chapter(
        "Work offline, and merge",
        "The server is down. Everybody works on, and all that they do is on their own device only. "
        "Bob also writes something on his notebook, and closes its lid before the server is back.",
    )
    story.server.programs.kill("server")
    story.run(alice, "mkdir ~/Acme/trip && mv ~/Acme/plan.txt ~/Acme/trip/plan.txt")
    story.run(bob, "echo 'bring maps' >> ~/Acme/plan.txt")
    story.run(bob, "rm ~/Acme/budget.txt")
    story.run(carol, "echo 'hotel: 300' >> ~/Acme/budget.txt")
    story.run(carol, "echo 'ask Bob' > ~/Acme/notes.txt")
    story.run(cast.notebook, "echo 'written on the train' > ~/Acme/train.txt")
    story.run(
        alice,
        'parsec-fs wait --logged --timeout 1; echo "exit code $?"',
        says=["changes are local", "^exit code 21$"],
    )
    cast.notebook.signal(signal.SIGSTOP)
    story.tell("The server is back.")
    story.server.start_server()
    awake = (alice, bob, carol)
    story.holds(
        "all changes are merged: the moved file has what Bob added, the changed file outlives "
        "its deletion",
        lambda: all(
            (one.read("trip/plan.txt") or "").endswith("\nbring maps\n")
            and one.read("budget.txt") == "budget: 900\nhotel: 300\n"
            and one.read("notes.txt") == "ask Bob\n"
            and one.read("plan.txt") is None
            for one in awake
        ),
        lambda: [(one.names(), one.status()["trouble"]) for one in awake],
    )
    story.run(alice, "parsec-fs wait --audited", says=["everything is audited"])
    story.run(
        alice,
        "getfattr --absolute-names --only-values -n user.parsec.state ~/Acme/trip",
        says=["^audited"],
    )
    story.holds("all three have the same tree", lambda: same_trees(*awake))


def steal(cast: Cast) -> None:
    story, bob, thief = cast.story, cast.desktop, cast.notebook
    story.chapter(
        "A stolen notebook",
        "The notebook is stolen, its lid closed, unlocked and mounted. Bob revokes it from his "
        "desktop. Then the thief opens the lid.",
    )
    story.run(
        bob,
        "parsec-fs device revoke notebook",
        says=["notebook of bob <bob@acme.example> is revoked"],
        answers=[(r"Revoke notebook of bob .*for good\? \[y/N\]: ", "y")],
    )
    story.run(bob, "echo 'offer: 12,000' > ~/Acme/trip/offer.txt")
    thief.signal(signal.SIGCONT)
    story.run(bob, "parsec-fs wait --audited", says=["everything is audited"])
    story.holds(
        "what Bob writes now reaches the others",
        lambda: all(one.read("trip/offer.txt") for one in (cast.laptop, cast.tablet)),
    )
    story.holds(
        "the notebook has heard that it was revoked",
        lambda: "was revoked" in thief.status()["trouble"],
        lambda: thief.status(),
    )
    story.run(thief, "parsec-fs status", says=["this device was revoked"])
    story.run(
        thief,
        'parsec-fs user list; echo "exit code $?"',
        says=["this device was revoked", "^exit code 14$"],
    )
    story.run(thief, "ls -1 ~/Acme", says=["^budget.txt$", "^train.txt$"])
    story.run(thief, "echo x > ~/Acme/new || echo refused", says=["Permission denied", "refused"])
    story.run(thief, "cp -a ~/Acme/train.txt ~/ && cat ~/train.txt", says=["written on the train"])
    story.run(thief, "parsec-fs lock", says=["Locked"])
    story.run(
        thief,
        'parsec-fs user list < /dev/null; echo "exit code $?"',
        says=["locked by a passphrase", "^exit code 12$"],
    )
    story.holds(
        "the thief has nothing of what came later, and nobody has anything of the thief",
        lambda: (
            not thief.names() & {"trip", "trip/offer.txt"}
            and not any("train.txt" in one.names() for one in (cast.laptop, bob, cast.tablet))
        ),
        lambda: thief.names(),
    )


def leave(cast: Cast) -> None:
    story, alice, bob, carol = cast.story, cast.laptop, cast.desktop, cast.tablet
    story.chapter(
        "Carol leaves",
        "First the workspace is taken from her, then, by an administrator, her membership with "
        "all her devices. What she had she may have kept; she gets nothing new.",
    )
    story.run(
        alice,
        "parsec-fs workspace unshare research carol",
        says=["carol has no role in research any more"],
    )
    story.run(alice, "echo 'without Carol' > ~/Acme/notes.txt")
    story.run(alice, "parsec-fs wait --logged", says=["everything is logged"])
    story.holds(
        "Carol's mount says that it gets nothing more, and shows what it had",
        lambda: (
            "NOT_ALLOWED" in carol.status()["trouble"] and carol.read("notes.txt") == "ask Bob\n"
        ),
        lambda: carol.status(),
    )
    story.run(
        alice,
        'parsec-fs user revoke carol@acme.example < /dev/null; echo "exit code $?"',
        says=["nothing was done", "^exit code 2$"],
    )
    story.run(
        alice,
        "parsec-fs user revoke carol@acme.example",
        says=["carol <carol@acme.example> is revoked"],
        answers=[(r"Revoke carol .*for good\? \[y/N\]: ", "y")],
    )
    story.run(
        alice,
        "parsec-fs user list",
        says=["^alice .* admin ", "^bob .* standard ", "^carol .* revoked "],
    )
    story.run(
        carol,
        'parsec-fs user list; echo "exit code $?"',
        says=["this device was revoked", "^exit code 14$"],
    )
    story.holds(
        "her mount says so, too, and refuses changes",
        lambda: "was revoked" in carol.status()["trouble"] and refused(carol, "notes.txt"),
        lambda: carol.status(),
    )
    story.holds(
        "Alice and Bob work on under new keys",
        lambda: bob.read("notes.txt") == "without Carol\n" and peaceful(alice) and peaceful(bob),
        lambda: [one.status() for one in (alice, bob)],
    )


def recover(cast: Cast) -> None:
    story, alice, bob = cast.story, cast.replacement, cast.desktop
    story.chapter(
        "Recover from paper",
        "Alice's laptop falls into a lake. It was her only device, and she is the only "
        "administrator. On a new machine she has nothing but the paper.",
    )
    cast.laptop.lost()
    story.run(
        alice,
        "parsec-fs recovery drill --server $SERVER",
        says=["These words work: .* of alice in acme", "up to number 2"],
        answers=[("The 24 words", cast.paper)],
    )
    story.holds("the drill has left nothing behind", lambda: not alice.state.exists())
    story.run(
        alice,
        "parsec-fs recovery use --server $SERVER --name replacement",
        says=["This device is one of yours now"],
        answers=[("The 24 words", cast.paper)],
    )
    story.run(alice, "parsec-fs mount research ~/Acme", says=["mounted research"])
    story.run(alice, "cat ~/Acme/notes.txt ~/Acme/trip/offer.txt", says=["without Carol", "12,000"])
    story.run(
        alice,
        "parsec-fs device revoke laptop",
        says=["laptop of alice <alice@acme.example> is revoked"],
        answers=[(r"Revoke laptop of alice .*for good\? \[y/N\]: ", "y")],
    )
    story.run(
        alice,
        "parsec-fs device list",
        says=["^laptop +alice +revoked", "^notebook +bob +revoked", "^replacement +alice  "],
    )
    story.run(alice, "echo 'I am back' > ~/Acme/alice.txt")
    story.holds("Bob hears from her", lambda: bob.read("alice.txt") == "I am back\n")


def look_back(cast: Cast) -> None:
    story, alice, bob = cast.story, cast.replacement, cast.desktop
    story.chapter(
        "What is left",
        "Two devices are left of five that had been here. Both have verified the whole history, "
        "from the first record on, against the checkpoints on the chain.",
    )
    story.holds(
        "nothing waits, nobody is accused",
        lambda: peaceful(alice) and peaceful(bob),
        lambda: [one.status() for one in (alice, bob)],
    )
    for one in (alice, bob):
        story.run(one, "parsec-fs verify", says=["✔ history", "research is complete and unaltered"])
    story.run(
        alice, "parsec-fs members research", says=["^alice .* owner ", "^bob .* contributor "]
    )
    story.holds("the two trees are identical", lambda: same_trees(alice, bob))
    everyone = [alice, bob, cast.notebook, cast.tablet]
    story.holds(
        "no device has found evidence of fraud, those that were revoked included",
        lambda: not any(list((one.state / "evidence").glob("*")) for one in everyone),
    )


CHAPTERS = (
    found,
    write_down,
    join,
    share,
    second_device,
    at_once,
    third_person,
    offline,
    steal,
    leave,
    recover,
    look_back,
)
