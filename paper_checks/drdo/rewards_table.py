"""Table 2 of the drdo paper, as printed, and what §6 says of it. Lines are of the text, 000."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import binomtest, spearmanr

from paper_checks.claims import Finding, claim
from paper_checks.drdo.outcome import conditional, judged
from theory.instances.tabular import Array

BASELINES = ("SFT", "DPO", "e-DPO")
# Lines 84–88: DRDO's win rate against the three baselines at each of four temperatures. The temperatures are lost
# in the text; we take the columns to be in ascending order.
TABLE = {
    "OPT-125M": (0.47, 0.61, 0.51, 0.52, 0.63, 0.50, 0.57, 0.58, 0.54, 0.57, 0.64, 0.61),
    "OPT-350M": (0.58, 0.63, 0.60, 0.61, 0.70, 0.65, 0.60, 0.70, 0.69, 0.66, 0.70, 0.68),
    "OPT-1.3B": (0.83, 0.70, 0.83, 0.82, 0.65, 0.81, 0.83, 0.63, 0.75, 0.81, 0.59, 0.78),
    "OPT-2.7B": (0.81, 0.68, 0.83, 0.80, 0.64, 0.80, 0.79, 0.62, 0.78, 0.79, 0.60, 0.75),
    "Phi-3": (0.66, 0.80, 0.57, 0.71, 0.83, 0.58, 0.75, 0.86, 0.60, 0.76, 0.88, 0.66),
}
MODELS = tuple(TABLE)
# Parameters in billions; Phi-3-mini's are from Abdin et al. (2024), not from the text.
SIZES = (0.125, 0.35, 1.3, 2.7, 3.8)
ROUNDING = 0.005


def rates() -> Array:
    """Win rates, shape (models, temperatures, baselines)."""
    return np.array([TABLE[name] for name in MODELS]).reshape(len(MODELS), 4, len(BASELINES))


def by_name(values: Array, names: tuple[str, ...] = MODELS) -> dict[str, float]:
    """One number a name."""
    return {name: float(value) for name, value in zip(names, values, strict=True)}


@claim(
    "drdo-table-2-averages",
    statement="§6, on Table 2",
    says="DRDO-trained OPT-1.3B, OPT-2.7B and Phi-3 win 76%, 74% and 72% on average across baselines (line 89).",
    assumes="the mean of a row's twelve entries.",
    predicts="0.76, 0.74 and 0.72.",
    tested="the means of lines 86–88, and what rounding of the entries to two digits leaves open",
    expects="holds-if",
)
def row_averages() -> Finding:
    """0.7525, 0.7408 and 0.7217: the first is 75% unless its entries were nearly all rounded down."""
    means = rates().mean((1, 2))[2:]
    said = np.array([0.76, 0.74, 0.72])
    printed = np.round(means, 2) == said
    possible = np.abs(means - said) < 2 * ROUNDING
    # Twelve independent rounding errors, each uniform within half a digit.
    spread = ROUNDING / math.sqrt(3 * 12)
    needed = float(said[0] - ROUNDING - means[0])
    return conditional(
        bool(possible.all()),
        not printed.all(),
        {
            "source": "000, line 89: “average win rates of 76%, 74%, and 72%, respectively, across all baselines”",
            "means": by_name(means, MODELS[2:]),
            "rounds_to_what_is_said": [bool(p) for p in printed],
        },
        assumption="OPT-1.3B's unrounded entries are on average 0.0025 above the printed ones (at most 0.005 is possible)",
        counterexample={
            "row": "OPT-1.3B, line 86",
            "mean": float(means[0]),
            "said": 0.76,
            "needed_in_standard_errors": needed / spread,
        },
    )


@claim(
    "drdo-table-2-best",
    statement="§6, on Table 2",
    says="The highest win rate is 88%, against DPO with Phi-3, and policies of the Oracle's size (1.3B) gain most (line 89).",
    assumes="gains are the means of rows.",
    predicts="the table's largest entry is 0.88; OPT-1.3B's mean is the highest.",
    tested="lines 84–88",
    expects="holds",
)
def best_entries() -> Finding:
    """Both are as said."""
    table = rates()
    model, _, baseline = np.unravel_index(table.argmax(), table.shape)
    means = by_name(table.mean((1, 2)))
    best = max(means, key=means.__getitem__)
    evidence = {
        "source": "000, line 89: “up to an 88% win rate against DPO with the Phi-3-Mini”; “(1.3B) show the strongest gains”",
        "largest": float(table.max()),
        "of": MODELS[model],
        "against": BASELINES[baseline],
        "means": means,
    }
    return judged((table.max(), MODELS[model], BASELINES[baseline], best) == (0.88, "Phi-3", "DPO", "OPT-1.3B"), evidence)


@claim(
    "drdo-table-2-model-size",
    statement="§6, on Table 2",
    says="Performance is correlated with model size (line 89).",
    assumes="performance is the mean of a row.",
    predicts="a positive rank correlation.",
    tested="Spearman's correlation of size and mean, for the OPT family and for all five models, with its p-value",
    expects="holds-if",
)
def model_size() -> Finding:
    """0.8 in the OPT family and 0.6 in all; neither is significant, and the order breaks at 1.3B."""
    means = [float(m) for m in rates().mean((1, 2))]
    groups = {"OPT": 4, "all five": 5}
    found = {name: spearmanr(SIZES[:count], means[:count]) for name, count in groups.items()}
    evidence: dict[str, Any] = {
        "source": "000, line 89: “performance is correlated with model size”",
        "means": dict(zip(MODELS, means, strict=True)),
    }
    evidence |= {f"rank_correlation_and_p, {name}": [float(r.statistic), float(r.pvalue)] for name, r in found.items()}
    return conditional(
        all(r.statistic > 0 for r in found.values()),
        bool(min(r.pvalue for r in found.values()) > 0.05 and (np.diff(means) < 0).any()),
        evidence,
        assumption="a positive rank correlation is meant, not one that four or five models could show to be more than chance",
        counterexample={"1.3B": means[2], "2.7B": means[3], "Phi-3": means[4]},
    )


@claim(
    "drdo-table-2-outperforms",
    statement="§6, on Table 2",
    says="DRDO significantly outperforms competing baselines, especially for larger models in the OPT family (line 89).",
    assumes="the number of prompts behind an entry is not given, so that no entry can be tested alone.",
    predicts="all entries above ½; larger means for the larger OPT models.",
    tested="entries above ½ by model, a sign test over the 60, and how many of them 1,000 prompts could not tell from ½",
    expects="holds-if",
)
def outperforms() -> Finding:
    """All but two entries are above ½; both exceptions are OPT-125M's."""
    table = rates()
    above = {name: int((row > 0.5).sum()) for name, row in zip(MODELS, table, strict=True)}
    total, smaller, larger = sum(above.values()), table[:2].mean(), table[2:4].mean()
    evidence = {
        "source": "000, line 89: “significantly outperforms competing baselines, especially for larger models in the OPT family”",
        "entries_above_one_half_of_12": above,
        "p_of_sign_test": float(binomtest(total, table.size).pvalue),
        "mean_125M_350M": float(smaller),
        "mean_1.3B_2.7B": float(larger),
        "entries_that_1000_prompts_could_not_tell_from_one_half": int((np.abs(table - 0.5) < 1.96 * 0.5 / math.sqrt(1000)).sum()),
    }
    return conditional(
        bool((table[1:] > 0.5).all() and larger > smaller),
        bool((table[0] <= 0.5).any()),
        evidence,
        assumption="OPT-125M is left out, and every entry rests on enough prompts",
        counterexample={"model": "OPT-125M, line 84", "against SFT": TABLE["OPT-125M"][0], "against e-DPO": TABLE["OPT-125M"][5]},
    )


