"""Words for paper: 24 of BIP-39, or shares of SLIP-39 of which some suffice.

Data flow: kit of `recovery` -> words, shares -> people -> typed again -> kit.

Both carry a checksum: a word that was misread is noticed before anything is asked of a server.
Shares are of 256 bits, 33 words each; fewer than needed say nothing about the secret, and a share
alone does not even say whose it is. Words are secrets: no error of this module shows one.
"""

import unicodedata
from collections.abc import Sequence
from typing import Final

from mnemonic import Mnemonic
from shamir_mnemonic import MnemonicError, Share, combine_mnemonics, generate_mnemonics

from parsec_fs.protocol.errors import InputError
from parsec_fs.recovery import Kit, kit_of

WORDS: Final = 24
SHARE_WORDS: Final = 33
SHARES_MAX: Final = 16
"""As many as SLIP-39 can number."""

_COMPLETE: Final = "a kit has 24 words, a share of one has 33"


def kit_words(kit: Kit) -> tuple[str, ...]:
    """24 words."""
    return tuple(_book().to_mnemonic(kit.encode()).split())


def kit_shares(kit: Kit, needed: int, count: int) -> tuple[tuple[str, ...], ...]:
    """`count` shares of 33 words, of which any `needed` give the kit. Raises InputError."""
    if not 2 <= needed <= count <= SHARES_MAX:
        raise InputError(
            f"at least 2 shares are needed, and there are at most {SHARES_MAX}: "
            "for two of three, --shares 2/3"
        )
    # The secret is random: stretching it again would only make people wait.
    (shares,) = generate_mnemonics(1, [(needed, count)], kit.encode(), iteration_exponent=0)
    return tuple(tuple(one.split()) for one in shares)


def check_share(words: Sequence[str]) -> Sequence[str]:
    """The words of one share, if they are one by their checksum. Raises InputError."""
    _share(" ".join(words), 1)
    return words


def split_words(text: str) -> tuple[str, ...]:
    """Words as people type them: any white space, any case; numbers and dots are left out."""
    plain = unicodedata.normalize("NFKD", text).lower()
    return tuple(one for one in plain.split() if one.strip("0123456789.,:)"))


def is_complete(words: Sequence[str]) -> bool:
    """Is this a kit, or as many shares as are needed? Never raises."""
    if len(words) == WORDS:
        return not set(words) - set(_book().wordlist)
    if not words or len(words) % SHARE_WORDS:
        return False
    try:
        needed = Share.from_mnemonic(" ".join(words[:SHARE_WORDS])).member_threshold
    except MnemonicError:
        return True
    return bool(len(words) // SHARE_WORDS >= needed)


def read_kit(words: Sequence[str]) -> Kit:
    """The kit of 24 words, or of shares one after the other. Raises InputError."""
    if len(words) == WORDS:
        return _from_words(words)
    if not words or len(words) % SHARE_WORDS:
        raise InputError(f"these are {len(words)} words, but {_COMPLETE}")
    starts = range(0, len(words), SHARE_WORDS)
    return _from_shares([" ".join(words[at : at + SHARE_WORDS]) for at in starts])


def _from_words(words: Sequence[str]) -> Kit:
    known = set(_book().wordlist)
    for place, word in enumerate(words, start=1):
        if word not in known:
            raise InputError(f"word {place} is not in the list; compare it with your paper")
    try:
        return kit_of(bytes(_book().to_entropy(list(words))))
    except ValueError:
        # Not chained: the library's own text must not lead to what was typed.
        raise InputError(
            "the checksum of these words is wrong: one of them is misread, or they are in "
            "another order; compare them with your paper"
        ) from None


def _from_shares(texts: Sequence[str]) -> Kit:
    shares = [_share(text, place) for place, text in enumerate(texts, start=1)]
    first = shares[0]
    if any(one.common_parameters() != first.common_parameters() for one in shares):
        raise InputError("these shares are of different kits; shares of one kit belong together")
    distinct = {one.index: text for one, text in zip(shares, texts, strict=True)}
    if len(distinct) < first.member_threshold:
        raise InputError(
            f"these are {len(distinct)} different shares, this kit takes {first.member_threshold}: "
            "ask another one who keeps a share"
        )
    chosen = sorted(distinct.items())[: first.member_threshold]
    try:
        data = combine_mnemonics([text for _, text in chosen])
    except MnemonicError:
        raise InputError("these shares do not fit together; try another one") from None
    return kit_of(data)


def _share(text: str, place: int) -> Share:
    try:
        return Share.from_mnemonic(text)
    except MnemonicError:
        raise InputError(
            f"share {place} is misread: a word is not in the list, or the checksum is wrong; "
            "compare it with the paper"
        ) from None


def _book() -> Mnemonic:
    return Mnemonic("english")
