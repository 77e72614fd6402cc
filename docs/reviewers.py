"""Ask the programs what the reviewers of the papers asked, and write down what they print.

python docs/reviewers.py            # run every command (minutes), write reviewers.json and reviewers.md
python docs/reviewers.py --page     # write reviewers.md from reviewers.json alone
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS, PAGE = FOLDER / "reviewers.json", FOLDER / "reviewers.md"
SIZES = ("1e3", "1e5", "1e7", "1e9")
BETAS = ("0", "0.001", "0.01", "0.1", "best", "validation")
FOCAL = "0,0.5,1,2,5"
ALONE = "docs/examples/losses.py:focal_only"

Answers = dict[str, Any]


def sweep(methods: str, n: str, beta: str = "best") -> str:
    """The command that fits 100 data sets of n comparisons by each method."""
    rule = "" if beta == "best" else f" --beta {beta}"
    return f"theory sweep --methods {methods}{rule} --n {n} --seeds 100 --out sweep-{n}-{beta}-{methods.replace(',', '-')}"


def audit(what: str, options: str = "") -> str:
    """The command that audits an objective."""
    return f"theory audit {what}{' ' + options if options else ''}"


def forward_kl(answers: Answers, command: str) -> dict[str, str]:
    """Mean forward KL with its 95% interval, by method."""
    found = {}
    for line in answers[command]["methods"]:
        value, low, high = (line["forward_kl"][key] for key in ("value", "low", "high"))
        found[line["label"].split(" ")[0]] = f"{value:.3g} ±{(high - low) / 2:.1g}"
    return found


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def answer_of(answers: Answers, command: str, id: str) -> str:
    """A finding's verdict and sentence."""
    found = answers[command]["verdicts"][id]
    return f"**{found['verdict']}** — {found['answer']}"


@dataclass(frozen=True)
class Question:
    """What was asked, the commands that answer it, and the answer made of what they printed."""

    asked: str
    commands: tuple[str, ...]
    says: Callable[[Answers], str]


def _growth(answers: Answers) -> str:
    rows = [[n, *forward_kl(answers, sweep("pmle,hypo,dpo", n)).values()] for n in SIZES]
    names = list(forward_kl(answers, sweep("pmle,hypo,dpo", SIZES[0])))
    floors = {line["label"].split(" ")[0]: line["floor"] for line in answers[sweep("pmle,hypo,dpo", SIZES[-1])]["methods"]}
    stop = max(floors.values())
    return (
        "DPO with the reverse-KL regulariser is HyPO (`hypo`). With β the best for the target at every n, forward KL to π* in\n"
        f"nats (mean over 100 data sets, 95% interval):\n\n{table(['n', *names], rows)}\n\n"
        f"PMLE goes on falling; DPO stops at its floor of {floors['dpo']:.4f} nats, and the added KL moves that floor only to\n"
        f"{floors['hypo']:.4f}: what keeps DPO from the target is that its margin is measured from π_ref, not the lack of a\n"
        f"regulariser. No n helps beyond {stop:.4f}."
    )


def _regulariser(answers: Answers) -> str:
    rows = [[beta, *(forward_kl(answers, sweep("pmle", n, beta))["pmle"] for n in SIZES[:3])] for beta in BETAS]
    return (
        "Forward KL of PMLE to π* in nats, by the weight β of KL(π‖π_ref) (`best` knows the target, `validation` uses held-out\n"
        f"preferences; mean over 100 data sets, 95% interval):\n\n{table(['β', *(f'n = {n}' for n in SIZES[:3])], rows)}\n\n"
        "It matters where data are scarce and is a bias where they are not: a fixed β is a floor of its own. It also decides\n"
        f"existence on separable data: {answer_of(answers, audit('pmle'), 'existence.separable')}\n"
        f"(without it: {answer_of(answers, audit('pmle', '--beta 0'), 'existence.separable')})."
    )


def _coverage(answers: Answers) -> str:
    ids = {
        "error against coverage": "robustness.coverage",
        "over-optimisation": "over-optimisation.gold",
        "learned against true value": "over-optimisation.gap",
        "distance from the target": "over-optimisation.forward_kl",
    }
    lines = [
        "Coverage is varied by tilting the data policy away from π* until Definition 3's C has the wanted value; the path of",
        "β is walked with a reward learned from 1,000 comparisons at poor coverage. χPO and DPO have nearly the same floor; what",
        "χPO's link buys is that the policy stays near the target where β is far too small.",
        "",
    ]
    for method in ("dpo", "chipo", "pmle"):
        lines.append(f"`{method}`\n")
        lines += [f"- {name}: {answer_of(answers, audit(method), id)}" for name, id in ids.items()]
        lines.append("")
    return "\n".join(lines).rstrip()


