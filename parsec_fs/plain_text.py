"""Names that others chose, made harmless before a person sees them.

Data flow: labels, user and server names, paths -> this -> terminal, logs, verdicts.

A label is any bytes: one with ESC rewrites what the terminal shows, one with a newline adds a line
to a log, one with a bidirectional override reads as another name. All of that is shown as escapes.
"""


def plain(text: str) -> str:
    """`text` on one line: what is not printable becomes an escape such as \\x1b or \\u202e."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escape(one) for one in text)


def plain_name(unverified_name: bytes) -> str:
    """A name as a person may see it, whatever its bytes are."""
    return plain(unverified_name.decode(errors="backslashreplace"))


def plain_lines(text: str) -> str:
    """The same for our own text of several lines, which stay lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _escape(one: str) -> str:
    return one.encode("unicode_escape").decode()
