"""Thunar and Nautilus, driven by keys as a person does it who looks before each key.

Data flow: a step (tests/support/file_manager_steps) -> keys and buttons (tests/support/desktop) ->
    file manager -> a folder, on a mount or not.
"""

from pathlib import Path
from typing import ClassVar

from tests.support.desktop import WAIT_S, Desktop
from tests.support.product import poll

BUS_NAME = "org.freedesktop.FileManager1"


class FileManager:
    """What both have in common. `start` it, then each method opens the windows that it needs, and
    returns as soon as what it asks for is begun: look into the folder. `close` closes them all."""

    program: ClassVar[str]
    application: ClassVar[str]
    """Its name on the accessibility bus."""
    background: ClassVar[str]
    """Option that starts it without a window."""
    title: ClassVar[str]
    """Of the window of a folder named `{}`, as a regular expression."""
    selected: ClassVar[str]
    """What a window says when `{}` is selected."""
    settings: ClassVar[tuple[str, str]]
    """A file below the home folder and its text: sizes are shown."""
    thumbnails: ClassVar[str]
    """Size of its thumbnails, as the folder below ~/.cache/thumbnails."""
    icon_view: ClassVar[tuple[str, str]]
    """Key, and what the bus then calls the list of files."""
    usual_view: ClassVar[str]
    """Key."""

    def __init__(self, desktop: Desktop) -> None:
        self.desktop = desktop

    def start(self) -> None:
        """In the background, until it can be asked to show something."""
        name, text = self.settings
        path = self.desktop.home / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
        self.desktop.start(self.program, self.program, self.background)
        self.desktop.run("gdbus", "wait", "--session", "--timeout", str(int(WAIT_S)), BUS_NAME)

    def size(self, size: int) -> str:
        """How it writes a number of bytes, 1000 or more."""
        raise NotImplementedError

    def see(self, *texts: str, without: tuple[str, ...] = ()) -> None:
        """Wait until the window that has the keyboard shows these texts and none of the others."""
        self.desktop.wait_read(self.application, *texts, without=without)

    def open(self, folder: Path | str, *texts: str) -> None:
        """A window of a folder, or of `trash:///`, that shows these texts and has the keyboard."""
        uri, name = (folder, "Trash") if isinstance(folder, str) else (folder.as_uri(), folder.name)
        self._ask("ShowFolders", uri)
        self.desktop.focus(self.title.format(name))
        self.see(*texts)

    def select(self, path: Path) -> None:
        """A window with this file selected, which has the keyboard."""
        self._ask("ShowItems", path.as_uri())
        self.desktop.focus(self.title.format(path.parent.name))
        self.see(path.name, self.selected.format(path.name))

    def _ask(self, method: str, uri: str) -> None:
        """As other programs ask whatever file manager there is."""
        call = ("gdbus", "call", "--session", "--dest", BUS_NAME)
        path = ("--object-path", "/" + BUS_NAME.replace(".", "/"))
        self.desktop.run(*call, *path, "--method", f"{BUS_NAME}.{method}", f"['{uri}']", "")

    def close(self) -> None:
        """All windows, one after the other."""

        def closed() -> bool:
            if not self.desktop.windows(self.application):
                return True
            self.desktop.keys("ctrl+w")
            return False

        poll(closed, WAIT_S, lambda: self.desktop.windows(self.application))

    def copy(self, source: Path, into: Path) -> None:
        """Ctrl+C here, ctrl+V there."""
        self.select(source)
        self.desktop.keys("ctrl+c")
        self.open(into)
        self.desktop.keys("ctrl+v")

    def rename(self, path: Path, name: str) -> None:
        """A file or folder."""
        self.select(path)
        self.desktop.keys("F2")
        self._wait_asked_name(path)
        self._answer(name)

    def _wait_asked_name(self, path: Path) -> None:
        raise NotImplementedError

    def new_folder(self, parent: Path, name: str) -> None:
        """An empty one."""
        self.open(parent)
        self.desktop.keys("ctrl+shift+n")
        self._wait_asked_folder()
        self._answer(name)

    def _wait_asked_folder(self) -> None:
        raise NotImplementedError

    def _answer(self, text: str) -> None:
        """Instead of what is suggested."""
        self.desktop.wait_typing(self.application)
        self.desktop.keys("ctrl+a")
        self.desktop.type(text)
        self.desktop.picture(f"{self.program}-asks-{text}")
        self.desktop.keys("Return")

    def delete(self, path: Path) -> None:
        """Into the trash."""
        self.select(path)
        self.desktop.keys("Delete")

    def restore(self, name: str) -> None:
        """What was deleted last, and lies in the trash alone."""
        raise NotImplementedError

    def empty_trash(self) -> None:
        """From the window of the trash, which is open."""
        raise NotImplementedError


