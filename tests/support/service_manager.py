"""A service manager that runs a unit for real, where a test cannot have a systemd of its own.

`user_manager` is a real systemd, which needs root; this one runs for everybody and says what it
was asked.

Data flow: `systemctl --user ...` (a link to this file in PATH) -> unit file -> processes; what was
asked is noted in `asked` beside the program, so that a test can see it.

It understands what our units use: Type=notify, ExecStart, ExecStop, quoted words, %% and $$.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

READY_S = 60


def words(line: str) -> list[str]:
    """A command line by the rules of systemd.service(5), for words in double quotes."""
    found, word, inside, at = [], "", False, 0
    while at < len(line):
        letter = line[at]
        if letter == '"':
            inside = not inside
            if not inside:
                found.append(word)
                word = ""
        elif inside and letter == "\\":
            at += 1
            word += line[at]
        elif inside and letter in "%$":
            at += 1
            assert line[at] == letter, "a specifier or a variable"
            word += letter
        elif inside:
            word += letter
        at += 1
    return found


def setting(unit: Path, name: str) -> str:
    """The value of a setting that stands once in the unit."""
    (value,) = [
        line.partition("=")[2]
        for line in unit.read_text().splitlines()
        if line.startswith(name + "=")
    ]
    return value


def start(unit: Path) -> None:
    """Start it and wait until it says that it is ready."""
    assert setting(unit, "Type") == "notify"
    address = f"@{unit.name}-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + address[1:])
        manager.settimeout(READY_S)
        subprocess.Popen(
            words(setting(unit, "ExecStart")),
            env={**os.environ, "NOTIFY_SOCKET": address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        assert manager.recv(100).startswith(b"READY=1")


def main() -> None:
    """`systemctl --user VERB [UNIT]`."""
    arguments = sys.argv[1:]
    with Path(sys.argv[0]).with_name("asked").open("a") as asked:
        asked.write(" ".join(arguments) + "\n")
    assert arguments[0] == "--user"
    if arguments[1] == "restart":
        start(Path(os.environ["XDG_CONFIG_HOME"], "systemd/user", arguments[2]))
    if arguments[1] == "stop":
        unit = Path(os.environ["XDG_CONFIG_HOME"], "systemd/user", arguments[2])
        stop = setting(unit, "ExecStop")
        done = subprocess.run(words(stop), timeout=READY_S)
        assert done.returncode == 0 or stop.startswith("-")


if __name__ == "__main__":
    main()
