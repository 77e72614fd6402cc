"""The drdo paper's sizes, steps and splits, as arithmetic. Lines are of the text, 000, unless 003 is named."""

from __future__ import annotations

import itertools
import math
from typing import Any

from paper_checks.claims import Finding, claim
from paper_checks.drdo.outcome import conditional, judged

# Table 6 (lines 305, 307, 310–313, 315–316) and the sentence after it (line 321).
PER_DEVICE, ACCUMULATION, MAX_STEPS, SAVE_STEPS, SAVE_STRATEGY = 12, 4, 20, 200, "no"
PROMPT_LENGTH, LENGTH, NEW_TOKENS = 512, 1024, 256
EFFECTIVE, STEPS, DEVICES = 64, 1_000, 2
# Table 5 (lines 291–293): mean confidence, mean edit distance, training and validation examples.
ALL = (5.01, 0.12, 44_709, 86_086)
EASY = (7.31, 0.15, 10_136, 1_127)
HARD = (2.67, 0.09, 10_000, 1_112)
# “the TL;DR training data size is 1.3M rows”, “a train size of 61.1k rows” (line 287).
TLDR_ROWS, ULTRAFEEDBACK_ROWS = 1_300_000, 61_100
# The same preference data in the unified paper (003, line 354), training and validation.
UNIFIED_PREFERENCES = (92_900, 83_800)
# Mean tokens of small DRDO policies, of the policies they meet, and of UltraFeedback's preferred responses (line 89).
LENGTHS = (211.9, 190.8, 168.8)


@claim(
    "drdo-setup-batch",
    statement="Appendix D",
    says="Students are trained with an effective batch of 64 after gradient accumulation of 4 (line 321).",
    assumes="a per-device batch of 12 and accumulation of 4 (Table 6), and one or two devices (line 321).",
    predicts="12 × 4 × devices = 64.",
    tested="the product for one, two and three devices, and the per-device batch that 64 would need",
    expects="fails",
)
def effective_batch() -> Finding:
    """48 on one device, 96 on two, 144 with the L40: none is 64, which needs 16 or 8 a device."""
    products = {str(devices): PER_DEVICE * ACCUMULATION * devices for devices in (1, 2, 3)}
    needed = {str(devices): EFFECTIVE / (ACCUMULATION * devices) for devices in (1, 2, 3)}
    evidence = {
        "source": "000, line 321: “effective batch size of 64, after applying an gradient accumulation step of 4”",
        "effective_by_devices": products,
        "per_device_that_64_needs": needed,
    }
    example = {"per_device": PER_DEVICE, "accumulation": ACCUMULATION, "devices": DEVICES, "effective": products[str(DEVICES)]}
    return judged(EFFECTIVE in products.values(), evidence, example)


@claim(
    "drdo-setup-steps",
    statement="Appendix D",
    says="All students are trained for 1,000 steps (line 321), with Table 6 a full list of the settings (line 324).",
    assumes="Table 6's max_steps is the number of steps.",
    predicts="max_steps = 1,000.",
    tested="lines 313, 315, 316 and 321; the epochs that 1,000 steps of 64 are on each training set",
    expects="fails",
)
def steps() -> Finding:
    """max_steps is 20; save_steps = 200 beside it is never reached, and save_strategy = no turns it off."""
    sizes = {"Table 5, all": ALL[2], "Table 5, easy": EASY[2], "Table 5, hard": HARD[2], "UltraFeedback": ULTRAFEEDBACK_ROWS}
    evidence = {
        "source": "000, line 313: “max_steps | 20”; line 321: “all our student policies for 1k steps”",
        "max_steps": MAX_STEPS,
        "save_steps": SAVE_STEPS,
        "save_strategy": SAVE_STRATEGY,
        "examples_in_1000_steps": STEPS * EFFECTIVE,
        "epochs_in_1000_steps": {name: STEPS * EFFECTIVE / size for name, size in sizes.items()},
        "examples_in_max_steps": MAX_STEPS * EFFECTIVE,
    }
    return judged(MAX_STEPS == STEPS, evidence, {"line 313": MAX_STEPS, "line 321": STEPS})


