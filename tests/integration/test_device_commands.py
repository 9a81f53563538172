"""`device add` and `device join` at two terminals, stopped by Ctrl-C and typed again.

Data flow: two terminals, a server on a socket -> link and codes, carried by a person -> org log.
"""

import os
from pathlib import Path
from typing import Final

import trio

from parsec_fs.config import Home
from parsec_fs.connection import connect
from parsec_fs.device_file import DeviceFile
from parsec_fs.pending import JoiningFile
from tests.support.laptops import found, place_of_process
from tests.support.product import poll
from tests.support.server import make_home, socket_server
from tests.support.sources import ROOT
from tests.support.terminals import Terminal

SLOWEST_S: Final = 60.0
CODE: Final = r"Pick this code on [\w ]+: (\S+)\r\n"
LINK: Final = r"(http\S+#\S+)\r\n"


class Screens:
    """A terminal for each device; gone in the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: list[Terminal] = []

    def home(self, device: str) -> Home:
        """Of a device."""
        return Home(root=self._folder / device)

    def type(self, device: str, words: str) -> Terminal:
        """A command there."""
        command = f"parsec-fs --home {self.home(device).root} device {words}"
        environment = {"PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
        environment |= {"HOME": str(self._folder), "TERM": "dumb"}
        self._open.append(Terminal(command, environment=environment, folder=self._folder))
        return self._open[-1]

    def close(self) -> None:
        """Whatever happened."""
        for one in self._open:
            one.kill()


def pick(terminal: Terminal, code: str) -> None:
    shown = terminal.expect(r"\[1\] (\S+)  \[2\] (\S+)  \[3\] (\S+)  \[0\] none", SLOWEST_S)
    terminal.expect("Number: ", SLOWEST_S)
    terminal.type(str(shown.groups().index(code) + 1))


def stopped(terminal: Terminal) -> None:
    terminal.interrupt()
    assert terminal.end(SLOWEST_S) == 130


def sent_keys(home: Home) -> bool:
    """Nothing but the admission is missing."""
    joining = JoiningFile(home.device).load()
    return joining is not None and joining.has_request()


def added_with_interruptions(screens: Screens) -> None:
    """Ctrl-C on both sides while a code is asked for, and after the keys were sent."""
    adding = screens.type("laptop", "add")
    joining = screens.type("desktop", "join --name desktop")
    joining.expect("The link of your other device:", SLOWEST_S)
    link = adding.expect(LINK, SLOWEST_S)[1]
    joining.type(link)
    code = joining.expect(CODE, SLOWEST_S)[1]
    adding.expect("Which one", SLOWEST_S)
    stopped(adding)
    stopped(joining)
    adding, joining = screens.type("laptop", "add"), screens.type("desktop", "join")
    assert adding.expect(LINK, SLOWEST_S)[1] == link
    joining.expect("go on with the one of before", SLOWEST_S)
    joining.type("")
    assert joining.expect(CODE, SLOWEST_S)[1] == code
    pick(adding, code)
    other = adding.expect(CODE, SLOWEST_S)[1]
    adding.expect("waiting for the new device", SLOWEST_S)
    stopped(adding)
    pick(joining, other)
    poll(lambda: sent_keys(screens.home("desktop")), SLOWEST_S)
    stopped(joining)
    adding = screens.type("laptop", "add")
    joining = screens.type("desktop", "join")
    joining.expect("go on with the one of before", SLOWEST_S)
    joining.type("")
    assert adding.end(SLOWEST_S) == 0, adding.text
    assert joining.end(SLOWEST_S) == 0, joining.text
    assert "desktop joined." in adding.text
    assert "This device is one of yours now." in joining.text


async def test_two_terminals_add_one_device_whenever_they_are_stopped(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    make_home(tmp_path / "server")
    screens = Screens(tmp_path)
    async with socket_server(tmp_path / "server") as server:
        identity = await found(await place_of_process(server))
        laptop = screens.home("laptop")
        DeviceFile(laptop.device).create(identity, random=os.urandom)
        try:
            await trio.to_thread.run_sync(added_with_interruptions, screens)
        finally:
            screens.close()
        async with connect(laptop, identity) as connection:
            org = await connection.org.pull()
    desktop = DeviceFile(screens.home("desktop").device).load()
    assert set(org.devices) == {identity.secrets.device, desktop.secrets.device}
