"""The papers' runs, one YAML file each: ``PAPER/NAME.yaml``, found by looking, not by a list.

A recipe is a flat mapping of what ``llm train --config`` takes (`llm.config`): fields of TRL's
``DPOConfig`` and ``ModelConfig``, our own, and the objective's hyperparameters under their own names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.config import read_yaml
from theory.errors import UserError, nearest

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """A configuration file.

    Attributes:
        name: ``PAPER/NAME`` of ours, else the path.
        values: what it says, key by key.
    """

    name: str
    path: Path
    values: dict[str, Any]

    @property
    def title(self) -> str:
        """Its first line, if that is a comment."""
        first = self.path.read_text(encoding="utf-8").split("\n", 1)[0]
        return first.removeprefix("#").strip().rstrip(".") if first.startswith("#") else ""


def names(paper: str | None = None) -> list[str]:
    """Every recipe's name, or a paper's; raises `UserError` for an unknown paper."""
    found = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))
    papers = sorted({name.split("/")[0] for name in found})
    if paper is None:
        return found
    if paper not in papers:
        raise UserError("--paper", paper, nearest(paper, papers))
    return [name for name in found if name.startswith(f"{paper}/")]


def path_of(name: str) -> Path:
    """The file of a recipe of ours, by name, or of the user's, by path; raises `UserError`."""
    bare = name.removesuffix(".yaml")
    if bare in names():
        return FOLDER / f"{bare}.yaml"
    path = Path(name)
    if path.is_file():
        return path
    raise UserError("RECIPE", name, f"is neither a recipe nor a file; {_suggestion(bare)}")


def load(name: str) -> Recipe:
    """Read a recipe of ours or a file of the user's.

    Raises:
        UserError: there is none, or it is no flat YAML mapping.
    """
    path = path_of(name)
    values = read_yaml(path, "RECIPE")
    ours = path.is_relative_to(FOLDER)
    return Recipe(path.relative_to(FOLDER).with_suffix("").as_posix() if ours else str(path), path, values)


def base_model(values: Mapping[str, Any]) -> str:
    """The model whose shape a run has: a recipe that starts from another's output has that one's; raises `UserError`."""
    name = values.get("model_name_or_path")
    if not isinstance(name, str):
        raise UserError("model_name_or_path", name, "must name a model: a hub id or a folder")
    made = _outputs()
    for _ in range(len(made)):
        if name not in made:
            break
        name = made[name]
    return name


@functools.cache
def _outputs() -> dict[str, str]:
    """The model that every recipe starts from, by its output directory."""
    found = [read_yaml(FOLDER / f"{name}.yaml", "RECIPE") for name in names()]
    return {str(values["output_dir"]): str(values["model_name_or_path"]) for values in found if "output_dir" in values}


def _suggestion(name: str) -> str:
    """The nearest recipe, also by its last part."""
    short = {known.split("/", 1)[1]: known for known in names()}
    return f"did you mean {short[name]}?" if name in short else nearest(name, names())
