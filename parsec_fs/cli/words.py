"""The words of a command line, before any library reads them.

Data flow: argv -> `hoist` -> the command's word -> what is loaded for it.
"""

from collections.abc import Sequence
from typing import Final

_FLAGS: Final = frozenset({"--json", "-q", "--quiet", "-v", "--verbose", "--password-stdin"})
COMMON_VALUES: Final = frozenset({"--home", "--password-command"})
"""Common options that are followed by a value."""


def hoist(arguments: Sequence[str]) -> list[str]:
    """The common options moved before the command, where the parser expects them: people write
    them at the end. What stands after `--` is left alone."""
    common: list[str] = []
    rest: list[str] = []
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        if word == "--":
            return [*common, *rest, word, *remaining]
        if word in _FLAGS or (word.split("=")[0] in COMMON_VALUES and "=" in word):
            common.append(word)
        elif word in COMMON_VALUES and remaining:
            common += [word, remaining.pop(0)]
        else:
            rest.append(word)
    return common + rest


def command_word(arguments: Sequence[str]) -> str | None:
    """The command in hoisted arguments: the first that is no option, nor the value of one."""
    remaining = iter(arguments)
    for word in remaining:
        if word in COMMON_VALUES:
            next(remaining, None)
        elif not word.startswith("-"):
            return word
    return None
