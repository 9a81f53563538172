"""Offline, stolen, gone, back from paper: the later chapters of scripts/story_people.

Data flow: `Cast` (computers) -> chapter: what is typed, what it must say, what must be true then.
"""

import signal

from tests.support.story_acts import Cast, peaceful, refused, same_trees

STATE_OF_TRIP = "getfattr --absolute-names --only-values -n user.parsec.state ~/Acme/trip"


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
    story.run(thief, "parsec-fs export --unsynced ~/unsent", says=["~/unsent"])
    story.run(thief, "cat ~/unsent/train.txt", says=["written on the train"])
    story.run(thief, "parsec-fs lock", says=["Locked", "research stays open at ~/Acme"])
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
    story.run(
        thief,
        'parsec-fs lock --umount; echo "exit code $?"',
        says=["unmounted research, .* kept here", "^exit code 4$"],
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
    story.run(carol, "echo 'too late' > ~/Acme/late.txt")
    story.holds(
        "Carol's mount says that the server refuses, and shows what it had",
        lambda: (
            "NOT_ALLOWED" in carol.status()["trouble"]
            and carol.read("notes.txt") == "ask Bob\n"
            and not any("late.txt" in one.names() for one in (alice, bob))
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
        says=[
            "^laptop +alice +alice@acme.example +revoked$",
            "^notebook +bob +bob@acme.example +revoked$",
            "^replacement +alice +alice@acme.example +this device$",
        ],
    )
    story.run(
        alice,
        "parsec-fs log ~/Acme/trip/plan.txt",
        says=["bob <bob@acme.example> +desktop "],
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
    story.run(
        bob,
        "parsec-fs audit --since 1d",
        says=[
            r"bob <bob@acme\.example> joined as standard +alice \(laptop\)",
            r"research: bob <bob@acme\.example> is reader now +alice \(laptop\)",
            r"research: bob <bob@acme\.example> is contributor now",
            r"research: carol <carol@acme\.example> is auditor now",
            r"research: carol <carol@acme\.example> is contributor now",
            r"device notebook .*revoked +bob \(desktop\)",
            r"research: carol <carol@acme\.example> left, was contributor +alice \(laptop\)",
            r"carol <carol@acme\.example> revoked, with all devices +alice \(laptop\)",
            r"device replacement added",
            r"device laptop .*revoked +alice \(replacement\)",
        ],
    )
    story.holds("the two trees are identical", lambda: same_trees(alice, bob))
    everyone = [alice, bob, cast.notebook, cast.tablet]
    story.holds(
        "no device has found evidence of fraud, those that were revoked included",
        lambda: not any(list((one.state / "evidence").glob("*")) for one in everyone),
    )
