"""Which tests run an attack with a check left out, judged by their source.

Data flow: sources of tests -> `ast` -> names that a test uses, through helpers of its module.
"""

import ast
from collections.abc import Iterator
from functools import cache
from typing import Final

from tests.support.sources import ROOT

CHECK_CLASSES: Final = frozenset(
    {"AdmissionChecks", "CostChecks", "GreetingChecks", "HeaderChecks", "ReplicaChecks", "Checks"}
)
"""Whoever derives from one of them leaves something out."""
ARRANGED: Final = frozenset({"weak_scene", "without", "WEAK"})
"""What makes weaker checks, or hands them to a daemon (`tests.support.weakened`)."""
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Source:
    """A module of tests: its definitions by name, and what each of them uses."""

    def __init__(self, text: str) -> None:
        self._defined: dict[str, ast.stmt] = {}
        for statement in ast.parse(text).body:
            for name in _names_of(statement):
                self._defined[name] = statement
        self.weak = {
            name
            for name, found in self._defined.items()
            if isinstance(found, ast.ClassDef)
            and any(isinstance(one, ast.Name) and one.id in CHECK_CLASSES for one in found.bases)
        }

    def tests(self) -> set[str]:
        """Names of its tests."""
        return {name for name in self._defined if name.startswith("test_")}

    def uses(self, name: str) -> set[str]:
        """Every name in a definition, its decorators and fixtures, and in what those names are in
        this module."""
        found, left = set[str](), [name]
        while left:
            statement = self._defined.get(left.pop())
            fresh = set(_used(statement)) - found if statement is not None else set()
            found |= fresh
            left += fresh
        return found

    def runs_without(self, test: str, others: frozenset[str] = frozenset()) -> bool:
        """True iff the test uses weaker checks, or one of `others`."""
        return bool(self.uses(test) & (self.weak | ARRANGED | others))


def _names_of(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
    elif isinstance(statement, ast.Assign):
        yield from (one.id for one in statement.targets if isinstance(one, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id


def _used(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg is not None:
            yield node.arg


@cache
def sources() -> dict[str, Source]:
    """Test -> the module in which it is."""
    found: dict[str, Source] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        source = Source(path.read_text())
        found |= dict.fromkeys(source.tests(), source)
    return found
