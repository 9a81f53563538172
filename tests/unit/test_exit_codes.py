"""Every error of the tree has a documented exit code."""

import re
from pathlib import Path

import pytest

from parsec_fs.cli.exit_codes import MEANINGS, CommandError, ExitCode, exit_code
from parsec_fs.protocol import errors


def subclasses(cls: type[BaseException]) -> set[type[BaseException]]:
    found = {cls}
    for one in cls.__subclasses__():
        found |= subclasses(one)
    return found


@pytest.mark.parametrize(
    "cls", sorted(subclasses(errors.VerificationError), key=lambda cls: cls.__name__)
)
def test_everything_false_is_evidence(cls: type[BaseException]) -> None:
    if cls is errors.ExpiredError:
        assert exit_code(cls("too old")) == ExitCode.OFFLINE
    elif cls.__module__ == errors.__name__:
        assert exit_code(cls("a lie")) == ExitCode.TAMPERED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InputError("x"), ExitCode.USAGE),
        (errors.ForbiddenError("x"), ExitCode.NOT_ALLOWED),
        (errors.DeviceFileError("x"), ExitCode.WRONG_SECRET),
        (errors.OfflineError("x"), ExitCode.OFFLINE),
        (errors.StaleError("x"), ExitCode.OFFLINE),
        (errors.RefusedError("NOT_ALLOWED"), ExitCode.NOT_ALLOWED),
        (errors.RefusedError("NOT_FOUND"), ExitCode.NOT_FOUND),
        (errors.RefusedError("NOT_AUTHENTICATED"), ExitCode.REVOKED),
        (errors.RefusedError("QUOTA"), ExitCode.FAILED),
        (errors.LocalError("x"), ExitCode.FAILED),
        (errors.DataError("x"), ExitCode.FAILED),
        (TimeoutError("x"), ExitCode.TIMEOUT),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (CommandError(ExitCode.BUSY, "x"), ExitCode.BUSY),
        (RuntimeError("x"), ExitCode.FAILED),
    ],
)
def test_table(error: BaseException, code: ExitCode) -> None:
    assert exit_code(error) == code


def test_every_code_is_documented() -> None:
    assert set(MEANINGS) == set(ExitCode)
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text()
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}
