"""A user's own objective from a file, checked when it is loaded rather than in the middle of a fit."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import torch
from torch import Tensor

from theory.errors import UserError, nearest
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
        raise UserError("--objective", specification, f"could not be imported: {type(error).__name__}: {error}") from error
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
        shape = (PROBES,) if made.ensemble == 1 else (made.ensemble, PROBES)
        elementwise = loss is None or (isinstance(loss, Tensor) and loss.shape == shape)
        require(elementwise, "must return the unreduced loss: one number for each pair")
        _ = made.inputs, made.on_policy, made.label_free, made.margins
    except UserError:
        raise
    except Exception as error:
        raise UserError("--objective", specification, f"failed on a batch of pairs: {type(error).__name__}: {error}") from error
    try:
        # The solvers fit many values of a hyperparameter at once.
        made.coefficients(**{p.name: torch.full((2, 1), p.default, dtype=torch.float64) for p in made.hyperparameters})
    except Exception as error:
        remedy = "must take its hyperparameters as tensors too: torch.exp(beta) for math.exp, torch.where for if"
        raise UserError("--objective", specification, f"{remedy} ({type(error).__name__}: {error})") from error
