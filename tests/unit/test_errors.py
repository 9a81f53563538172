"""The drawing of the error tree is the error tree.

Data flow: docstring of `protocol.errors` -> (class, parent) pairs == those of the classes.
"""

import inspect
import re

from parsec_fs.protocol import errors

MAX_CLASSES = 30


def drawn() -> dict[str, str]:
    """Class -> parent, as the docstring draws it."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ((?:\|   |    )*)(\|-- |`-- )?(\w+Error)\b.*", line)
        if match is None:
            continue
        depth = len(match[1]) // 4 + bool(match[2])
        path[depth:] = [match[3]]
        parents[match[3]] = path[depth - 1] if depth else "Exception"
    return parents


def test_drawing_equals_classes() -> None:
    classes = {
        name: cls.__bases__[0].__name__
        for name, cls in inspect.getmembers(errors, inspect.isclass)
        if cls.__module__ == errors.__name__
    }
    assert drawn() == classes
    assert len(classes) <= MAX_CLASSES


def test_every_class_says_what_it_means() -> None:
    for name in drawn():
        assert getattr(errors, name).__doc__


def test_operation_errors_carry_an_errno() -> None:
    assert errors.OfflineError("x").errno == errors.OfflineError.errno
    assert errors.LocalError("x", errno=2).errno == 2
    refused = errors.RefusedError("quota", b"answer")
    assert (refused.outcome, refused.answer) == ("quota", b"answer")


def test_verification_errors_carry_evidence() -> None:
    assert errors.ForkError("two heads", evidence=(b"one", b"two")).evidence == (b"one", b"two")
    assert errors.ProofError("no root").evidence == ()
