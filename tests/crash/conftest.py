"""A folder worth copying.

Data flow: standard library, random bytes -> source -> copied by the crash tests.
"""

import os
import random
import shutil
import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds of sizes: empty, inside a manifest, a block, several blocks; and what a
    programmer has."""
    folder = tmp_path_factory.mktemp("source")
    sizes = [0, 1, 3_000, 16_384, 16_385, 90_000, 400_000, 1_048_576, 2_500_000]
    for number in range(108):
        path = folder / f"folder{number % 5}" / f"{number:03}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(sizes[number % len(sizes)]))
    for package in ("email", "json"):
        shutil.copytree(
            Path(sysconfig.get_path("stdlib")) / package,
            folder / "library" / package,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    return folder


@pytest.fixture
def chance() -> random.Random:
    """Random moments; the seed is printed when the test fails, `scripts/crash_test` takes it."""
    seed = int(os.environ.get("PARSEC_CRASH_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"seed {seed}")
    return random.Random(seed)
