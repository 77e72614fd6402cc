"""Tables 1 and 3 of the drdo paper, as printed, and what their numbers imply. Lines are of the text, 000."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, chi2_contingency, norm

from paper_checks.claims import Finding, claim
from paper_checks.drdo.outcome import conditional, judged, not_checkable

# The order of the rows in a group; their labels (three training splits) are lost in the text.
SPLITS = ("first row", "second row", "third row")
SAMPLES, PROMPTS = 1_000, 805
LEVEL = 0.05


@dataclass(frozen=True)
class Row:
    """A comparison as printed: who against whom, wins of the first, its win rate in percent, the line."""

    comparison: str
    wins: int
    rate: float
    line: int

    @property
    def judged(self) -> tuple[float, float]:
        """The numbers of judgements that round to the printed rate, an interval."""
        return 100 * self.wins / (self.rate + 0.005), 100 * self.wins / (self.rate - 0.005)

    @property
    def count(self) -> int | None:
        """The one whole number of judgements that gives the printed rate, or None if none or several do."""
        low, high = self.judged
        whole = range(math.ceil(low), math.floor(high) + 1)
        return whole[0] if len(whole) == 1 else None

    def counted(self) -> int:
        """`count`, or the nearest whole number to wins/rate."""
        return self.count or round(100 * self.wins / self.rate)


E_DPO = tuple(Row("DRDO vs. e-DPO", *row) for row in ((731, 78.27, 68), (759, 80.92, 69), (738, 79.01, 70)))
DPO = tuple(Row("DRDO vs. DPO", *row) for row in ((748, 80.78, 72), (746, 79.11, 73), (746, 79.79, 74)))
GOLD = (Row("Gold vs. DRDO", 525, 52.82, 75), Row("Gold vs. e-DPO", 540, 54.38, 76), Row("Gold vs. DPO", 579, 58.54, 77))
ALPACA = (Row("DRDO vs. e-DPO", 495, 62.03, 92), Row("DRDO vs. DPO", 491, 61.61, 93))


def named(row: Row) -> str:
    """A row's name in a record."""
    return f"{row.comparison}, line {row.line}"


def p_value(row: Row, total: int | None = None) -> float:
    """Exact two-sided binomial test of a win rate of one half, over ``total`` judgements."""
    return float(binomtest(row.wins, total or row.counted()).pvalue)


