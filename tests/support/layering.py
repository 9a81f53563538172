"""Who may import whom, and what a pure module may not do: the rules, as functions over source text.

Data flow: source text -> `check_source`, `find_cycles` -> list of violations, each with a remedy.

One sentence: everything may import `parsec_fs.protocol`, which imports nobody; the three programs
never import each other; pure modules never import shells; every I/O library has one home.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PROGRAMS = ("parsec_fs", "server", "abci_app")


@dataclass(frozen=True)
class Part:
    """Modules below `prefix`: pure or shell, and what of ours they may import beside themselves."""

    prefix: str
    pure: bool = False
    ours: tuple[str, ...] = ()


PROTOCOL = "parsec_fs.protocol"
CLIENT_CORE = (PROTOCOL, "parsec_fs.identity", "parsec_fs.config", "parsec_fs.plain_text")
EVIDENCE_OF_REPLICAS = ("parsec_fs.workspace.refused_leaf", "parsec_fs.workspace.replica_checks")

# The longest prefix that fits a module decides. `ours` does not repeat the part itself.
PARTS = (
    Part(PROTOCOL, pure=True),
    Part("parsec_fs", ours=("parsec_fs",)),  # composition roots and what only they use
    Part("parsec_fs.identity", pure=True, ours=(PROTOCOL,)),
    Part("parsec_fs.plain_text", pure=True),
    Part("parsec_fs.enrolment", pure=True, ours=CLIENT_CORE),
    Part("parsec_fs.user_keys", pure=True, ours=(*CLIENT_CORE, "parsec_fs.enrolment")),
    Part("parsec_fs.joining", pure=True, ours=CLIENT_CORE),
    Part("parsec_fs.recovery", pure=True, ours=(*CLIENT_CORE, "parsec_fs.joining")),
    Part(
        "parsec_fs.sealed_shares",
        pure=True,
        ours=(*CLIENT_CORE, "parsec_fs.recovery", "parsec_fs.user_keys"),
    ),
    Part("parsec_fs.greeting", pure=True, ours=(*CLIENT_CORE, "parsec_fs.joining")),
    Part("parsec_fs.people", pure=True, ours=CLIENT_CORE),
    Part(
        "parsec_fs.authors",
        pure=True,
        ours=(*CLIENT_CORE, "parsec_fs.recovery", "parsec_fs.workspace.conflicts"),
    ),
    Part("parsec_fs.people_log", pure=True, ours=(*CLIENT_CORE, "parsec_fs.people")),
    Part("parsec_fs.passphrase", pure=True, ours=(PROTOCOL,)),
    Part("parsec_fs.device_lock", pure=True, ours=(PROTOCOL, "parsec_fs.passphrase")),
    Part("parsec_fs.workspace", pure=True, ours=CLIENT_CORE),
    Part("parsec_fs.storage", ours=CLIENT_CORE),
    Part("parsec_fs.remote", ours=CLIENT_CORE),
    Part("parsec_fs.mount", ours=(*CLIENT_CORE, "parsec_fs.workspace", "parsec_fs.storage")),
    Part("parsec_fs.audit", pure=True, ours=(*CLIENT_CORE, *EVIDENCE_OF_REPLICAS)),
    Part("parsec_fs.cli", ours=("parsec_fs",)),
    Part("server", ours=(PROTOCOL, "server")),
    Part("server.decisions", pure=True, ours=(PROTOCOL,)),
    Part("server.store", ours=(PROTOCOL, "server.decisions")),
    Part("server.blocks", ours=(PROTOCOL,)),
    Part("abci_app", pure=True, ours=(PROTOCOL,)),
)

# Inside parts that are otherwise pure: modules that own I/O, tasks or locks, or wire such modules
# together, and what of ours they may import beside what their part may.
RESOURCES = (
    "parsec_fs.storage",
    "parsec_fs.remote",
    "parsec_fs.enrolment",
    "parsec_fs.user_keys",
)
SHELLS: dict[str, tuple[str, ...]] = {
    **{
        f"parsec_fs.workspace.{name}": RESOURCES
        for name in (
            "assembly",
            "audit_view",
            "bootstrap",
            "contest",
            "reviving",
            "settling",
            "digests",
            "filesystem",
            "fsck",
            "gate",
            "groups",
            "leaf_groups",
            "memory",
            "mending",
            "nesting",
            "opener",
            "org_replica",
            "own_commits",
            "payloads",
            "places",
            "push",
            "realm_keys",
            "realm_rebuild",
            "rekeying",
            "replica",
            "room",
            "seal_queue",
            "sharing",
            "slices",
            "snapshot_reader",
            "standing",
            "store_loader",
            "strict_open",
            "sync",
            "syncs",
            "takeovers",
            "upload",
        )
    },
    **{
        f"parsec_fs.audit.{name}": RESOURCES
        for name in (
            "audit_store",
            "auditor",
            "clock",
            "comparison",
            "light_client",
            "ports",
            "server_door",
        )
    },
    **{f"abci_app.{name}": () for name in ("__main__", "cli", "devnet", "server", "store")},
}

# Library -> the only modules (prefixes) that import it.
HOMES: dict[str, tuple[str, ...]] = {
    "hashlib": ("parsec_fs.protocol.hashing",),
    "hmac": ("parsec_fs.protocol.hashing", "parsec_fs.protocol.sealing"),
    "msgpack": ("parsec_fs.protocol.codec", "parsec_fs.storage.journal_groups"),
    "cryptography": (
        "parsec_fs.protocol.keys",
        "parsec_fs.protocol.sealing",
        "parsec_fs.passphrase",
    ),
    "mnemonic": ("parsec_fs.recovery_words",),
    "shamir_mnemonic": ("parsec_fs.recovery_words",),
    "keyring": ("parsec_fs.desktop_keyring",),
    "pyfuse3": ("parsec_fs.mount",),
    "sqlite3": ("parsec_fs.storage", "server.store", "abci_app.store"),
    "httpx": ("parsec_fs.remote", "server.chain"),
    "sqlalchemy": ("server.store",),
    "alembic": ("server.store",),
    "psycopg": ("server.store",),
    "minio": ("server.blocks",),
    "urllib3": ("server.blocks",),
    "starlette": ("server.http", "server.app", "server.listener"),
    "uvicorn": ("server.listener",),
    "anyio": ("server",),
    "trio": ("parsec_fs", "abci_app"),
    "typer": ("parsec_fs.cli", "server.cli", "abci_app.cli"),
    "rich": ("parsec_fs.cli", "server.cli"),
    "google": ("abci_app",),
}

IO_MODULES = frozenset(
    {
        "anyio",
        "asyncio",
        "concurrent",
        "fcntl",
        "glob",
        "http",
        "io",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "trio",
        "urllib",
        "uuid",
        "zoneinfo",
    }
)
CLOCK_CALLS = frozenset({"now", "today", "utcnow", "fromtimestamp"})
IO_CALLS = frozenset({"open", "print", "input", "breakpoint", "exec", "eval"})


def part_of(module: str) -> Part:
    """The part that decides about a module."""
    fitting = [part for part in PARTS if below(module, part.prefix)]
    part = max(fitting, key=lambda one: len(one.prefix))
    if module in SHELLS:
        return Part(part.prefix, ours=(*part.ours, *SHELLS[module]))
    return part


def below(module: str, prefix: str) -> bool:
    """Is the module this package or inside it?"""
    return module == prefix or module.startswith(prefix + ".")


def imports(source: str, known: frozenset[str]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also inside functions; `known` are our module names."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in known else base


def check_source(module: str, source: str, known: frozenset[str] = frozenset()) -> list[str]:
    """Everything that a module's text breaks."""
    part = part_of(module)
    problems = [
        f"{module}:{line}: {problem}"
        for line, target in sorted(set(imports(source, known)))
        for problem in _check_import(module, target, part)
    ]
    tree = ast.parse(source)
    if part.pure:
        problems += [f"{module}:{line}: {text}" for line, text in _impurities(tree)]
        if below(module, "abci_app"):
            problems += [f"{module}:{line}: {text}" for line, text in _nondeterminism(tree)]
    return problems


