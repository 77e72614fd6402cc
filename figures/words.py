"""Words and numbers of captions."""

from __future__ import annotations

from collections.abc import Sequence


def listed(words: Sequence[str]) -> str:
    """``a, b and c``; nothing for none.

    >>> listed(["rkl", "reward", "pmle"])
    'rkl, reward and pmle'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def power(number: float, digits: int = 0) -> str:
    """A number in powers of ten, without the exponent's sign and zeros.

    >>> power(1e10), power(356425.6, 1), power(5e-6)
    ('1e10', '3.6e5', '5e-6')
    """
    mantissa, _, exponent = f"{number:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