@claim(
    "drdo-table-2-temperature",
    statement="§6, on Table 2",
    says="At lower temperatures DRDO's gains are more modest (line 89).",
    assumes="the four groups of columns are in ascending order of temperature; the values are lost.",
    predicts="win rates rise from the first to the last group.",
    tested="the mean of each group by model, and its change from first to last",
    expects="holds-if",
)
def temperatures() -> Finding:
    """So for OPT-125M, OPT-350M and Phi-3; for OPT-1.3B and OPT-2.7B the gains are largest at the first temperature."""
    by_temperature = rates().mean(2)
    change = by_name(by_temperature[:, -1] - by_temperature[:, 0])
    falling = [name for name, value in change.items() if value < 0]
    evidence = {
        "source": "000, line 89: “At lower temperatures, DRDO’s posted gains are more modest”",
        "mean_by_column_group": [float(m) for m in by_temperature.mean(0)],
        "last_minus_first": change,
    }
    return conditional(
        bool(by_temperature[:, -1].mean() > by_temperature[:, 0].mean()),
        bool(falling),
        evidence,
        assumption="the mean over models is meant, or the models are OPT-125M, OPT-350M and Phi-3",
        counterexample={name: [float(m) for m in by_temperature[MODELS.index(name)]] for name in falling},
    )


@claim(
    "drdo-table-2-sft",
    statement="§6, on Table 2",
    says="DRDO posts smaller gains against SFT models (line 89).",
    assumes="smaller than against DPO and e-DPO.",
    predicts="the mean win rate against SFT is the lowest of the three.",
    tested="the mean against each baseline, over all models and by model",
    expects="fails",
)
def against_sft() -> Finding:
    """Over all models SFT is not the lowest, and for the two large OPT models it is the highest."""
    means = rates().mean(1)
    overall = by_name(means.mean(0), BASELINES)
    lowest = [name for name, row in zip(MODELS, means, strict=True) if row.argmin() == 0]
    highest = [name for name, row in zip(MODELS, means, strict=True) if row.argmax() == 0]
    evidence = {
        "source": "000, line 89: “DRDO shows moderate improvement and posts smaller gains against SFT models”",
        "mean_by_baseline": overall,
        "sft_lowest_for": lowest,
        "sft_highest_for": highest,
    }
    example = {"OPT-1.3B": by_name(means[2], BASELINES), "OPT-2.7B": by_name(means[3], BASELINES)}
    return judged(min(overall, key=overall.__getitem__) == "SFT", evidence, example)
