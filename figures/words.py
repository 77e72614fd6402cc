"""Words and numbers of captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Methods that are not written as their registered name in capitals.
NAMES = {
    "chipo": "χPO",
    "d-dpo": "d-DPO",
    "dp-dpo": "dp-DPO",
    "e-dpo": "e-DPO",
    "hypo": "HyPO",
    "oracle": "DRDO's teacher",
    "p-dpo": "p-DPO",
    "pref-distill": "preference distillation",
    "reward": "the reward model",
    "simpo": "SimPO",
}
# Between these a number is written out.
LEAST, MOST = 1e-3, 1e5


def written(*methods: str) -> str:
    """Methods as people write them; what follows a registered name stays.

    >>> written("rkl", "e-dpo", "drdo (tied)")
    'RKL, e-DPO and DRDO (tied)'
    """
    parts = [method.partition(" ") for method in methods]
    return listed([NAMES.get(registered, registered.upper()) + space + rest for registered, space, rest in parts])


def some(count: int, total: int) -> str:
    """How many of how many; raises `ValueError` for more than there are.

    >>> some(0, 3), some(2, 3), some(3, 3), some(2, 2), some(1, 1)
    ('none of 3', '2 of 3', 'all 3', 'both', '1 of 1')
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total}")
    if count == total > 1:
        return "both" if total == 2 else f"all {total}"
    return f"{count or 'none'} of {total}"


def short(number: float) -> str:
    """Two significant digits; in powers of ten where it is very small or large.

    >>> short(0.0836), short(1.03), short(803.4), short(7289.0), short(5.02e-6), short(1.24e5), short(0.0)
    ('0.084', '1.0', '800', '7,300', '5e-6', '1.2e5', '0')
    """
    rounded = float(f"{number:.1e}")
    if rounded and not LEAST <= abs(rounded) < MOST:
        return power(rounded, 1).replace(".0e", "e")
    return f"{rounded:,.0f}" if abs(rounded) >= 10 or not rounded else f"{rounded:#.2g}"


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


def opening(text: str) -> str:
    """Words that begin a sentence.

    >>> opening("the reward model and RKL"), opening("e-DPO")
    ('The reward model and RKL', 'e-DPO')
    """
    first = text.split(" ")[0].rstrip(",")
    return text[0].upper() + text[1:] if first.islower() else text


@dataclass(frozen=True)
class Share:
    """A share of what is possible, with its interval."""

    value: float
    low: float
    high: float


def shares(found: Sequence[Share], same: float, whole: str) -> str:
    """The whole, if every interval holds 1; else the shares of it, one number where they are within ``same`` of each other.

    >>> shares([Share(0.98, 0.94, 1.02), Share(1.01, 0.97, 1.05)], 0.02, "the limit")
    'the limit, within a sampling error of 4%'
    >>> shares([Share(0.5, 0.4, 0.6), Share(0.9, 0.85, 0.95)], 0.02, "the limit")
    '50% to 90% (± 10%) of the limit'
    """
    values = [share.value for share in found]
    error = max(share.high - share.low for share in found) / 2
    if all(share.low <= 1 <= share.high for share in found):
        return f"{whole}, within a sampling error of {error:.0%}"
    agree = max(values) - min(values) < same
    number = f"{sum(values) / len(values):.0%}" if agree else f"{min(values):.0%} to {max(values):.0%}"
    return f"{number} (± {error:.0%}) of {whole}"
