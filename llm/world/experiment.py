"""A training run on the known-target world: everything is made here, and the result measured exactly."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from llm import folder
from llm.config import Config
from llm.models.load import load_policy, load_reward_model, load_tokenizer
from llm.run import Material, Say, train, treatment_of
from llm.world.exact import ExactReport, all_logps, evaluate, floor
from llm.world.lookup import REFERENCE, REWARD, Lookup, all_rewards
from llm.world.reference import Reference, fit_reference
from llm.world.texts import preference_table
from theory.instances.language import Language, random_language
from theory.objectives import get
from theory.solvers.options import Options

# What teaches a reward to an objective that distils one, as in the drdo paper.
TEACHER, TEACHER_STEPS = "oracle", 200
# Training arguments of so small a model on a processor; keys that are given win.
DEFAULTS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "lr_scheduler_type": "cosine",
    "per_device_train_batch_size": 256,
    "max_steps": 300,
    "logging_steps": 25,
    "save_strategy": "no",
    "gradient_checkpointing": False,
    "max_length": 64,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}


@dataclass(frozen=True)
class World:
    """A language, its reference as a transformer, and comparisons of its responses."""

    language: Language
    reference: Reference
    dataset: Dataset


def make_world(config: Config, cache: Path, say: Say = lambda text: None) -> World:
    """The world that a configuration asks for; the reference is fitted once and kept in ``cache``."""
    run = config.run
    sizes = {name: getattr(run, name) for name in ("tokens", "length", "prompts", "order", "ref_noise", "gamma")}
    language = random_language(run.world_seed, **sizes)
    say("reference policy")
    reference = fit_reference(language, cache)
    table = preference_table(language, run.comparisons, int(config.training.get("seed", 0)))
    return World(language, reference, Dataset(table))


def run_world(config: Config, out: Path, say: Say = lambda text: None, world: World | None = None) -> dict[str, Any]:
    """Train on the known-target world; the run's record with the exact distances to the target before and after."""
    own = _own(config, out)
    treatment_of(config), folder.checkpoint(own.run.resume, out)  # refuse before anything is made
    world = world or make_world(config, out.parent / "references", say)
    start = str(world.reference.path)
    before = _measured(start, world)
    dataset = _scored(config, world, out, say)
    record = train(own, Material(start, dataset, None, DEFAULTS), out, say)
    after = _measured(str(out), world)
    values = treatment_of(config).schedule.at(1.0)
    options = Options(oracle="true")  # the population's floor: the reward fit is exact there
    return {
        **record,
        "forward_kl_before": before.forward_kl,
        "forward_kl_after": after.forward_kl,
        "floor": floor(world.language, config.objective, values, logp=config.run.logp, options=options),
        "before": dataclasses.asdict(before),
        "after": dataclasses.asdict(after),
        "world": world.language.name,
        "reference_fit_kl": world.reference.kl,
        "comparisons": config.run.comparisons,
        "oracle": config.run.oracle if config.objective.reads("reward") else None,
    }


def _own(config: Config, out: Path) -> Config:
    """The run itself, without its teachers: it is new where the run to go on with was stopped while they were trained."""
    if config.run.resume != "auto" or folder.contents(out) or not _teacher(out, 0).is_dir():
        return config
    return dataclasses.replace(config, run=dataclasses.replace(config.run, resume=None))


def _teacher(out: Path, member: int) -> Path:
    return out.parent / f"{out.name}-teacher-{member}"


def _measured(name: str, world: World) -> ExactReport:
    return evaluate(load_policy(name), load_tokenizer(name), world.language)


def _scored(config: Config, world: World, out: Path, say: Say) -> Dataset:
    """The comparisons with tokens, reference log-probabilities and the rewards that the objective distils."""
    tokenizer = load_tokenizer(str(world.reference.path))
    lookup = Lookup(world.language, world.dataset)
    dataset = lookup.tokenised(tokenizer)
    reference = all_logps(load_policy(str(world.reference.path)), tokenizer, world.language)
    dataset = lookup.scored(dataset, REFERENCE, [reference])
    if not config.objective.reads("reward"):
        return dataset
    count = config.objective.ensemble
    if config.run.oracle == "true":
        rewards = [world.language.gamma * world.language.log_probs("target")] * count
    else:
        teachers = [_teach(config, _teacher(out, k), k, world, dataset, say) for k in range(count)]
        rewards = [all_rewards(load_reward_model(teacher), tokenizer, world.language) for teacher in teachers]
    return lookup.scored(dataset, REWARD, rewards)


def _teach(config: Config, out: Path, member: int, world: World, dataset: Dataset, say: Say) -> str:
    """Train a reward model on the same comparisons, started from the same reference; its folder.

    A run that goes on takes the teachers that are whole, and trains those again that were not.
    """
    going_on = config.run.resume is not None
    if going_on and "steps" in folder.read(out):
        return str(out)
    say(f"reward model {member + 1}")
    resume = "auto" if going_on and folder.contents(out) else None
    run = dataclasses.replace(config.run, scores=[], resume=resume, anneal=False, logp="sum")
    training = {"seed": int(config.training.get("seed", 0)) + member, "max_steps": TEACHER_STEPS}
    teacher = Config(get(TEACHER), run, {}, training, config.model)
    train(teacher, Material(str(world.reference.path), dataset, None, DEFAULTS), out, say)
    return str(out)
