"""What one person does in a history of several devices, in paths.

Data flow: partitions (a random step, or a line of a story that is told) -> `Deed` -> laptop.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from parsec_fs.workspace.names import RENAME_EXCHANGE
from tests.support.laptops import Laptop


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done to a path. `line`: what is written."""

    what: str
    path: str
    new_path: str = ""
    line: bytes = b""
    mode: int = 0

    @staticmethod
    def told(what: str, path: str, word: str = "") -> "Deed":
        """From the words of a line; the third is a path, a mode (octal), or what is written."""
        match what:
            case "rename" | "link" | "swap":
                return Deed(what, path, word)
            case "chmod":
                return Deed(what, path, mode=int(word, 8))
        return Deed(what, path, line=word.encode() + b"\n")

    def done(self, device: Laptop, shown: Mapping[str, bytes | None]) -> bytes | None:
        """Do it; returns the content that a file has by it, if it was written. `shown`: what the
        device showed before. Raises LocalError."""
        match self.what:
            case "make":
                device.make(self.path, self.line)
                return self.line
            case "write":
                device.write(self.path, self.line)
                return self.line
            case "append":
                device.append(self.path, self.line)
                return (shown[self.path] or b"") + self.line
            case "replace":
                # As editors save: a new file over the old name.
                device.make(f"{self.path}~", self.line)
                device.rename(f"{self.path}~", self.path)
                return self.line
        self._name(device)
        return None

    def _name(self, device: Laptop) -> None:
        match self.what:
            case "mkdir":
                device.mkdir(self.path)
            case "rename":
                device.rename(self.path, self.new_path)
            case "swap":
                device.rename(self.path, self.new_path, flags=RENAME_EXCHANGE)
            case "unlink":
                device.unlink(self.path)
            case "rmdir":
                device.rmdir(self.path)
            case "link":
                device.link(self.path, self.new_path)
            case "chmod":
                device.chmod(self.path, self.mode)
