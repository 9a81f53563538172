"""Nothing grows beyond what a reader can hold: lines of modules and functions, depth of nesting.

Data flow: sources -> `ast` -> offenders, which must be none.
"""

import ast

import pytest

from tests.support.sources import modules

MODULE_MAX_LINES = 400
FUNCTION_MAX_LINES = 60
MAX_NESTING = 3

# Name -> (limit, why). One line per request, command or part makes these long, not deep.
LARGER: dict[str, tuple[int, str]] = {
    "parsec_fs.workspace.assembly.assemble": (90, "one constructor call per part, nothing else"),
    "parsec_fs.mount.operations": (450, "one short method per FUSE request"),
    "parsec_fs.workspace.filesystem": (450, "one short method per transaction"),
}

_BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.Match)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def offenders(module: str, source: str) -> list[str]:
    """What is too large in a module's text."""
    limit, _ = LARGER.get(module, (MODULE_MAX_LINES, ""))
    lines = len(source.splitlines())
    found = [f"{module}: {lines} lines, at most {limit}"] if lines > limit else []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, _FUNCTIONS):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        most, _ = LARGER.get(f"{module}.{node.name}", (FUNCTION_MAX_LINES, ""))
        if length > most:
            found.append(f"{module}.{node.name}: {length} lines, at most {most}")
        depth = max((_depth(one) for one in node.body), default=0)
        if depth > MAX_NESTING:
            found.append(f"{module}.{node.name}: nested {depth} deep, at most {MAX_NESTING}")
    return found


def _depth(node: ast.AST) -> int:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return 0
    deepest = max((_depth(child) for child in _children(node)), default=0)
    return deepest + isinstance(node, _BLOCKS)


def _children(node: ast.AST) -> list[ast.AST]:
    """Children, with `elif` on the level of its `if`."""
    children = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        children.remove(node.orelse[0])
        children += _children(node.orelse[0])
    return children


def test_nothing_is_too_large() -> None:
    found = [one for name, text in modules().items() for one in offenders(name, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n" * (MODULE_MAX_LINES + 1),
        "def f():\n" + "    x = 1\n" * FUNCTION_MAX_LINES,
        "def f():\n if a:\n  for b in c:\n   while d:\n    with e: pass",
    ],
)
def test_planted_offender_is_noticed(source: str) -> None:
    assert len(offenders("planted", source)) == 1


def test_chain_of_elif_is_not_deep() -> None:
    chain = "def f():\n if a: pass\n" + " elif b: pass\n" * 9
    assert offenders("planted", chain) == []
