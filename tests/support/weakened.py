"""Checks with exactly one left out: only tests can make them, by handing them to a constructor."""

from typing import Any

from parsec_fs.audit.checks import Checks


def _believe(self: Checks, *args: Any, **kwargs: Any) -> Any:
    """Returns what it should have checked."""
    return args[0]


def without(*names: str, **replacements: Any) -> Checks:
    """All checks but the named ones, which believe their first argument, or do as told."""
    for name in (*names, *replacements):
        assert callable(getattr(Checks, name)), f"no such check: {name}"
    methods = dict.fromkeys(names, _believe) | replacements
    weakened: Checks = type("Weakened", (Checks,), methods)()
    return weakened
