"""Server and chain application run without anything that only the mount needs.

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
