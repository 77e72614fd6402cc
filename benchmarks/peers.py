"""Bradley–Terry fits by the two named peers, each used in its most favourable way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
# One matrix's fit: prepared outside the timed region, timed when called.
Call = Callable[[], Any]
LIMIT = 10_000


@dataclass(frozen=True)
class Peer:
    """A library that fits Bradley–Terry scores to a win matrix.

    Attributes:
        name: the function.
        prepare: (win matrix, tolerance) to the call that is timed.
        scores: the call's answer to log-strengths in the matrix's order.
    """

    name: str
    prepare: Callable[[Matrix, float], Call]
    scores: Callable[[Any], Matrix]


def peers() -> list[Peer]:
    """choix, evalica, and the compiled core of evalica without its pandas interface (a private function)."""
    try:
        import choix
        import evalica
        from evalica import _brzo
    except ImportError as error:
        raise RuntimeError(f"{error.name} is missing: pip install -e '.[bench]'") from None
    import pandas as pd  # evalica's own dependency

    def dense(wins: Matrix, tolerance: float) -> Call:
        return partial(choix.ilsr_pairwise_dense, wins, max_iter=LIMIT, tol=tolerance)

    def newman(wins: Matrix, tolerance: float) -> Call:
        xs, ys = np.nonzero(wins)
        # Arrays are what its indexing takes fastest; lists are what its compiled core takes.
        common = _common(wins, xs, ys, evalica.Winner.X, tolerance)
        return partial(evalica.newman, xs, ys, index=pd.Index(np.arange(len(wins))), **common)

    def core(wins: Matrix, tolerance: float) -> Call:
        xs, ys = np.nonzero(wins)
        common = _common(wins, xs, ys, evalica.Winner.X, tolerance)
        return partial(_brzo.newman, xs.tolist(), ys.tolist(), total=len(wins), win_weight=1.0, tie_weight=1.0, **common)

    return [
        Peer("choix.ilsr_pairwise_dense", dense, np.asarray),
        Peer("evalica.newman", newman, lambda found: np.log(found.scores.sort_index().to_numpy())),
        Peer("evalica._brzo.newman", core, lambda found: np.log(found[0])),
    ]


def _common(wins: Matrix, xs: NDArray[Any], ys: NDArray[Any], won: Any, tolerance: float) -> dict[str, Any]:
    """Each pair that was seen once, weighted by its count; no ties, so the tie parameter starts at 0 and stays."""
    weights = wins[xs, ys].tolist()
    return {"winners": [won] * len(xs), "weights": weights, "v_init": 0.0, "tolerance": tolerance, "limit": LIMIT}


def gradient_norm(wins: Matrix, scores: Matrix) -> float:
    """Max-norm of the gradient of the log-likelihood per comparison, computed apart from every library."""
    lost = wins / (1 + np.exp(scores[:, None] - scores[None, :]))
    return float(np.abs(lost.sum(1) - lost.sum(0)).max() / wins.sum())
