"""A mounted workspace for each test file, and an empty folder in it for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.mounts import Daemon, mounted
from tests.support.requirements import require_fuse


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of a file; it must end without an error."""
    require_fuse()
    with mounted(tmp_path_factory.mktemp("workspace"), "--stored-owners") as running:
        yield running
        running.unmount()
        assert "unexpected error" not in running.log.read_text()


@pytest.fixture
def folder(daemon: Daemon, request: pytest.FixtureRequest) -> Path:
    """An empty folder on the mount."""
    path: Path = daemon.path / str(request.node.name).replace("/", "-")[:200]
    path.mkdir()
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon of this test alone, to be killed and started again."""
    require_fuse()
    with mounted(tmp_path) as running:
        yield running
