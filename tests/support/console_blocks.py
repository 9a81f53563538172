"""Walkthroughs in Markdown: what was typed at which prompt, and what it printed.

Data flow: README, docs, printed story -> `console_steps` -> commands to run or to compare.

In an expected output `...` stands for anything in a line, and alone in a line for any lines.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PROMPT = re.compile(r"^([\w-]*(?:@[\w-]+)?)\$ (.*)\n", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Step:
    """`who`: what stands before the `$` of the prompt."""

    who: str
    command: str
    output: str


def blocks(text: str, language: str) -> list[str]:
    """Contents of all fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def console_steps(block: str) -> Iterator[Step]:
    """Every command of a console block, with its output."""
    parts = _PROMPT.split(block)[1:]
    for who, command, output in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        yield Step(who=who, command=command, output=output)


def pattern(expected: str) -> re.Pattern[str]:
    """A regular expression for an expected output."""
    lines = [
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*?") + r"\n"
        for line in expected.splitlines()
    ]
    return re.compile("".join(lines))
