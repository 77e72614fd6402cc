"""The one definition of every objective; the table, the audit and the trainers all call it.

One module an objective, named as its command with underscores. Adding a module that calls
`@objective` is all it takes: every command then accepts its name.
"""

import importlib
import pkgutil

from theory.objectives.pair import MissingInput, Pair, Terms
from theory.objectives.registry import Hyper, Hyperparameter, Objective, get, make, names, objective
from theory.objectives.user import load

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "Hyper",
    "Hyperparameter",
    "MissingInput",
    "Objective",
    "Pair",
    "Terms",
    "get",
    "load",
    "make",
    "names",
    "objective",
]
