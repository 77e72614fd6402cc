"""Arithmetic on the unified paper's Tables 2 and 3: what the printed numbers support. Lines are those of the text, 003."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import norm

from paper_checks.claims import Finding, Verdict, claim

# Two-sided 95%.
CRITICAL = float(norm.ppf(0.975))


@dataclass(frozen=True)
class Cell:
    """A printed value and the number printed after its ±."""

    value: float
    spread: float


@dataclass(frozen=True)
class Row:
    """One method and model size of Table 2: win-rate in %, the reward model's score, the KL to the reference."""

    win: Cell
    score: Cell
    kl: Cell


def _row(*numbers: float) -> Row:
    return Row(*(Cell(value, spread) for value, spread in zip(numbers[::2], numbers[1::2], strict=True)))


SIZES = ("2.8B", "6.9B")
# Lines 126–131; '47.31.01' is read as 47.3 ± 1.01, and so on.
TABLE_2 = {
    "DPO": (_row(47.3, 1.01, 2.66, 0.03, 64.35, 0.68), _row(55.6, 0.53, 6.09, 0.02, 54.45, 0.82)),
    "PMLE": (_row(49.1, 1.43, 2.38, 0.04, 31.42, 0.79), _row(59.0, 0.74, 6.27, 0.03, 24.20, 0.92)),
    "REBEL": (_row(71.0, 1.26, 2.86, 0.02, 25.67, 0.61), _row(82.5, 0.93, 7.64, 0.02, 29.80, 0.71)),
    "Pref. Distill.": (_row(73.8, 1.47, 2.91, 0.03, 28.38, 0.82), _row(83.9, 0.59, 7.66, 0.02, 29.05, 1.02)),
    "RLHF": (_row(72.0, 0.67, 2.95, 0.05, 24.94, 1.12), _row(82.0, 0.92, 7.85, 0.03, 24.38, 0.77)),
    "Reverse KL": (_row(73.0, 0.93, 3.03, 0.04, 25.91, 0.94), _row(84.0, 1.01, 7.77, 0.01, 24.12, 0.63)),
}
# Line 143: 'distribution-learning objectives … than their respective baselines'.
PAIRS = (("PMLE", "DPO"), ("Pref. Distill.", "REBEL"), ("Reverse KL", "RLHF"))
# Lines 135–138: MT-Bench, AlpacaEval 2.0 (length-controlled, plain), Arena Hard.
TABLE_3 = {
    "DPO": (8.32, 44.72, 43.94, 45.1),
    "PMLE": (8.30, 53.23, 50.43, 46.5),
    "REBEL": (8.17, 52.04, 44.99, 39.8),
    "Pref. Distill.": (8.18, 54.49, 46.86, 41.9),
}
BENCHMARKS = ("MT-Bench", "AlpacaEval 2.0 LC", "AlpacaEval 2.0", "Arena Hard")
# Line 142: 'over 600 test samples'. The sizes of the public benchmarks are not in the paper.
SAMPLES, ALPACA_PROMPTS, ARENA_PROMPTS = 600, 805, 500


def difference(one: Cell, other: Cell) -> tuple[float, float]:
    """(one − other, its z-score when both ± are independent standard errors)."""
    gained = one.value - other.value
    return gained, gained / math.hypot(one.spread, other.spread)


def binomial_error(percent: float, samples: int) -> float:
    """Standard error, in percentage points, of a win-rate over independent samples."""
    share = percent / 100
    return 100 * math.sqrt(share * (1 - share) / samples)


def binomial_z(one: float, other: float, samples: int) -> float:
    """z-score of the difference of two win-rates (%), each over ``samples`` independent judgements."""
    return (one - other) / math.hypot(binomial_error(one, samples), binomial_error(other, samples))


def stouffer(scores: list[float]) -> float:
    """One z-score for several independent ones: Σz/√k."""
    return sum(scores) / math.sqrt(len(scores))


def gaps(pairs: Sequence[tuple[str, str]], quantity: str) -> dict[str, tuple[float, float]]:
    """(difference, z) of the first method of each pair to the second at each size, for a column of Table 2."""
    return {
        f"{one} − {other}, {size}": difference(getattr(TABLE_2[one][k], quantity), getattr(TABLE_2[other][k], quantity))
        for one, other in pairs
        for k, size in enumerate(SIZES)
    }


