"""What makes a configuration unfit to train, found before anything is loaded."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm import config, recipes
from llm.config import Config
from theory.errors import UserError

# What a run of a paper cannot do without (without ``data``, a run is on the known-target world).
REQUIRED = ("model_name_or_path", "data", "output_dir")


def problems(name: str) -> list[UserError]:
    """Everything that is wrong with a recipe or a file, all at once; empty if it is sound."""
    try:
        recipe = recipes.load(name)
        config.objective_of(recipe.values)
    except UserError as error:
        return [error]
    found = [*_repeated(recipe.path), *_missing(recipe.values), *_keys(recipe.values)]
    return found or list(_whole(config.resolve(recipe.values)))


def _repeated(path: Path) -> Iterator[UserError]:
    """A key that stands twice, of which YAML keeps the last."""
    keys = re.findall(r"^([\w-]+)\s*:", path.read_text(encoding="utf-8"), re.MULTILINE)
    for key in sorted({key for key in keys if keys.count(key) > 1}):
        yield UserError(key, None, "stands twice")


def _missing(values: dict[str, Any]) -> Iterator[UserError]:
    for key in REQUIRED:
        if values.get(key) is None:
            yield UserError(key, None, "is missing")


def _keys(values: dict[str, Any]) -> Iterator[UserError]:
    """Each key by itself: known, of its type, in its range."""
    what: dict[str, Any] = {key: values[key] for key in ("method", "objective") if key in values}
    for key, value in values.items():
        yield from _attempt(config.resolve, what | {key: value})


def _whole(run: Config) -> Iterator[UserError]:
    """What only several keys together can get wrong."""
    if run.objective.needs_reward and not run.run.scores:
        remedy = f"{run.objective.name} needs rewards: compute them with llm score and name the file"
        yield UserError("scores", None, remedy)
    yield from _attempt(_built, run)
    yield from _attempt(_sized, run)
    yield from _attempt(_read, run)


def _built(run: Config) -> None:
    """TRL's own classes check what they check: names of optimisers and schedules, contradictions."""
    from trl import DPOConfig, ModelConfig

    # The run need not be possible on this machine, and its folder is not made.
    here = {"use_cpu": True, "output_dir": tempfile.gettempdir()}
    for made, given in ((DPOConfig, run.training | here), (ModelConfig, run.model)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                made(**given)
            except (ValueError, TypeError, ImportError) as error:
                raise UserError(made.__name__, None, " ".join(str(error).split())) from error


def _sized(run: Config) -> None:
    """What a plan reads: the accelerate configuration, and LoRA's targets where the model's layers are known."""
    from llm.plan import stage_of
    from llm.plan.shapes import FACTS, shape_of

    stage_of(run.run.accelerate_config)
    model = recipes.base_model(run.model)
    if model in FACTS and run.adapted:
        shape_of(model).adapters(run.model.get("lora_r", 16), run.model.get("lora_target_modules"))


def _read(run: Config) -> None:
    """The adapter, if one is named."""
    from llm.data import adapters

    if run.run.adapter is not None:
        adapters.named(run.run.adapter)


def _attempt(step: Callable[[Any], object], argument: Any) -> Iterator[UserError]:
    """The error that a step raises, if it raises one."""
    try:
        step(argument)
    except UserError as error:
        yield error
