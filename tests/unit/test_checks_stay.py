"""No program can leave a check out: only a test can make weaker checks, and only hand them over.

Data flow: sources -> `ast` -> who defines, makes or mentions the classes of checks.
"""

import ast

from tests.support.sources import modules

CLASSES = {
    "AdmissionChecks": "parsec_fs.admission",
    "CostChecks": "parsec_fs.passphrase",
    "GreetingChecks": "parsec_fs.greeting",
    "Auditor": "parsec_fs.audit.auditor",
    "HeaderChecks": "parsec_fs.audit.headers",
    "ReplicaChecks": "parsec_fs.workspace.replica_checks",
    "Checks": "parsec_fs.audit.checks",
}
"""Where each is defined, and where the one instance that programs use is made."""


def named(node: ast.expr) -> str:
    """Last part of a dotted name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def offenders(module: str, source: str) -> list[str]:
    """Definitions and instances of checks that do not belong there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            used = [named(base) for base in node.bases]
        elif isinstance(node, ast.Call):
            used = [named(node.func)]
        else:
            continue
        found += [
            f"{module}, line {node.lineno}: {name}"
            for name in used
            if name in CLASSES and module not in (CLASSES[name], CLASSES["Checks"])
        ]
    return found


def test_checks_are_made_once() -> None:
    assert [one for name, text in modules().items() for one in offenders(name, text)] == []


def test_the_command_line_does_not_know_them() -> None:
    mentions = [
        name
        for name, text in modules().items()
        if name.startswith("parsec_fs.cli") and any(cls in text for cls in CLASSES)
    ]
    assert mentions == []


def test_planted_offender_is_noticed() -> None:
    assert len(offenders("planted", "class Weak(Checks): pass\nweak = checks.ReplicaChecks()")) == 2
