"""A study's methods and training arguments, from the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llm import config
from llm.consistency.table import RULES, Method
from theory.cli.options import one_of, parse_number
from theory.errors import UserError, nearest
from theory.objectives import Objective

# Beginnings of keys of ``llm train`` that would do nothing here, or that a study sets.
UNFIT = ("output_dir", "seed", "data_seed", "save", "eval", "load_best", "hub", "push", "report_to")


def methods_of(
    words: Sequence[Mapping[str, str]], keys: Mapping[str, Any], beta: str, *, oracle: str, logp: str
) -> tuple[tuple[Method, ...], dict[str, Any]]:
    """The methods, and the arguments that TRL is given.

    Args:
        words: ``method`` or ``objective`` of each method, as ``llm train`` takes them.
        keys: hyperparameters, each for the methods that have it, and keys of TRL's ``DPOConfig``.
        beta: `RULES`, or a number, or METHOD=… for one method; several separated by commas.
        oracle, logp: of every method.

    Raises:
        UserError: an unknown method or key, or a value out of range.
    """
    one_of("--oracle", oracle, ("learned", "true"))
    one_of("--logp", logp, ("sum", "mean"))
    objectives = [config.objective_of(word) for word in words]
    default, own = _rules(beta, [objective.name for objective in objectives])
    owners = {key for objective in objectives for key in _names(objective)}
    methods, training = [], {}
    for word, objective in zip(words, objectives, strict=True):
        mine = {key: value for key, value in keys.items() if key in _names(objective) or key not in owners}
        resolved = config.resolve({**word, **mine})
        _refuse(mine, resolved)
        rule, values = _rule(objective, default, own.get(objective.name))
        methods.append(Method(resolved.objective, {**values, **resolved.hyper}, rule, logp, oracle))
        training = resolved.training
    return tuple(methods), training


def _names(objective: Objective) -> set[str]:
    return {p.name.rstrip("_") for p in objective.hyperparameters}


def _refuse(given: Mapping[str, Any], resolved: config.Config) -> None:
    """Refuse keys of ``llm train`` that mean nothing to a study."""
    for key in given:
        if key in resolved.model or key.startswith(UNFIT) or (key in config.run_keys() and key not in _names(resolved.objective)):
            remedy = "has no meaning for llm consistency and llm curves; llm train takes it"
            raise UserError(config.flag(key), given[key], remedy)


def _rules(text: str, names: list[str]) -> tuple[str, dict[str, str]]:
    """The rule of all methods, and those of single ones."""
    default, own = RULES[0], {}
    for part in text.split(","):
        name, equals, value = part.strip().rpartition("=")
        if equals and name.replace("_", "-") not in names:
            raise UserError("--beta", part, "names no method of --methods; " + nearest(name, names))
        if equals:
            own[name.replace("_", "-")] = value
        else:
            default = value
        if value not in RULES:
            _number(value)
    return default, own


def _rule(objective: Objective, default: str, own: str | None) -> tuple[str, dict[str, float]]:
    """The rule for the tuned hyperparameter, and its value if it is a number.

    A number for all methods is for those that have a β; the others follow the first rule.
    """
    text, tuned = own or default, objective.tuned
    if own is not None and tuned is None:
        raise UserError("--beta", f"{objective.name}={own}", f"{objective.name} has nothing to tune")
    if text in RULES:
        return text, {}
    if tuned is None or (own is None and tuned.name != "beta"):
        return RULES[0], {}
    return "fixed", {tuned.name: _number(text)}


def _number(text: str) -> float:
    try:
        return parse_number("--beta", text)
    except UserError:
        raise UserError("--beta", text, f"must be {', '.join(RULES)} or a number, of all methods or METHOD=… of one") from None