def _focal(answers: Answers) -> str:
    commands = {
        "distillation and focal term, separate heads": audit("drdo", f"--scan gamma-f={FOCAL}"),
        "focal term alone": audit(f"--objective {ALONE}", f"--scan gamma-f={FOCAL}"),
        "both, the head tied to the policy": audit("drdo", f"--scan gamma-f={FOCAL} --reward-head tied"),
    }
    rows = []
    for name, command in commands.items():
        numbers = answers[command]["verdicts"]["consistency.gamma-f"]["numbers"]
        rows.append([name, *(f"{floor:.2g}" if floor is not None else "none" for floor in numbers["floors"])])
    return (
        f"Forward KL of the population minimiser to π* in nats:\n\n{table(['γf', *FOCAL.split(',')], rows)}\n\n"
        "With a separate reward head the distillation term does not touch the policy at all: the focal term alone decides it,\n"
        "and its limit is not π*. Only a head tied to the policy (r̂_θ = γ log π) lets the distilled reward reach it. On V = 2\n"
        "responses the focal term is identically zero. Separable data, with and without distillation:\n"
        f"{answer_of(answers, audit('drdo', f'--scan gamma-f={FOCAL}'), 'existence.separable')}."
    )


def _ipo(answers: Answers) -> str:
    ids = ("consistency.target", "consistency.limit", "rate.efficiency", "existence.separable", "existence.probability")
    lines = [f"- {answer_of(answers, audit('ipo'), id)}" for id in ids]
    return "It is not missing here: `ipo` goes through everything that the others do.\n\n" + "\n".join(lines)


QUESTIONS = (
    Question("How do PMLE and DPO + reverse KL differ as n grows?", tuple(sweep("pmle,hypo,dpo", n) for n in SIZES), _growth),
    Question(
        "Does the reverse-KL regulariser matter?",
        (*(sweep("pmle", n, beta) for beta in BETAS for n in SIZES[:3]), audit("pmle"), audit("pmle", "--beta 0")),
        _regulariser,
    ),
    Question(
        "What about single-policy coverage and χPO?", tuple(audit(method) for method in ("dpo", "chipo", "pmle")), _coverage
    ),
    Question(
        "What does DRDO's focal term do without the distillation term, and for γf ∈ {0, 0.5, 1, 2, 5}?",
        (
            audit("drdo", f"--scan gamma-f={FOCAL}"),
            audit(f"--objective {ALONE}", f"--scan gamma-f={FOCAL}"),
            audit("drdo", f"--scan gamma-f={FOCAL} --reward-head tied"),
        ),
        _focal,
    ),
    Question("Why is IPO missing?", (audit("ipo"),), _ipo),
)

HEADER = """# What the reviewers asked

Each answer is a command and the numbers that it printed; `python docs/reviewers.py` runs them all again and writes this page.
Every run is on the default world (unified App. D.1 with our defaults V = X = 10, γ = 1, reference noise 0.5; seed 0) unless a
line says otherwise.
"""


def page(answers: Answers) -> str:
    """The page, from what the commands printed."""
    parts = [HEADER]
    for question in QUESTIONS:
        commands = "\n".join(question.commands)
        parts.append(f"## {question.asked}\n\n```sh\n{commands}\n```\n\n{question.says(answers)}\n")
    return "\n".join(parts)


def ask(command: str) -> Any:
    """Run a command with ``--json`` and keep what the page may quote."""
    with tempfile.TemporaryDirectory() as folder:
        words = command.split()[1:]
        if "--out" in words:
            words[words.index("--out") + 1] = f"{folder}/out"
        run = subprocess.run(
            [sys.executable, "-m", "theory", *words, "--json"], capture_output=True, text=True, check=True, cwd=FOLDER.parent
        )
    found = json.loads(run.stdout)
    if "verdicts" not in found:
        return {"methods": [{key: line[key] for key in ("label", "forward_kl", "floor")} for line in found["methods"]]}
    kept = ("verdict", "answer", "numbers")
    wanted = ("consistency.", "existence.", "rate.", "robustness.coverage", "over-optimisation.")
    return {"verdicts": {v["id"]: {key: v[key] for key in kept} for v in found["verdicts"] if v["id"].startswith(wanted)}}


def main(arguments: list[str]) -> None:
    """Run the commands unless told not to, and write the page."""
    if "--page" not in arguments:
        commands = dict.fromkeys(command for question in QUESTIONS for command in question.commands)
        answers = {}
        for command in commands:
            print(command, file=sys.stderr, flush=True)
            answers[command] = ask(command)
        RESULTS.write_text(json.dumps(answers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
