"""The documents and docstrings tell the truth where a program can check it.

Data flow: README, docs, module docstrings -> what they cite exists.
"""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sources import ROOT, documents, modules

RULE = re.compile(r"\b(?:rules? |R-)((?:\d+)(?:(?:, | and |-)\d+)*)", re.IGNORECASE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
DEFINED_RULE = re.compile(r"^\*\*R-(\d+)\b", re.MULTILINE)
PROMPT = re.compile(r"[\w@-]*\$ ")
"""Of nobody, a device, or a person at a device."""
SHELL_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def docstring(source: str) -> str:
    return ast.get_docstring(ast.parse(source)) or ""


def cited_rules(text: str) -> set[int]:
    """Numbers of all rules that a text names: `rule 3`, `rules 6, 8 and 9`, `R-12`."""
    numbers: set[int] = set()
    for match in RULE.finditer(text):
        numbers |= {int(one) for one in re.findall(r"\d+", match[1])}
    return numbers


def defined_rules() -> set[int]:
    return {int(one) for one in DEFINED_RULE.findall((ROOT / "docs/protocol.md").read_text())}


def anchors(text: str) -> set[str]:
    """Anchors of a document's headings, as the usual renderers make them."""
    slugs = (re.sub(r"[^\w\- ]", "", one.lower()).strip() for one in HEADING.findall(text))
    return {slug.replace(" ", "-") for slug in slugs}


def dead_links(document: Path) -> Iterator[str]:
    text = document.read_text()
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists():
            yield f"{document.relative_to(ROOT)}: {target}: no such file"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
            yield f"{document.relative_to(ROOT)}: {target}: no such heading"


def shell_commands(text: str) -> Iterator[list[str]]:
    """Words of every command in shell blocks; in a console block only lines after a prompt."""
    for block in SHELL_BLOCK.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.partition("$ ")[2] for line in lines if PROMPT.match(line)]
        for line in prompted or lines:
            words = shlex.split(line, comments=True)
            if words:
                yield words


def is_root(name: str) -> bool:
    """Packages hold nothing but a version or a sentence; `__main__` is one call."""
    return name.endswith("__main__") or any(one.startswith(f"{name}.") for one in modules())


def test_every_module_says_what_it_is() -> None:
    silent = [name for name, text in modules().items() if text.strip() and not docstring(text)]
    assert silent == []


def test_every_module_names_its_place_in_the_data_flow() -> None:
    lost = [
        name
        for name, text in modules().items()
        if text.strip() and "Data flow:" not in docstring(text) and not is_root(name)
    ]
    assert lost == []


def test_every_cited_rule_exists() -> None:
    rules = defined_rules()
    assert len(rules) >= 33
    unknown = {
        f"{name}: rule {number}"
        for name, text in modules().items()
        for number in cited_rules(text) - rules
    }
    assert unknown == set()


def test_every_rule_is_cited_where_it_is_kept() -> None:
    cited = {number for text in modules().values() for number in cited_rules(text)}
    assert defined_rules() - cited == set()


def test_documents_have_no_dead_links() -> None:
    assert [one for document in documents() for one in dead_links(document)] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_commands_in_documents_exist(document: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = set(project["scripts"])
    for words in shell_commands(document.read_text()):
        command = words[0].removeprefix(".venv/bin/")
        if "/" in command and not command.startswith(("/", "~")):
            file = ROOT / command.removeprefix("./")
            assert file.is_file(), f"{document.name}: {command} does not exist"
            assert file.stat().st_mode & 0o111, f"{document.name}: {command} is not executable"
        elif command.startswith("parsec-"):
            assert command in ours, f"{document.name}: {command} is not one of {ours}"


def test_checkers_notice() -> None:
    assert cited_rules("see rule 3, rules 6, 8 and 9; R-12. Rule 7") == {3, 6, 7, 8, 9, 12}
    assert anchors("## 2. Blocks & keys\n") == {"2-blocks--keys"}
    text = "```console\n$ scripts/no-such --flag # why\noutput\n```\n```sh\nls\n```\n"
    text += "```console\nbob@desktop$ cat it\nthat's it\nlaptop$ rm it\n```\n"
    assert list(shell_commands(text)) == [
        ["scripts/no-such", "--flag"],
        ["ls"],
        ["cat", "it"],
        ["rm", "it"],
    ]
