"""The project's own source files, for tests that read them.

Data flow: checkout -> `modules()` -> layering, size and document tests.
"""

from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = frozenset({"abci_app.abci_pb2"})
PROGRAMS = ("parsec_fs", "server", "abci_app")


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_generated(name: str) -> bool:
    """Written by a tool: protobuf classes, database migrations."""
    return name in GENERATED or name.startswith("server.store.migrations.versions.")


@cache
def modules() -> dict[str, str]:
    """Name -> source text of every module of the three programs that a person wrote."""
    paths = [path for program in PROGRAMS for path in sorted((ROOT / program).rglob("*.py"))]
    texts = {module_name(path): path.read_text() for path in paths}
    return {name: text for name, text in texts.items() if not is_generated(name)}


def documents() -> list[Path]:
    """README and everything below docs."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
