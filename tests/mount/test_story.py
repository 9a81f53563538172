"""The story of three people and five devices happens as it is told, and as docs/people.md tells it.

Data flow: scripts/story_people (one run) -> its walkthrough, what it leaves behind -> the document.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chain import require_cometbft
from tests.support.console_blocks import Step, blocks, console_steps, pattern
from tests.support.installation import ROOT, SCRIPTS
from tests.support.requirements import require_fuse
from tests.support.spying import Spy

from story_coming import PASSPHRASE  # isort: skip

STORY_S = 500
"""Several times as long as it takes on a busy machine."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def spy(home: Path) -> Spy:
    """Looks at every process and log of the story, and keeps what it saw."""
    logs = (
        "*/.local/share/parsec-fs/device/*.log",
        "*/.local/share/parsec-fs/device/workspaces/*/logs/*.log",
        "servers/*/*.log",
    )
    return Spy(home, logs, ["*/.local/share/parsec-fs/device/device.key"])


@pytest.fixture(scope="module")
def told(home: Path, spy: Spy) -> str:
    """What the story prints, if it ends well."""
    require_fuse()
    require_cometbft()
    command = [sys.executable, str(SCRIPTS / "story_people"), "--home", str(home)]
    pipe = subprocess.PIPE
    spy.start()
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            output, errors = process.communicate(timeout=STORY_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # not killed: it ends what it has started
            output, errors = process.communicate()
        finally:
            spy.end()
    assert process.returncode == 0, f"{output[-3000:]}\n{errors}"
    return output


def steps(text: str) -> list[Step]:
    return [step for block in blocks(text, "console") for step in console_steps(block)]


def headings(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("## ") and line[3].isdigit()]


def processes(folder: Path) -> Iterator[str]:
    """Of everybody, whose command line or environment names a folder."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            about = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in about:
            yield about.decode(errors="replace")


def test_the_story_leaves_nothing_behind(told: str, home: Path) -> None:
    assert list(home.iterdir()) == []
    assert list(processes(home)) == []
    assert str(home) not in Path("/proc/self/mountinfo").read_text()


def test_the_walkthrough_shows_what_happened(told: str) -> None:
    document = (ROOT / "docs/people.md").read_text()
    assert headings(document) == headings(told)
    shown, typed = steps(document), steps(told)
    assert [(one.who, one.command) for one in shown] == [(one.who, one.command) for one in typed]
    for expected, step in zip(shown, typed, strict=True):
        assert pattern(expected.output).fullmatch(step.output), (
            f"{step.who}$ {step.command}\n{step.output}\nexpected:\n{expected.output}"
        )


def secrets_of(told: str) -> list[bytes]:
    """What was typed or shown on the screens alone: the passphrase, what stands behind the # of
    each link, the words of kits and shares, six or three in a row as they were printed."""
    links = re.findall(r"http\S+#(\S+)", told)
    rows = re.findall(r"^((?: +\d+ [a-z]+){3,6})$", told, re.MULTILINE)
    words = [" ".join(re.findall(r"[a-z]+", row)) for row in rows]
    assert len(links) >= 3
    assert len(words) >= 4 + 6
    return [one.encode() for one in (PASSPHRASE, *links, *words)]


def test_no_secret_is_in_arguments_environments_or_logs(told: str, spy: Spy) -> None:
    """While people set a passphrase, unlock, invite, join, make kits and recover."""
    for flow in (
        *("device passphrase set", "unlock", "recovery create", "recovery use", "recovery drill"),
        *("recovery share show", "user invite", "user join", "device add", "device join"),
        *("agent", "mount", "parsec-server"),
    ):
        assert spy.ran(flow), f"nobody looked while {flow} ran"
    assert any(b"HOME=" in one for one in spy.environments)
    assert any(spy.logs.values())
    assert spy.secrets
    assert spy.findings([b"device passphrase set"]), "the search finds what is there"
    assert spy.findings([*secrets_of(told), *spy.secrets]) == []
