"""What holds for every test: tiers, log hygiene, skips that CI does not accept, hypothesis.

Data flow: pytest collects -> this marks, watches and judges -> results.

- A test's folder is its tier and its marker: `pytest -m mount` works.
- A test fails on any log record of WARNING or above that it does not declare, with
  `@pytest.mark.expects_log("regex")` (must occur) or `@pytest.mark.allows_log("regex")` (may).
- With CI=true a skip is a failure, on a laptop it is loud.
"""

import gc
import logging
import os
import re
from collections.abc import Generator, Iterator

import hypothesis
import pytest

TIERS = ("unit", "property", "integration", "attack", "crash", "mount", "chain", "desktop")
IN_CI = os.environ.get("CI") == "true"
COLLECTS_GARBAGE = {"integration", "attack", "crash", "mount", "chain", "desktop"}

hypothesis.settings.register_profile(
    "ci", derandomize=True, deadline=None, database=None, max_examples=60, print_blob=True
)
hypothesis.settings.register_profile("quick", deadline=None, max_examples=20, print_blob=True)
hypothesis.settings.register_profile("dev", deadline=None, max_examples=60, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=3000, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


def pytest_configure(config: pytest.Config) -> None:
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: tests in tests/{tier}")
    config.addinivalue_line("markers", "expects_log(regex): a WARNING or above that must be logged")
    config.addinivalue_line("markers", "allows_log(regex): a WARNING or above that may be logged")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = os.path.dirname(__file__)
    for item in items:
        tier = os.path.relpath(item.path, root).split(os.sep)[0]
        if tier in TIERS:
            item.add_marker(tier)


class _Watcher(logging.Handler):
    """Collects records of WARNING and above; exceptions keep only their text."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = f"{record.levelname} {record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text += f" [{record.exc_info[1]!r}]"
        self.lines.append(text)


def undeclared(lines: list[str], expected: list[str], allowed: list[str]) -> list[str]:
    """What is wrong with these log lines: undeclared ones, and expected ones that are missing."""
    problems = [
        f"undeclared log record: {line}"
        for line in lines
        if not any(re.search(pattern, line) for pattern in (*expected, *allowed))
    ]
    problems += [
        f"expected log record never came: {pattern}"
        for pattern in expected
        if not any(re.search(pattern, line) for line in lines)
    ]
    return problems


@pytest.fixture(autouse=True)
def log_hygiene(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test whose log says something that the test did not declare."""
    watcher = _Watcher()
    logging.getLogger().addHandler(watcher)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(watcher)
    if COLLECTS_GARBAGE & {mark.name for mark in request.node.iter_markers()}:
        gc.collect()  # so that a ResourceWarning hits the test that caused it
    expected = [mark.args[0] for mark in request.node.iter_markers("expects_log")]
    allowed = [mark.args[0] for mark in request.node.iter_markers("allows_log")]
    problems = undeclared(watcher.lines, expected, allowed)
    assert not problems, "\n".join(problems)


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI everything must run: what is missing there is a failure."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must run everything: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = len(terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.write_line(
            f"WARNING: {skipped} skipped. Not everything was tested; see the reasons above.",
            red=True,
            bold=True,
        )