def gap(first: Row, second: Row, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """Difference of two win rates, second − first, in points, with its normal interval (unpaired samples)."""
    rates = [row.wins / row.counted() for row in (first, second)]
    spread = math.sqrt(sum(p * (1 - p) / row.counted() for p, row in zip(rates, (first, second), strict=True)))
    half = float(norm.ppf((1 + confidence) / 2)) * spread
    return tuple(100 * (rates[1] - rates[0] + sign * half) for sign in (-1, 0, 1))  # type: ignore[return-value]


@claim(
    "drdo-table-1-missing",
    statement="§6 and Table 1",
    says="Win rate and #wins/1000 differ since about ten samples had no judgement (“a small number of samples ( 10)”, line 65).",
    assumes="1,000 samples a row; the sign before 10 is lost, so that about, at most and at least 10 are all tried.",
    predicts="1,000 − #wins/rate is about 10 in each row.",
    tested="the whole numbers of judgements that round to each printed rate",
    expects="fails",
)
def missing_judgements() -> Finding:
    """Three rows lack 6 to 11 judgements, six lack 57 to 74."""
    rows = (*E_DPO, *DPO, *GOLD)
    missing = {named(row): SAMPLES - row.counted() for row in rows}
    readings = {"about 10 (5 to 15)": lambda m: 5 <= m <= 15, "at most 10": lambda m: m <= 10, "at least 10": lambda m: m >= 10}
    agreeing = {name: sum(map(fits, missing.values())) for name, fits in readings.items()}
    evidence = {
        "source": "000, line 65: “for a small number of samples ( 10) GPT-4o did not return a judgment”",
        "missing": missing,
        "rows_that_fit_by_reading": agreeing,
        "rows": len(rows),
    }
    worst = max(rows, key=lambda row: SAMPLES - row.counted())
    example = {"row": named(worst), "wins": worst.wins, "rate": worst.rate, "judged": list(worst.judged)}
    return judged(max(agreeing.values()) == len(rows), evidence, example)


@claim(
    "drdo-table-1-average",
    statement="§6, on Table 1",
    says="DRDO's average win rates are almost 79.4% and 79.9% against e-DPO and DPO (line 78).",
    assumes="the mean of the three rows of each group.",
    predicts="79.4 and 79.9.",
    tested="the means of lines 68–70 and 72–74",
    expects="holds",
)
def table_1_averages() -> Finding:
    """79.40 and 79.89."""
    means = {rows[0].comparison: float(np.mean([row.rate for row in rows])) for rows in (E_DPO, DPO)}
    source = "000, line 78: “almost 79.4% and 79.9% against e-DPO and DPO, respectively”"
    return judged([round(m, 1) for m in means.values()] == [79.4, 79.9], {"source": source, "means": means})


@claim(
    "drdo-table-1-significant",
    statement="§6, on Table 1",
    says="Across all settings DRDO policies significantly outperform the two baselines (line 78).",
    assumes="judgements are independent; those that are missing are dropped, as in the paper.",
    predicts="each of the six win rates is above one half at 5%, with Bonferroni's correction.",
    tested="exact binomial tests on the implied counts, and with every missing judgement counted as a loss",
    expects="holds",
)
def table_1_significance() -> Finding:
    """All six are, by far, also with the missing judgements against DRDO."""
    rows = (*E_DPO, *DPO)
    dropped, lost = max(p_value(row) for row in rows), max(p_value(row, SAMPLES) for row in rows)
    evidence = {
        "source": "000, line 78: “Across all settings, DRDO policies significantly outperform the two baselines”",
        "log10_largest_p": math.log10(dropped),
        "log10_largest_p_if_missing_are_losses": math.log10(lost),
    }
    return judged(max(dropped, lost) < LEVEL / len(rows), evidence)


@claim(
    "drdo-table-1-hard-split",
    statement="§6, on Table 1",
    says="DRDO learns preferences more effectively especially on the split with more non-deterministic samples (line 78).",
    assumes="a split has the same place in both groups of rows; which place is lost, so that all three are tried.",
    predicts="that split's row has the highest win rate against both baselines.",
    tested="the rank of each place in both groups; a χ² test that the three rows of a group have one win rate",
    expects="fails",
)
def hard_split() -> Finding:
    """No place is highest in both groups, and the rows of a group do not differ significantly."""
    ranks = {name: [_rank(rows, place) for rows in (E_DPO, DPO)] for place, name in enumerate(SPLITS)}
    tables = [np.array([[row.wins, row.counted() - row.wins] for row in rows]) for rows in (E_DPO, DPO)]
    p_values = {rows[0].comparison: float(chi2_contingency(t).pvalue) for rows, t in zip((E_DPO, DPO), tables, strict=True)}
    evidence = {
        "source": "000, line 78: “especially in the subset containing more non-deterministic preference samples”",
        "rank_against_e_dpo_and_dpo": ranks,
        "p_of_equal_rates": p_values,
    }
    rates = {name: [E_DPO[place].rate, DPO[place].rate] for place, name in enumerate(SPLITS)}
    return judged([1, 1] in ranks.values(), evidence, {"rates_against_e_dpo_and_dpo": rates})


def _rank(rows: tuple[Row, ...], place: int) -> int:
    return 1 + sum(row.rate > rows[place].rate for row in rows)


@claim(
    "drdo-table-1-gold",
    statement="§7, on Table 1",
    says="GPT-4o narrowly prefers generated summaries to human-written ones (line 113).",
    assumes="wins and win rates of these rows are those of the gold summaries (line 113).",
    predicts="gold win rates below 50%.",
    tested="lines 75–77 and their exact binomial tests",
    expects="fails",
)
def gold_summaries() -> Finding:
    """Gold wins 52.8% to 58.5%: it is the human summaries that are preferred, significantly against two of the three."""
    p_values = {named(row): p_value(row) for row in GOLD}
    rates = {named(row): row.rate for row in GOLD}
    evidence = {
        "source": "000, line 113: “GPT-4o narrowly prefers generated summaries to human-written ones”",
        "gold_win_rate": rates,
        "p_of_one_half": p_values,
    }
    return judged(all(row.rate < 50 for row in GOLD), evidence, {"gold_win_rate": rates})


@claim(
    "drdo-table-1-gold-margin",
    statement="§7, on Table 1",
    says="Against human summaries too DRDO is better than e-DPO and DPO, by about 1.5–6% (line 113).",
    assumes="the differences of gold's win rates; the judgements of two rows are taken as unpaired.",
    predicts="differences of 1.5 and 6 points, each distinguishable from 0.",
    tested="the differences with 95% normal intervals on the implied counts",
    expects="holds-if",
)
def gold_margins() -> Finding:
    """1.6 and 5.7 points; the interval of the first includes 0."""
    gaps = {row.comparison: list(gap(GOLD[0], row)) for row in GOLD[1:]}
    against_e_dpo, against_dpo = gaps["Gold vs. e-DPO"], gaps["Gold vs. DPO"]
    sizes = abs(against_e_dpo[1] - 1.5) < 0.5 and abs(against_dpo[1] - 6) < 0.5
    return conditional(
        sizes and against_dpo[0] > 0,
        against_e_dpo[0] < 0,
        {"source": "000, line 113: “better-performing than e-DPO and DPO, by about 1.5–6%”", "points_low_estimate_high": gaps},
        assumption="the differences are read as measured on these prompts; only the one from DPO is distinguishable from 0",
        counterexample={"comparison": "DRDO and e-DPO, each against gold", "points_low_estimate_high": against_e_dpo},
    )


@claim(
    "drdo-table-3-alpaca",
    statement="§6, Table 3",
    says="On AlpacaEval's 805 instructions the judge prefers DRDO 62.03% and 61.61% of the time (line 94).",
    assumes="judgements are independent.",
    predicts="#wins and win rate agree for a number of judgements up to 805; both rates are above one half.",
    tested="the whole numbers of judgements that round to the printed rates (lines 92–93); exact binomial tests",
    expects="holds",
)
def alpaca_counts() -> Finding:
    """798 and 797 judgements, seven and eight fewer than 805; both rates are significant, also with those as losses."""
    counts = {named(row): row.count for row in ALPACA}
    p_values = {named(row): [p_value(row), p_value(row, PROMPTS)] for row in ALPACA}
    fits = all(count is not None and PROMPTS - 10 <= count <= PROMPTS for count in counts.values())
    significant = all(max(pair) < LEVEL / len(ALPACA) for pair in p_values.values())
    evidence = {
        "source": "000, line 94: “consistently prefers DRDO responses 62.03% and 61.61% times”; “805 instructions”",
        "judged": counts,
        "p_dropped_and_as_losses": p_values,
    }
    return judged(fits and significant, evidence)


@claim(
    "drdo-gpt-judgements",
    statement="Tables 1 and 3",
    says="The judges' preferences: GPT-4o on 1,000 news articles and GPT-4 Turbo on 805 instructions.",
    assumes="the trained policies, the prompts, and the judges as they were then.",
    predicts="the printed numbers of wins.",
    tested="not tested: neither the generations nor the judgements are in the paper",
    expects="not-checkable",
)
def judgements() -> Finding:
    """The generations and judgements are not public; their arithmetic is checked elsewhere."""
    return not_checkable("the generations and judgements are not in the paper, and the judges may have changed since")


@claim(
    "drdo-figures-3-4",
    statement="Figures 3 and 4",
    says="DRDO gains reward over SFT summaries at all temperatures, and lowers dispreferred log-probabilities most.",
    assumes="the trained policies and Oracle.",
    predicts="the curves of the two figures.",
    tested="not tested: the text has no values of these figures",
    expects="not-checkable",
)
def figures() -> Finding:
    """The values are drawn, not printed."""
    return not_checkable("the values are drawn, not printed, and the models are not in the paper")


@claim(
    "drdo-code",
    statement="Reproducibility Statement",
    says="The code is part of the supplementary material (line 119).",
    assumes="access to that material.",
    predicts="a training run that reproduces the tables.",
    tested="not tested: the supplement is not with the text",
    expects="not-checkable",
)
def code() -> Finding:
    """The supplement is not with the text."""
    return not_checkable("the supplementary material is not with the text")