def _check_import(module: str, target: str, part: Part) -> Iterator[str]:
    if target.startswith("."):
        yield "relative import; write the full name"
        return
    top = target.split(".")[0]
    if top in PROGRAMS:
        allowed = (part.prefix, *part.ours)
        if not any(below(target, one) for one in allowed):
            yield f"may not import {target}; allowed: {', '.join(allowed)}"
        elif part.pure and not part_of(target).pure:
            yield f"is pure and may not import the shell {target}; pass in what it needs"
        return
    if top in HOMES and not any(below(module, home) for home in HOMES[top]):
        yield f"{top} belongs into {', '.join(HOMES[top])} only; use what those offer"
    elif top not in HOMES and top not in sys.stdlib_module_names:
        yield f"unknown library {top}; give it a home in tests/support/layering.py"
    if part.pure and top in IO_MODULES:
        yield f"is pure and may not import {top}; pass the value in, or make it a shell"


def _impurities(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield node.lineno, "is pure: nothing in it may wait"
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in IO_CALLS:
                yield node.lineno, f"is pure: no {called.id}()"
            if isinstance(called, ast.Attribute) and called.attr in CLOCK_CALLS:
                yield node.lineno, "is pure: time is a parameter"


def _nondeterminism(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Validators must agree to the bit: no floats, no order that hashing decides."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield node.lineno, "float in consensus code; use integers"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            yield node.lineno, "true division in consensus code; use //"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "float":
                yield node.lineno, "float in consensus code; use integers"
        elif isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
            yield node.iter.lineno, "iteration over a set in consensus code; sort it first"


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("set", "frozenset")
    return isinstance(node, ast.Set | ast.SetComp)


def find_cycles(graph: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """Import cycles, each once, as the modules on the way round."""
    cycles: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            cycles.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(graph.get(module, frozenset())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])
    return cycles
