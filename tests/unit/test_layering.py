"""The dependency rule holds, and its checker notices every kind of violation.

Data flow: sources -> `tests.support.layering` -> nothing to complain about.
"""

import pytest

from tests.support.layering import HOMES, PROGRAMS, SHELLS, check_source, find_cycles, imports
from tests.support.sources import GENERATED, modules

PURE_HEAD = '"""A pure module."""\n'


def test_every_module_keeps_the_dependency_rule() -> None:
    sources = modules()
    known = frozenset(sources) | GENERATED
    problems = [one for name, text in sources.items() for one in check_source(name, text, known)]
    assert not problems, "\n".join(problems)


def test_imports_have_no_cycles() -> None:
    sources = modules()
    known = frozenset(sources)
    graph = {
        name: frozenset(target for _, target in imports(text, known) if target in known)
        for name, text in sources.items()
    }
    assert find_cycles(graph) == []


def test_programs_import_nothing_at_their_roots() -> None:
    """The server and the chain application load `parsec_fs.protocol`, so its parents are free."""
    for name in ("parsec_fs", "parsec_fs.protocol", "server", "abci_app"):
        assert list(imports(modules()[name], frozenset())) == []


PLANTED = [
    # edges
    ("parsec_fs.protocol.codec", "import parsec_fs.storage.journal"),
    ("parsec_fs.protocol.codec", "from server import config"),
    ("parsec_fs.workspace.tree", "from parsec_fs.storage import journal"),
    ("parsec_fs.remote.transport", "from parsec_fs.mount import operations"),
    ("parsec_fs.daemon", "from server.app import make_app"),
    ("server.app", "from parsec_fs.remote import transport"),
    ("server.decisions.realm", "from server.store import database"),
    ("abci_app.rules", "from server.log import publisher"),
    ("server.http.app", "import abci_app.rules"),
    ("abci_app.rules", "from abci_app import store"),
    ("parsec_fs.audit.headers", "from parsec_fs.audit.light_client import LightClient"),
    ("parsec_fs.workspace.tree", "from .nodes import Node"),
    ("parsec_fs.protocol.codec", "def f():\n    import parsec_fs.storage"),
    # I/O in pure modules
    ("parsec_fs.protocol.merkle", "import os"),
    ("parsec_fs.workspace.tree", "import trio"),
    ("parsec_fs.workspace.tree", "from time import monotonic"),
    ("server.decisions.realm", "import logging"),
    ("abci_app.state", "from pathlib import Path"),
    ("parsec_fs.protocol.keys", "import secrets"),
    ("parsec_fs.protocol.merkle", "def f():\n    return open('x')"),
    ("parsec_fs.protocol.chain_rpc", "from datetime import datetime\nx = datetime.now()"),
    # waiting in pure modules
    ("parsec_fs.workspace.tree", "async def f(): pass"),
    # libraries outside their home
    ("parsec_fs.protocol.merkle", "import hashlib"),
    ("server.store.database", "from msgpack import packb"),
    ("parsec_fs.storage.journal", "from cryptography.hazmat.primitives import hashes"),
    ("parsec_fs.sync", "import pyfuse3"),
    ("parsec_fs.mount.operations", "import sqlite3"),
    ("parsec_fs.sync", "import httpx"),
    ("server.http.app", "import sqlalchemy"),
    ("server.http.app", "import minio"),
    ("server.http.app", "import trio"),
    ("parsec_fs.daemon", "import anyio"),
    ("parsec_fs.daemon", "import requests"),
    # what validators could disagree about
    ("abci_app.state", "x = 1.5"),
    ("abci_app.state", "x = 3 / 2"),
    ("abci_app.state", "x = float('1')"),
    ("abci_app.state", "for x in {1, 2}: pass"),
    ("abci_app.state", "x = [y for y in set((1, 2))]"),
]


@pytest.mark.parametrize(("module", "source"), PLANTED)
def test_planted_violation_is_noticed(module: str, source: str) -> None:
    known = frozenset({"abci_app.store", "server.config"})
    problems = check_source(module, PURE_HEAD + source, known)
    assert len(problems) == 1, problems
    assert problems[0].startswith(f"{module}:")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server.app", "from parsec_fs.protocol import merkle"),
        ("abci_app.store", "import sqlite3\nfor x in {1.5, 2}: pass"),
        ("abci_app.rules", "for x in sorted({1, 2}): pass"),
        ("parsec_fs.protocol.merkle", "from collections import abc\nimport parsec_fs.protocol.ids"),
        ("parsec_fs.audit.light_client", "import trio\nasync def f(): pass"),
        ("parsec_fs.cli.main", "import parsec_fs.mount\nimport typer"),
    ],
)
def test_allowed_code_passes(module: str, source: str) -> None:
    assert check_source(module, PURE_HEAD + source) == []


def test_planted_cycle_is_noticed() -> None:
    graph = {name: frozenset({after}) for name, after in zip("abcd", "bcbd", strict=True)}
    assert find_cycles(graph) == [["b", "c", "b"], ["d", "d"]]


def test_homes_lie_in_our_programs() -> None:
    homes = {home for homes in HOMES.values() for home in homes}
    assert all(home.split(".")[0] in PROGRAMS for home in homes)


def test_shells_exist() -> None:
    assert set(SHELLS) <= set(modules())


def test_organizations_are_founded_only_where_a_token_is_spent() -> None:
    founding = {name for name, text in modules().items() if "orgs.found(" in text}
    assert founding == {"server.founding"}
