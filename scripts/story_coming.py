"""How people and devices come to work together: the first chapters of scripts/story_people.

Data flow: `Cast` (computers) -> chapter: what is typed, what it must say, what must be true then.
"""

import re
import shutil
import signal
from pathlib import Path

from tests.support.story import Computer
from tests.support.story_acts import Cast, add_device, invite, refused

PASSPHRASE = "correct horse battery"
ONLY_THE_LOG = {"audit.db", "daemon.pid"}
"""What an audit without keys leaves of a workspace on a device; the second is a lock."""


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
        "Bob has a notebook, too. Each of the screens shows a code, which he picks on the other. "
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
    story.run(bob, "parsec-fs status", says=["1 conflict; see: parsec-fs conflicts"])
    whose = "(alice|bob on desktop)"
    story.run(
        bob,
        "parsec-fs conflicts",
        says=[
            rf"plan \(conflict, {whose} .*\)\.txt",
            "(alice <alice@acme.example> +laptop|bob <bob@acme.example> +desktop) ",
        ],
    )
    story.run(
        bob,
        "parsec-fs conflicts resolve ~/Acme/plan*conflict* --keep both",
        says=[rf"plan \({whose} .*\)\.txt"],
    )
    story.run(bob, "parsec-fs conflicts", says=["(?i)no conflict"])
    story.holds(
        "nothing is lost, and nobody has a conflict any more",
        lambda: all(
            has_both(one) and not any("conflict" in name for name in one.names())
            for one in (alice, bob, cast.notebook)
        ),
    )


def auditor(cast: Cast) -> None:
    story, alice, carol = cast.story, cast.laptop, cast.tablet
    story.chapter(
        "An auditor who reads nothing",
        "Carol is invited in the same way. At first she shall only verify the workspace: she gets "
        "none of its keys, not even its name, and checks the whole history all the same.",
    )
    invite(story, alice, carol)
    said = story.run(
        alice,
        "parsec-fs workspace share research carol --role auditor",
        says=["carol is now auditor of research"],
    )
    carol.places["RESEARCH"] = re.findall(r"parsec-fs audit (\w+)", said)[0]
    story.run(
        carol, "parsec-fs workspace list", says=["has no key for you. Verify it: parsec-fs audit"]
    )
    story.run(
        carol,
        'parsec-fs mount $RESEARCH ~/Acme; echo "exit code $?"',
        says=["there is no key of workspace", "^exit code 13$"],
    )
    story.run(
        carol,
        "parsec-fs audit $RESEARCH",
        says=["✔ chain", "✔ history", "✔ promises", "is complete and unaltered up to epoch"],
    )
    story.run(carol, "parsec-fs members $RESEARCH", says=["^alice .* owner ", "^carol .* auditor "])
    story.holds(
        "her tablet has the log and nothing else of the workspace: no name, no content, no key",
        lambda: (
            not carol.holds(b"research", b"plan.txt", b"by train", b"by car", b"meet at")
            and {one.name for one in carol.state.glob("device/workspaces/*/*")} == ONLY_THE_LOG
        ),
        lambda: list(carol.state.glob("device/workspaces/*/*")),
    )


def promote(cast: Cast) -> None:
    story, alice, carol = cast.story, cast.laptop, cast.tablet
    story.chapter(
        "Another role",
        "Carol has found everything in order, and shall help with the work from now on.",
    )
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
    shares(cast)


def shares(cast: Cast) -> None:
    """A kit of Bob's, for which it takes two colleagues."""
    story, alice, bob, carol = cast.story, cast.laptop, cast.desktop, cast.tablet
    story.tell("Bob trusts his colleagues more than a drawer: each gets a share of his kit.")
    story.run(
        bob,
        "parsec-fs recovery create --shares 2/2 --to alice --to carol --folder ~/shares",
        says=["is active, in 2 shares of which 2 are needed"],
    )
    file = "share-1-of-2-for-alice.share"
    for one in (alice, carol):
        shutil.copy(bob.home / "shares" / file, one.home)
    story.run(
        alice,
        f"parsec-fs recovery share keep ~/{file}",
        says=["Kept: share 1 of 2 .* of bob <bob@acme.example>"],
    )
    story.run(
        carol,
        f'parsec-fs recovery share keep ~/{file}; echo "exit code $?"',
        says=["this share is for alice", "^exit code 2$"],
    )
    story.run(alice, "parsec-fs recovery share show bob", says=["recovery use --server"])
