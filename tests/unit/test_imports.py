"""Server and chain application run without anything that only the mount needs; and what a command
waits for before it can begin.

Data flow: a clean interpreter imports every module of a program -> `sys.modules` is looked at.
"""

import subprocess
import sys

import pytest

from tests.support.sources import ROOT, modules

FOREIGN = {
    "server": {"pyfuse3", "parsec_fs.mount", "parsec_fs.workspace", "abci_app"},
    "abci_app": {"pyfuse3", "httpx", "sqlalchemy", "starlette", "parsec_fs.mount", "server"},
    "parsec_fs.protocol": {"trio", "anyio", "httpx", "sqlite3", "pyfuse3", "asyncio"},
}


@pytest.mark.parametrize("program", FOREIGN)
def test_program_loads_nothing_foreign(program: str) -> None:
    names = [
        name
        for name in modules()
        if name.startswith(program) and "migrations" not in name and "__main__" not in name
    ]
    script = f"import sys, importlib\nfor name in {names!r}: importlib.import_module(name)\n"
    script += f"print(sorted({FOREIGN[program]!r} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr


LOADED = "import sys\nfrom parsec_fs.cli.app import build\nbuild({word!r})"
DAEMON = {"pyfuse3", "httpx", "parsec_fs.daemon", "parsec_fs.mount", "parsec_fs.audit.auditor"}
STARTS = {
    "any command, before its daemon loads": (
        "import sys, parsec_fs.cli.main",
        {*DAEMON, "trio", "typer", "rich", "cryptography", "ssl", "asyncio", "parsec_fs.protocol"},
    ),
    "status": (LOADED.format(word="status"), {*DAEMON, "rich", "parsec_fs.workspace"}),
    "wait": (LOADED.format(word="wait"), {*DAEMON, "rich", "parsec_fs.workspace"}),
    "umount": (LOADED.format(word="umount"), {*DAEMON, "rich", "parsec_fs.workspace"}),
    "--help": (LOADED.format(word=None), {"pyfuse3", "parsec_fs.daemon", "parsec_fs.mount"}),
    "daemon": (
        "import sys, parsec_fs.cli.ordered",
        {"typer", "rich", "asyncio", "keyring", "mnemonic", "shamir_mnemonic", "server"},
    ),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_start_loads_no_more_than_it_needs(start: str) -> None:
    """Each of these is tens of milliseconds that every start would wait."""
    code, unwanted = STARTS[start]
    script = f"{code}\nprint(sorted({unwanted!r} & set(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (ran.returncode, ran.stdout.strip()) == (0, "[]"), ran.stderr