@claim(
    "unified-table-2-win-rates",
    statement="Table 2, §6.1",
    says="For both model sizes the proposed objectives have higher win-rates than their respective baselines.",
    assumes="The printed ± are standard errors (the text does not say of what).",
    predicts="Each of the six differences is positive and larger than 1.96 standard errors.",
    tested="z-scores from the printed ±, and from binomial errors at 600 samples (line 142); jointly by Stouffer's method",
    expects="holds-if",
)
def win_rates() -> Finding:
    """Six differences, each against its error and together."""
    found = gaps(PAIRS, "win")
    exact = {
        f"{ours} − {base}, {size}": binomial_z(TABLE_2[ours][k].win.value, TABLE_2[base][k].win.value, SAMPLES)
        for ours, base in PAIRS
        for k, size in enumerate(SIZES)
    }
    spreads = [row.win for rows in TABLE_2.values() for row in rows]
    ratios = [cell.spread / binomial_error(cell.value, SAMPLES) for cell in spreads]
    joint = {"from ±": stouffer([z for _, z in found.values()]), "binomial": stouffer(list(exact.values()))}
    evidence = {
        "source": "003, lines 126–131 and 142",
        "difference_in_points, z from ±": found,
        "z from binomial errors at n=600": exact,
        "joint_z": joint,
        "± over binomial error, [least, largest]": [min(ratios), max(ratios)],
        "remark": "every ± is below the binomial error of 600 judgements, so it is not that error alone",
    }
    clear = [name for name, (_, z) in found.items() if z > CRITICAL]
    if not all(gained > 0 for gained, _ in found.values()):
        return Finding(Verdict.FAILS, evidence, counterexample=found)
    if len(clear) == len(found):
        return Finding(Verdict.HOLDS, evidence)
    unclear = {name: z for name, (_, z) in found.items() if name not in clear}
    assumption = (
        f"read as point estimates or jointly (z = {joint['from ±']:.1f}); one by one, {len(clear)} of 6 is clear of its error"
    )
    return Finding(Verdict.HOLDS_IF, evidence, assumption, {"z below 1.96": unclear})


@claim(
    "unified-table-2-rm-score",
    statement="Table 2, RM score",
    says="The paper rests on win-rates; we ask whether the table's other measure of quality ranks its objectives above too.",
    assumes="The printed ± are standard errors. The score is the trained reward model's, which four of the six methods train on.",
    predicts="No proposed objective scores significantly below its baseline.",
    tested="six differences and their z-scores from the printed ±",
    expects="holds-if",
)
def reward_scores() -> Finding:
    """Ranking by the reward model, which is also the training signal of all but DPO and PMLE."""
    found = gaps(PAIRS, "score")
    below = {name: [d, z] for name, (d, z) in found.items() if z < -CRITICAL}
    evidence = {
        "source": "003, lines 126–131",
        "difference, z from ±": found,
        "joint_z": stouffer([z for _, z in found.values()]),
        "remark": "RLHF maximises this score and an entropy bonus trades some of it away: lower need not mean worse",
    }
    if not below:
        return Finding(Verdict.HOLDS, evidence)
    assumption = f"except for {len(below)} of the 6 comparisons, in which the baseline scores significantly higher"
    return Finding(Verdict.HOLDS_IF, evidence, assumption, below)


@claim(
    "unified-table-2-kl",
    statement="Table 2, §6.1 (003, line 144)",
    says="PMLE achieves a much lower KL to the reference than DPO.",
    assumes="The third column is KL to the reference (its header is lost); the printed ± are standard errors.",
    predicts="At both sizes PMLE's KL is well below DPO's.",
    tested="ratios and z-scores from the printed numbers",
    expects="holds",
)
def lower_divergence() -> Finding:
    """64.35 → 31.42 and 54.45 → 24.20."""
    found = {name: list(d) for name, d in gaps(PAIRS, "kl").items() if name.startswith("PMLE")}
    ratios = [TABLE_2["PMLE"][k].kl.value / TABLE_2["DPO"][k].kl.value for k in range(2)]
    holds = max(ratios) < 0.75 and all(z < -CRITICAL for _, z in found.values())
    evidence = {"source": "003, lines 126–127", "difference, z": found, "ratio": ratios}
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)


@claim(
    "unified-table-2-similar-kl",
    statement="Table 2, §6.1 (003, line 144)",
    says="RLHF and REBEL, run with the same KL penalty as their counterparts, have similar KL values.",
    assumes="The third column is KL to the reference.",
    predicts="Differences much smaller than between PMLE and DPO: below 15% of that one.",
    tested="differences, z-scores from the printed ±, and relative size",
    expects="holds",
)
def similar_divergence() -> Finding:
    """Four differences against PMLE − DPO."""
    every = gaps(PAIRS, "kl")
    small = {name: [d, z] for name, (d, z) in every.items() if not name.startswith("PMLE")}
    large = min(abs(d) for name, (d, _) in every.items() if name.startswith("PMLE"))
    worst = max(abs(d) for d, _ in small.values())
    evidence = {
        "source": "003, lines 128–131",
        "difference, z": small,
        "largest_over_PMLE−DPO": worst / large,
        "remark": "one of the four, preference distillation against REBEL at 2.8B, is outside the printed errors",
    }
    holds = worst < 0.15 * large
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else small)