class Thunar(FileManager):
    """Xfce's. Thumbnails are made by tumbler."""

    program = "thunar"
    application = "thunar"
    background = "--daemon"
    title = "^{} - Thunar$"
    selected = '"{}"'
    settings = (
        ".config/xfce4/xfconf/xfce-perchannel-xml/thunar.xml",
        '<?xml version="1.0"?><channel name="thunar" version="1.0">'
        '<property name="last-view" type="string" value="ThunarDetailsView"/></channel>',
    )
    thumbnails = "normal"
    icon_view = ("ctrl+1", "Icon view")
    usual_view = "ctrl+2"

    def size(self, size: int) -> str:
        """Binary units."""
        return f"{size / 1024:.1f}\xa0KiB"

    def _wait_asked_name(self, path: Path) -> None:
        self.desktop.focus(f'^Rename "{path.name}"$')
        self.see("Enter the new name:")

    def _wait_asked_folder(self) -> None:
        self.desktop.focus("^Create New Folder$")
        self.see("Enter the name:")

    def restore(self, name: str) -> None:
        """By the button in the trash's window."""
        self.close()
        self.open("trash:///", name)
        self.desktop.keys("ctrl+a")
        self.see(self.selected.format(name))
        self.desktop.press(self.application, "Restore Selected Items")

    def empty_trash(self) -> None:
        """By the button, which asks once more."""
        self.desktop.press(self.application, "Empty Trash")
        self.desktop.focus("^Empty Trash$")
        self.see("Remove all files and folders")
        self.desktop.keys("Return")


class Nautilus(FileManager):
    """GNOME's. It makes thumbnails itself."""

    program = "nautilus"
    application = "org.gnome.Nautilus"
    background = "--gapplication-service"
    title = "^{}$"
    selected = "“{}” selected"
    settings = (
        ".config/glib-2.0/settings/keyfile",
        "[org/gnome/nautilus/icon-view]\ncaptions=['size', 'none', 'none']\n",
    )
    thumbnails = "large"
    icon_view = ("ctrl+2", "GtkGridView")
    usual_view = "ctrl+2"

    def size(self, size: int) -> str:
        """Decimal units."""
        return f"{size / 1000:.1f}\xa0kB"

    def _wait_asked_name(self, path: Path) -> None:
        self.see("Rename File")

    def _wait_asked_folder(self) -> None:
        # GTK 4 does not tell the accessibility bus that a dialog has the focus.
        self.desktop.focus("^New Folder$")
        self.desktop.wait_read(self.application, "Folder name", focused=False)

    def restore(self, name: str) -> None:
        """By undoing what was done last: its trash shows no button for that here."""
        self.desktop.keys("ctrl+z")

    def empty_trash(self) -> None:
        """By GLib's own tool, for the same reason; the window must follow."""
        self.desktop.run("gio", "trash", "--empty")


FILE_MANAGERS: dict[str, type[FileManager]] = {one.program: one for one in (Thunar, Nautilus)}
