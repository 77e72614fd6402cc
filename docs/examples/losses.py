"""Three losses whose truth can be derived by hand, and DRDO's focal term alone.

theory audit --objective docs/examples/losses.py:consistent
"""

import torch
from torch.nn.functional import logsigmoid

from theory.objectives.drdo import focal_log_odds


def consistent(pair, *, gamma):
    """Maximum likelihood under the preference model.

    Equation: −log σ(γ Δlogπ)
    Limit: π*, since this is the likelihood that made the labels
    """
    return -logsigmoid(gamma * pair.logp_margin)


def biased(pair):
    """Least squares towards a margin of one nat.

    Equation: (Δlogπ − 1)²
    Limit: on a pair, Δlogπ = 2P − 1, where π* has log P/(1 − P): too flat
    """
    return (pair.logp_margin - 1.0) ** 2


def degenerate(pair):
    """The probability that the policy orders the pair as the label does, maximised.

    Equation: −σ(Δlogπ)
    Limit: none: on a pair it is P-weighted towards ±∞, so the better response takes everything
    """
    return -torch.sigmoid(pair.logp_margin)


def focal_only(pair, *, gamma_f=2.0):
    """DRDO's focal log-odds-unlikelihood without its distillation term.

    Equation: −(1−p_w)^γf · log(π(y_w)/(1 − π(y_l))), p_w = σ(Δlogπ)
    """
    return focal_log_odds(pair, gamma_f=gamma_f)
