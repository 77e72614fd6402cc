"""Arithmetic on the unified paper's Tables 4–6: data and training settings. Lines are those of the text, 003."""

from __future__ import annotations

from paper_checks.claims import Finding, Verdict, claim

# Line 354: preference pairs for training; line 353: prompts.
PAIRS, PROMPTS = 92_900, 117_000


def summed_rate(pairs: float, batch: float, rate: float) -> float:
    """Σ of a learning rate that decays linearly to 0 over one epoch of ``pairs`` in batches of ``batch``."""
    return pairs / batch * rate / 2


@claim(
    "unified-table-2-kl-cause",
    statement="§6.1 (003, line 144)",
    says="PMLE's lower KL is due to its KL regulariser on online data.",
    assumes="PMLE and DPO differ in the objective alone.",
    predicts="The two runs have the same training budget.",
    tested="steps and summed learning rate of both runs from Tables 4 and 5 (linear decay to 0, one epoch of 92.9K pairs)",
    expects="not-checkable",
)
def cause_of_lower_divergence() -> Finding:
    """PMLE also moves much less: larger batches at a lower rate."""
    runs = {"DPO": {"batch": 64, "rate": 3e-6}, "PMLE": {"batch": 512, "rate": 1e-6}}
    budget = {
        name: {"steps": PAIRS / run["batch"], "summed_learning_rate": summed_rate(PAIRS, **run)} for name, run in runs.items()
    }
    ratio = budget["DPO"]["summed_learning_rate"] / budget["PMLE"]["summed_learning_rate"]
    evidence = {"source": "003, lines 354, 369–378", "budget": budget, "dpo_over_pmle": ratio}
    if ratio > 2 or ratio < 0.5:
        why = f"DPO's summed learning rate is {ratio:.0f} times PMLE's, which can lower a KL too; the table cannot tell which did"
        return Finding(Verdict.NOT_CHECKABLE, evidence, why)
    return Finding(Verdict.HOLDS, evidence)


@claim(
    "unified-pmle-kl-in-practice",
    statement="§3 (5) with Tables 5 and 6",
    says="PMLE as proposed and run has an explicit KL term, which keeps it from DPO's pitfalls.",
    assumes="The hyperparameters printed in the appendix are those of the runs.",
    predicts="A positive KL coefficient wherever PMLE is evaluated.",
    tested="read off Tables 5 and 6",
    expects="holds-if",
)
def kl_term_in_practice() -> Finding:
    """A positive weight in Table 5, none in Table 6."""
    printed = {
        "Table 5 (TL;DR), line 378": ": 1e-5 : 1e-2 (both symbols are lost, either reading is positive)",
        "Table 6 (chat), line 427": ": 5e-3 KL coefficient: 0.0",
    }
    coefficient = {"TL;DR": 1e-5, "chat": 0.0}
    without = {name: weight for name, weight in coefficient.items() if weight == 0}
    evidence = {"printed": printed, "least_possible_coefficient": coefficient}
    if not without:
        return Finding(Verdict.HOLDS, evidence)
    if len(without) == len(coefficient):
        return Finding(Verdict.FAILS, evidence, counterexample=without)
    return Finding(Verdict.HOLDS_IF, evidence, "TL;DR only; the chat runs of Table 3 train PMLE without its KL term", without)


@claim(
    "unified-table-4-splits",
    statement="Table 4",
    says="The TL;DR splits: human references 117K / 64.5K / 6.55K, preferences 92.9K / 83.8K.",
    assumes="The cited public data set, as distributed: 116,722 / 6,447 / 6,553 and 92,858 / 83,802 (+ 2,284 CNN/DM).",
    predicts="Every printed size is the public one, rounded.",
    tested="each size against the public count at three significant digits; the drdo paper's size for the same validation data",
    expects="fails",
)
def split_sizes() -> Finding:
    """One size is ten times the public one; two others that look different agree."""
    printed = {"train": 117_000, "valid": 64_500, "test": 6_550, "preference train": 92_900, "preference valid": 83_800}
    public = {"train": 116_722, "valid": 6_447, "test": 6_553, "preference train": 92_858, "preference valid": 83_802}
    differs = {name: [printed[name], public[name]] for name in printed if float(f"{public[name]:.3g}") != printed[name]}
    evidence = {
        "source": "003, lines 353–354; 000, line 291",
        "[printed, public]": {name: [printed[name], public[name]] for name in printed},
        "valid_over_test": {"printed": printed["valid"] / printed["test"], "public": public["valid"] / public["test"]},
        "ten_times_public": differs.get("valid", [0, 1])[0] == float(f"{10 * public['valid']:.3g}"),
        "drdo_prints_for_preference_valid": 86_086,
        "which_is_83,802 + 2,284_CNN/DM": public["preference valid"] + 2_284 == 86_086,
        "remark": "6.45K with the decimal point moved would explain it",
    }
    return Finding(Verdict.FAILS if differs else Verdict.HOLDS, evidence, counterexample=differs or None)


@claim(
    "unified-table-5-epochs",
    statement="Table 5, D.2 (003, line 362)",
    says="RLHF, REBEL, distillation and RKL run for 1e6 episodes, which is a few epochs (the number is lost) rather than one.",
    assumes="An episode is one sampled response to one of the 117K training prompts.",
    predicts="1e6/117K epochs over the prompts.",
    tested="arithmetic from Tables 4 and 5",
    expects="not-checkable",
)
def epochs() -> Finding:
    """8.5 passes; the printed number did not survive."""
    episodes, batch, passes = 1e6, 512, 4
    evidence = {
        "source": "003, lines 353, 362, 382–397",
        "epochs": episodes / PROMPTS,
        "epochs_with_116,722_prompts": episodes / 116_722,
        "updates_of_512": episodes / batch,
        "updates_if_'num epochs: 4'_is_per_batch": passes * episodes / batch,
        "episodes_over_DPO's_pairs": episodes / PAIRS,
    }
    return Finding(Verdict.NOT_CHECKABLE, evidence, "the text lost its number of epochs; ours is 8.5")


@claim(
    "unified-llm-experiments",
    statement="§6, Tables 2 and 3, Appendix D",
    says="The reported win-rates, reward scores, benchmark scores and training times themselves.",
    assumes="Pythia-2.8B and 6.9B and LLaMA-3-8B-Instruct trained on four A100 GPUs for days, judged by GPT-4.",
    predicts="The same numbers from the same runs.",
    tested="not run: see the reason; what the printed numbers imply is checked by the other claims on the tables",
    expects="not-checkable",
)
def language_model_runs() -> Finding:
    """Out of reach of an offline check."""
    why = "needs weeks on four A100 GPUs and a dated judge behind a paid interface (gpt-4 as of 23 May 2025, line 358)"
    return Finding(Verdict.NOT_CHECKABLE, {"source": "003, lines 358 and 417", "days_of_4_A100_for_one_chat_run": 7}, why)