@claim(
    "drdo-setup-intractable",
    statement="Appendix B.1",
    says="TL;DR's 1.3M rows make training five students intractable, UltraFeedback's 61.1k make it feasible (line 287).",
    assumes="students are trained for a fixed 1,000 steps of 64 (line 321).",
    predicts="training cost grows with the rows of the data set.",
    tested="examples seen in 1,000 steps beside the rows of either data set",
    expects="holds-if",
)
def intractable() -> Finding:
    """A student sees 64,000 examples whatever the data: one pass over UltraFeedback, 5% of one over 1.3M rows."""
    share = {"TL;DR": STEPS * EFFECTIVE / TLDR_ROWS, "UltraFeedback": STEPS * EFFECTIVE / ULTRAFEEDBACK_ROWS}
    return conditional(
        TLDR_ROWS > 2 * ULTRAFEEDBACK_ROWS,
        share["TL;DR"] < 0.95 < share["UltraFeedback"],
        {
            "source": "000, line 287: “TL;DR training data size is 1.3M rows … computationally intractable”",
            "examples_in_1000_steps": STEPS * EFFECTIVE,
            "share_of_one_pass": share,
        },
        assumption="the cost meant is that of stages which pass over all rows, not of the students' alignment",
        counterexample={"examples a student sees": dict.fromkeys(share, STEPS * EFFECTIVE)},
    )


@claim(
    "drdo-table-5-full-data",
    statement="Table 5",
    says="The first row is the full TL;DR preference data (line 294).",
    assumes="it is the data set of 92.9K training and 83.8K validation pairs that the unified paper lists (003, line 354).",
    predicts="about as many rows here, and fewer for validation than for training.",
    tested="ratios of the sizes; the filter of 1,024 tokens (line 321) may remove some",
    expects="fails",
)
def full_data() -> Finding:
    """44,709 of 92.9K for training, 86,086 beside 83.8K for validation: half of one, more than all of the other."""
    ratios = [ours / theirs for ours, theirs in zip(ALL[2:], UNIFIED_PREFERENCES, strict=True)]
    evidence = {
        "source": "000, line 294: “represents the full data (Stiennon et al., 2020)”; 003, line 354: “92.9K | 83.8K”",
        "ratio_train": ratios[0],
        "ratio_validation": ratios[1],
        "validation_over_train": ALL[3] / ALL[2],
        "rows_that_line_287_says": TLDR_ROWS,
    }
    same = all(abs(ratio - 1) < 0.05 for ratio in ratios)
    return judged(same, evidence, {"train": [ALL[2], UNIFIED_PREFERENCES[0]], "validation": [ALL[3], UNIFIED_PREFERENCES[1]]})


@claim(
    "drdo-table-5-splits",
    statement="§5 and Table 5",
    says="Each split has 10k training samples, from the upper (lower) half in both confidence and edit distance (line 56).",
    assumes="the halves are of the 44,709 training pairs; a split's validation part is held out of it.",
    predicts="at most half of all pairs in a split; about a quarter if the two criteria were unrelated.",
    tested="sizes and shares of lines 291–293",
    expects="holds",
)
def split_sizes() -> Finding:
    """A quarter each, divided 9:1: what unrelated criteria would give."""
    shares = {name: (row[2] + row[3]) / ALL[2] for name, row in (("easy", EASY), ("hard", HARD))}
    held_out = {name: row[3] / (row[2] + row[3]) for name, row in (("easy", EASY), ("hard", HARD))}
    fits = all(share <= 0.5 for share in shares.values()) and all(abs(row[2] / 10_000 - 1) < 0.02 for row in (EASY, HARD))
    source = "000, line 56: “Each contains 10k training samples … upper 50th percentile of the confidence and edit distance”"
    return judged(fits, {"source": source, "share_of_all": shares, "held_out_share": held_out})


