"""A hostile server with its chain, shared by the tests of a file.

Data flow: `product` -> `hostile` -> scenes of the test files -> machines.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.insider import Insider
from tests.support.product import Machine, Product, product
from tests.support.requirements import require_fuse


@pytest.fixture(scope="module")
def hostile() -> Iterator[Product]:
    """A hostile server that has not lied yet."""
    require_fuse()
    with product(hostile=True) as running:
        yield running


@pytest.fixture
def insider_of(tmp_path: Path) -> Iterator[object]:
    """Makes insiders; closes them."""
    made: list[Insider] = []

    def make(machine: Machine) -> Insider:
        made.append(Insider(machine, tmp_path / f"{len(made)}.db"))
        return made[-1]

    yield make
    for one in made:
        one.close()
