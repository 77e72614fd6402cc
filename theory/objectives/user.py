"""A user's own objective from a file, checked when it is loaded rather than in the middle of a fit."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from theory.errors import UserError, nearest
from theory.objectives.pair import Pair
from theory.objectives.registry import PROBES, Objective, make, registered


def load(specification: str) -> Objective:
    """A user's own objective from ``path/to/file.py:name``; raises `UserError`.

    The file is executed: it is the user's own code, named on the command line.
    """
    path, _, name = specification.rpartition(":")
    if not path or not name:
        raise UserError("--objective", specification, "give it as path/to/file.py:name")
    if not Path(path).is_file():
        raise UserError("--objective", specification, f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"user_objective_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise UserError("--objective", specification, "is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UserError("--objective", specification, _said("could not be imported", error)) from error
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        functions = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise UserError("--objective", specification, f"has no function {name}; " + nearest(name, functions))
    made = registered(function) or make(function)
    _try(made, specification)
    return made


def _try(made: Objective, specification: str) -> None:
    """Run a user's objective on made-up numbers, so that it fails here or not at all."""

    def require(condition: bool, remedy: str) -> None:
        if not condition:
            raise UserError("--objective", specification, remedy)

    try:
        terms = made._probe[1]
        loss = terms.loss
        says_something = loss is not None or any(float(c) != 0 for c in terms.coefficients.values())
        require(says_something, "must return a loss or Terms; it returned neither")
        require(all(math.isfinite(float(c)) for c in terms.coefficients.values()), "returned a coefficient that is not finite")
        shape = (PROBES,) if made.ensemble == 1 else (made.ensemble, PROBES)
        elementwise = loss is None or (isinstance(loss, Tensor) and loss.shape == shape)
        require(elementwise, "must return the unreduced loss: one number for each pair")
        _ = made.inputs, made.on_policy, made.label_free, made.margins
        if loss is not None:
            for holds, remedy in _properties(made, loss):
                require(holds, remedy)
    except UserError:
        raise
    except AttributeError as error:
        remedy = f"needs an input that the table cannot give: {error}"
        known = "Pair has no" in str(error)
        raise UserError("--objective", specification, remedy if known else _said("failed on a batch of pairs", error)) from error
    except (Exception, SystemExit) as error:
        raise UserError("--objective", specification, _said("failed on a batch of pairs", error)) from error
    try:
        # The solvers fit many values of a hyperparameter at once.
        made.coefficients(**{p.name: torch.full((2, 1), p.default, dtype=torch.float64) for p in made.hyperparameters})
    except Exception as error:
        remedy = "must take its hyperparameters as tensors too: torch.exp(beta) for math.exp, torch.where for if"
        raise UserError("--objective", specification, _said(remedy, error)) from error


def _said(what: str, error: BaseException) -> str:
    """What went wrong and the first line of the error."""
    return f"{what}: {type(error).__name__}: {error}".split("\n")[0]


# What to say of a loss that lacks what the solvers rely on.
NOT_FINITE = "returned NaN or an infinite number on ordinary pairs (log-probabilities from −1.75 to −0.75)"
NOT_FIXED = "returned another loss for the same pairs: it must not be random or keep a state"
NOT_ALONE = "depends on the rest of the batch: each pair's loss must be a function of that pair alone"
NOT_SMOOTH = "is not differentiable in what is trained: use torch's own operations, without detach, item or numpy"
NOT_TRAINED = "reads neither the policy's log-probabilities nor a student's reward: there is nothing to train"
NO_SLOPE = "has a gradient that is NaN or infinite on ordinary pairs"
FLAT = "has a gradient of 0 on every pair: it is piecewise constant"


def _properties(made: Objective, loss: Tensor) -> Iterator[tuple[bool, str]]:
    """What the solvers rely on, and what to say of a loss that does not have it; later ones presume the earlier."""
    pair = made._probe[0]
    yield bool(torch.isfinite(loss).all()), NOT_FINITE
    yield torch.equal(_loss(made, pair), loss), NOT_FIXED
    yield _alone(made, loss), NOT_ALONE
    trained = {name: t.clone().requires_grad_() for name, t in pair.given().items() if name.startswith(("logp", "student"))}
    read = [name for name in trained if name in made.inputs]
    yield bool(read), NOT_TRAINED
    value = _loss(made, pair.replace(**trained))
    yield value.requires_grad, NOT_SMOOTH
    slopes = torch.autograd.grad(value.sum(), [trained[name] for name in read], allow_unused=True)
    found = {name: torch.zeros(PROBES) if s is None else s for name, s in zip(read, slopes, strict=True)}
    yield all(bool(torch.isfinite(s).all()) for s in found.values()), NO_SLOPE
    yield any(bool(s.any()) for s in found.values()), FLAT
    wrong = [name for name in read if not _is_slope(made, pair, name, found[name])]
    yield (
        not wrong,
        f"has a gradient in {', '.join(wrong)} that is not the slope of its value (a detach, no_grad or cast to float32 inside?)",
    )


def _loss(made: Objective, pair: Pair) -> Tensor:
    loss = made.terms(pair).loss
    assert loss is not None
    return loss


def _alone(made: Objective, loss: Tensor) -> bool:
    """Whether parts of the batch, in another order, have the losses that they have within the whole."""
    order = torch.randperm(PROBES, generator=torch.Generator().manual_seed(1))
    return all(_agrees(made, loss, part) for part in order.split(PROBES // 3))


def _agrees(made: Objective, loss: Tensor, part: Tensor) -> bool:
    value = _loss(made, made._probe[0].map(lambda t: t[..., part]))
    return value.shape[-1] == len(part) and torch.allclose(value, loss[..., part], rtol=1e-9, atol=1e-12)


def _is_slope(made: Objective, pair: Pair, name: str, slope: Tensor, step: float = 1e-6) -> bool:
    """Whether a gradient agrees with central differences on nearly all pairs (a kink may spoil a few)."""
    there, here = (_loss(made, pair.replace(**{name: getattr(pair, name) + s * step})) for s in (1, -1))
    difference = (there - here) / (2 * step)
    if made.ensemble > 1:
        difference = difference.sum(0)
    close = (difference - slope).abs() <= 1e-5 * (1 + slope.abs())
    return float(close.double().mean()) > 0.9