@claim(
    "drdo-table-5-means",
    statement="Table 5",
    says="Mean confidence and edit distance of all data and of the two splits (lines 291–293).",
    assumes="the splits are disjoint parts of the 44,709; scales run from 0 (confidence from 1, its upper end is lost).",
    predicts="the means of the remaining pairs lie between those of the splits.",
    tested="the weighted difference, with the rounding of all means",
    expects="holds",
)
def split_means() -> Finding:
    """5.01 ± 0.02 and 0.12 ± 0.02: consistent."""
    rest = {name: remaining(index) for index, name in enumerate(("confidence", "edit_distance"))}
    fits = all(HARD[index] < low and high < EASY[index] for index, (low, high) in enumerate(rest.values()))
    means = {name: list(bounds) for name, bounds in rest.items()}
    return judged(fits, {"source": "000, lines 291–293: “5.01 | 0.12”, “7.31 | 0.15”, “2.67 | 0.09”", "mean_of_the_rest": means})


def remaining(index: int) -> tuple[float, float]:
    """The least and largest mean of the pairs in neither split that the rounded means allow."""
    sizes = [EASY[2] + EASY[3], HARD[2] + HARD[3]]
    corners = itertools.product((-0.005, 0.005), repeat=3)
    sums = [(ALL[index] + a) * ALL[2] - (EASY[index] + b) * sizes[0] - (HARD[index] + c) * sizes[1] for a, b, c in corners]
    left = ALL[2] - sum(sizes)
    return min(sums) / left, max(sums) / left


@claim(
    "drdo-setup-lengths",
    statement="Appendix D; footnote 6",
    says="Prompts of 512 and up to 256 new tokens fit the length of 1,024; baselines' lengths are nearer the preferred ones.",
    assumes="lines 311–312, 310 and 89.",
    predicts="512 + 256 ≤ 1,024; |190.8 − 168.8| < |211.9 − 168.8|, all below 256.",
    tested="the sums and differences",
    expects="holds",
)
def lengths() -> Finding:
    """768 ≤ 1,024; 22 tokens too long beside 43."""
    drdo, others, preferred = LENGTHS
    evidence: dict[str, Any] = {
        "source": "000, line 89: “avg. 211.9 tokens compared to … 190.8 tokens, which is closer to … (168.8)”; lines 310–312",
        "longest_output": PROMPT_LENGTH + NEW_TOKENS,
        "too_long": {"drdo": drdo - preferred, "others": others - preferred},
    }
    fits = PROMPT_LENGTH + NEW_TOKENS <= LENGTH and abs(others - preferred) < abs(drdo - preferred) and max(LENGTHS) < NEW_TOKENS
    return judged(fits, evidence)


@claim(
    "drdo-setup-direct-comparison",
    statement="§5 and Appendix B",
    says="Every baseline is trained on a split alone, for a direct comparison between splits (line 275).",
    assumes="1,000 steps of 64 on each split (line 321).",
    predicts="policies differ between splits by the kind of pairs, not by how often each was seen.",
    tested="epochs on each split",
    expects="holds-if",
)
def direct_comparison() -> Finding:
    """The two small splits are seen 6.3 and 6.4 times, all data 1.4 times."""
    epochs = {name: STEPS * EFFECTIVE / row[2] for name, row in (("all", ALL), ("easy", EASY), ("hard", HARD))}
    return conditional(
        math.isclose(epochs["easy"], epochs["hard"], rel_tol=0.02),
        epochs["hard"] > 2 * epochs["all"],
        {"source": "000, line 275: “only the training data within …, and … for a direct comparison”", "epochs": epochs},
        assumption="the comparison is between methods on one split, or between the two small splits",
        counterexample={"epochs on all": epochs["all"], "epochs on hard": epochs["hard"]},
    )
