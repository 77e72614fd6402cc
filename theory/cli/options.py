"""Options that several commands share, and how their text becomes values."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from theory.errors import UserError, nearest
from theory.sampling.counts import LARGEST_N
from theory.solvers.options import Options

if TYPE_CHECKING:
    from theory.objectives import Objective
    from theory.simulation import Settings

Method = Annotated[str | None, typer.Option("--method", help="An objective's name; see `theory methods`.")]
ObjectiveFile = Annotated[str | None, typer.Option("--objective", help="Your own objective: path/to/file.py:name.")]
Beta = Annotated[
    str | None,
    typer.Option("--beta", help="best (least forward KL: uses the target), validation (held-out preferences), or a number."),
]
Ridge = Annotated[
    float,
    typer.Option("--ridge", help="Precision of the Gaussian prior on the (implicit) reward; 0 for none."),
]
RewardHead = Annotated[str, typer.Option("--reward-head", help="separate, or tied: the student's reward is γ log π.")]
Oracle = Annotated[str, typer.Option("--oracle", help="learned (Bradley–Terry fit) or true reward.")]
PolicyClass = Annotated[str, typer.Option("--policy-class", help="table, or log-linear in the instance's features.")]
RewardClass = Annotated[str, typer.Option("--reward-class", help="table, or log-linear in the instance's features.")]
InstanceFile = Annotated[Path | None, typer.Option("--instance", help="An instance (.npz) instead of a random one.")]
Vocab = Annotated[int, typer.Option("--vocab", help="Responses in each context, V.")]
Contexts = Annotated[int, typer.Option("--contexts", help="Contexts, X.")]
Gamma = Annotated[float, typer.Option("--gamma", help="γ of the preference model.")]
RefNoise = Annotated[float, typer.Option("--ref-noise", help="Distance τ of the reference from the target, in logits.")]
Features = Annotated[int, typer.Option("--features", help="Dimension d of a random log-linear class; 0 for none.")]
Realizable = Annotated[bool, typer.Option("--realizable", help="Draw the target from the log-linear class.")]
InstanceSeed = Annotated[int, typer.Option("--instance-seed", help="Seed of the random instance.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the data.")]
Jobs = Annotated[int, typer.Option("--jobs", help="Worker processes; -1 for one a core.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

# Commands whose objectives bring hyperparameters of their own take options typer does not know.
EXTRA = {"allow_extra_args": True, "ignore_unknown_options": True}

DEFAULT_RIDGE = Options.ridge


def parse_n(text: str) -> float:
    """A sample size: a whole number from 1 to 1e15 in any notation, or ``inf`` for the population."""
    if text.strip().lower() in ("inf", "infinity"):
        return math.inf
    remedy = "must be a whole number from 1 to 1e15, such as 1e5, or inf for the population"
    try:
        n = float(text)
    except ValueError:
        raise UserError("--n", text, remedy) from None
    if not (math.isfinite(n) and 1 <= n <= LARGEST_N and n == int(n)):
        raise UserError("--n", text, remedy)
    return n


def parse_number(option: str, text: str) -> float:
    """A finite number, or a `UserError` that names the option."""
    try:
        value = float(text)
    except ValueError:
        raise UserError(option, text, "must be a number") from None
    if not math.isfinite(value):
        raise UserError(option, text, "must be finite")
    return value


def one_of(option: str, text: str, choices: tuple[str, ...]) -> str:
    """One of a few words, or a `UserError` that lists them."""
    if text not in choices:
        raise UserError(option, text, nearest(text, choices) + f" (choices: {', '.join(choices)})")
    return text


def objective_of(method: str | None, file: str | None, default: str = "rkl") -> Objective:
    """The objective that ``--method`` or ``--objective`` names."""
    from theory import objectives

    if method is not None and file is not None:
        raise UserError("--objective", file, f"cannot be combined with --method {method}: give one of them")
    return objectives.load(file) if file is not None else objectives.get(method or default)


def split_method(method: str | None, extra: list[str]) -> tuple[str | None, list[str]]:
    """The method among words that typer could not tell from an unknown option's value, and the options left.

    An option is ``--name value`` or ``--name=value``; the first other word is the method.
    """
    words, found, left = [*([method] if method is not None else []), *extra], None, []
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            left += [word, *([words.pop(0)] if "=" not in word and words else [])]
        elif found is None:
            found = word
        else:
            raise UserError(word, None, f"is one word too many after {found}")
    return found, left


def extra_values(objective: Objective, extra: list[str]) -> dict[str, float]:
    """Hyperparameters from the options that typer passed through: ``--name value`` or ``--name=value``."""
    known = {p.option: p.name for p in objective.hyperparameters if p.name != "beta"}
    values: dict[str, float] = {}
    rest = list(extra)
    while rest:
        option, equals, text = rest.pop(0).partition("=")
        if option not in known:
            raise UserError(
                option, None, f"is no option of this command nor a hyperparameter of {objective.name}{_listed(known)}"
            )
        if not equals:
            if not rest:
                raise UserError(option, None, "needs a value")
            text = rest.pop(0)
        values[known[option]] = parse_number(option, text)
    return values


def _listed(known: dict[str, str]) -> str:
    return f", which has {', '.join(known)}" if known else ""


def settings_of(
    objective: Objective,
    extra: list[str],
    *,
    beta: str | None = None,
    ridge: float = DEFAULT_RIDGE,
    reward_head: str = "separate",
    oracle: str = "learned",
    policy_class: str = "table",
    reward_class: str = "table",
    seed: int = 0,
) -> Settings:
    """`Settings` from the text of the options; raises `UserError` for any that is wrong."""
    from theory.simulation import Settings

    if not (math.isfinite(ridge) and ridge >= 0):
        raise UserError("--ridge", ridge, "must be zero or positive, and finite")
    options = Options(
        ridge,
        one_of("--reward-head", reward_head, ("separate", "tied")),
        one_of("--oracle", oracle, ("learned", "true")),
        nonnegative("--seed", seed),
    )
    rule, values = _beta(objective, beta)
    values |= extra_values(objective, extra)
    objective.resolve(values)
    classes = {"policy_class": policy_class, "reward_class": reward_class}
    for name, value in classes.items():
        one_of("--" + name.replace("_", "-"), value, ("table", "log-linear"))
    return Settings(objective, values, rule, options, **classes)


def _beta(objective: Objective, text: str | None) -> tuple[str, dict[str, float]]:
    """The β rule and, for a number, its value."""
    if text is None or text in ("best", "validation"):
        return text or "best", {}
    if any(p.name == "beta" for p in objective.hyperparameters):
        try:
            return "fixed", {"beta": float(text)}
        except ValueError:
            raise UserError("--beta", text, "must be best, validation or a number") from None
    tuned = objective.tuned
    remedy = f"; its tuned hyperparameter is {tuned.option}" if tuned else " and nothing to tune"
    raise UserError("--beta", text, f"{objective.name} has no hyperparameter beta{remedy}")


def nonnegative(option: str, value: int) -> int:
    """A seed or a count that must not be negative."""
    if value < 0:
        raise UserError(option, value, "must be zero or positive")
    return value


def check_jobs(jobs: int) -> None:
    """Raise `UserError` for a number of processes that is none."""
    if jobs == 0:
        raise UserError("--jobs", jobs, "must be a number of processes, or -1 for one a core")


def writable(option: str, path: Path | None) -> None:
    """Find out before any work whether a file can be written where it is asked for."""
    if path is None:
        return
    if path.is_dir():
        raise UserError(option, path, "is a directory; give a file name")
    if not path.absolute().parent.is_dir():
        raise UserError(option, path, "its folder does not exist")
    if not os.access(path.absolute().parent, os.W_OK):
        raise UserError(option, path, "its folder cannot be written to")
