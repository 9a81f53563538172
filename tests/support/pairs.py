"""Two commands that exchange a link and two codes, as scripts let them: by their pipes.

Data flow: link of one command -> standard input of the other; the code of each -> the other one's.
"""

import json
import subprocess

Command = subprocess.Popen[str]


def said(process: Command) -> str:
    """The code that this side shows for the other one."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith(("Read this code to", "Pick this code on")), line
    return line.rpartition(": ")[2].strip()


def hears(process: Command, text: str) -> None:
    """What the other side showed."""
    assert process.stdin is not None
    process.stdin.write(text + "\n")
    process.stdin.flush()


def link_of(process: Command) -> str:
    """The first line of whoever invites."""
    assert process.stdout is not None
    link: str = json.loads(process.stdout.readline())["link"]
    return link


def exchange(inviting: Command, joining: Command, *, timeout_s: float) -> None:
    """To the end of both, which must be a good one; both are gone then."""
    try:
        hears(joining, link_of(inviting))
        hears(inviting, said(joining))
        hears(joining, said(inviting))
        for process in (inviting, joining):
            _, errors = process.communicate(timeout=timeout_s)
            assert process.returncode == 0, errors
    finally:
        inviting.kill()
        joining.kill()