@claim(
    "unified-theory-vs-table-2",
    statement="Abstract, §5 and Table 2",
    says="The bounds explain why on-policy objectives such as RLHF beat likelihood-style ones such as DPO.",
    assumes="Win-rates order methods as the bounds do: RKL by the coverage of the reward class, the others by the policies'.",
    predicts="RKL above PMLE, RLHF above DPO, and RKL above preference distillation, whose rate (13) equals PMLE's (7).",
    tested="differences in win-rate and z-scores from the printed ±",
    expects="holds-if",
)
def order_of_the_bounds() -> Finding:
    """The large gap lies elsewhere: between the methods that use a reward model and those that do not."""
    headline = gaps((("Reverse KL", "PMLE"), ("RLHF", "DPO")), "win")
    finer = gaps((("Reverse KL", "Pref. Distill."),), "win")
    equal_bounds = gaps((("Pref. Distill.", "PMLE"),), "win")
    evidence = {
        "source": "003, lines 91–95, 121–122, 126–131",
        "headline: difference_in_points, z": headline,
        "RKL against distillation": finer,
        "distillation against PMLE (equal bounds)": equal_bounds,
        "differs_too": {
            "generation temperature": "0.1 for DPO and PMLE, 0.7 for the others (line 412)",
            "training samples": "92.9K pairs once against 1e6 episodes (lines 354, 382)",
        },
    }
    if not all(z > CRITICAL for _, z in headline.values()):
        return Finding(Verdict.FAILS, evidence, counterexample=headline)
    if all(z > CRITICAL for _, z in finer.values()) and all(abs(z) < CRITICAL for _, z in equal_bounds.values()):
        return Finding(Verdict.HOLDS, evidence)
    assumption = (
        "distillation counts as on-policy, as it was run (line 360), so that Theorem 14 applies; other settings differ too"
    )
    return Finding(Verdict.HOLDS_IF, evidence, assumption, {**finer, **equal_bounds})


@claim(
    "unified-table-3",
    statement="Table 3, §6.2",
    says="PMLE and distillation gain on DPO and REBEL on AlpacaEval 2.0 and Arena Hard, strongly, and are level on MT-Bench.",
    assumes="Benchmarks of 805 and 500 prompts (public facts, not in the paper), judged independently; no errors are printed.",
    predicts="Gains beyond 1.96 binomial standard errors on the two win-rate benchmarks, and none on MT-Bench.",
    tested="differences and binomial z-scores; judgements on the same prompts are paired, so these z-scores are conservative",
    expects="holds-if",
)
def chat_benchmarks() -> Finding:
    """Eight differences."""
    found: dict[str, dict[str, Any]] = {}
    for ours, base in PAIRS[:2]:
        for k, benchmark in enumerate(BENCHMARKS):
            a, b = TABLE_3[ours][k], TABLE_3[base][k]
            samples = ARENA_PROMPTS if benchmark == "Arena Hard" else ALPACA_PROMPTS
            entry = {"difference": a - b}
            found[f"{ours} − {base}, {benchmark}"] = entry if k == 0 else {**entry, "z": binomial_z(a, b, samples)}
    gains = {name: e for name, e in found.items() if "z" in e}
    level = {name: e["difference"] for name, e in found.items() if "z" not in e}
    evidence = {
        "source": "003, lines 135–138 and 148",
        "found": found,
        "joint_z_arena_hard": stouffer([e["z"] for name, e in gains.items() if "Arena" in name]),
        "remark": "PMLE was run with a KL coefficient of 0.0 here (line 427)",
    }
    if min(e["difference"] for e in gains.values()) <= 0 or max(map(abs, level.values())) > 0.05:
        return Finding(Verdict.FAILS, evidence, counterexample=found)
    unclear = {name: e for name, e in gains.items() if e["z"] < CRITICAL}
    if not unclear:
        return Finding(Verdict.HOLDS, evidence)
    assumption = (
        "read as point estimates (7 of 8 are gains, MT-Bench is level); clear of a binomial error is only PMLE on AlpacaEval 2.0"
    )
    return Finding(Verdict.HOLDS_IF, evidence, assumption, {"gains within the error": unclear})
