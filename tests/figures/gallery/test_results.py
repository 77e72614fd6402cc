"""The committed results of language models: they are those of the commands that are said to make them."""

import json
import shlex

import numpy as np
import pandas as pd
import pytest

from figures import registry
from figures.figure import RESULTS
from theory.cli.sweep import parse_sizes

README = (RESULTS / "README.md").read_text(encoding="utf-8")


def _options(command: str) -> dict[str, str]:
    words = shlex.split(command.split("&&")[0])
    return dict(zip(words[2::2], words[3::2], strict=True))


def _table(name: str) -> tuple[pd.DataFrame, dict[str, str]]:
    results = registry.get(name).results
    return pd.read_parquet(RESULTS / results.file), _options(results.command)


@pytest.mark.parametrize("name", ["transformer-consistency", "training-curves"])
def test_the_table_has_the_methods_sizes_and_seeds_of_its_command(name):
    runs, given = _table(name)
    assert list(runs["method"].unique()) == given["--methods"].split(",")
    assert sorted(runs["n"].unique()) == list(parse_sizes(given["--n"]))
    assert runs.groupby(["method", "n"])["seed"].nunique().eq(int(given["--seeds"])).all()


def test_every_run_went_to_its_last_step():
    runs, _ = _table("training-curves")
    for _, run in runs.groupby(["method", "seed"]):
        (training,) = run["training"].unique()
        assert run["step"].max() == json.loads(training)["max_steps"]


def test_training_reaches_what_exact_mathematics_says():
    """PMLE ends at the target's numbers, supervised training at the winners', whatever both were measured by."""
    runs, _ = _table("training-curves")
    last = runs[(runs["step"] == runs.groupby("method")["step"].transform("max")) & (runs["temperature"] == 1)]
    ends = last[last["policy"] == "trained"].groupby("method").mean(numeric_only=True)
    known = last[last["policy"] != "trained"].groupby("policy").mean(numeric_only=True)
    for method, policy in (("pmle", "target"), ("sft", "winners")):
        for name in ("oracle_reward", "entropy", "chosen_logp", "rejected_logp"):
            assert np.isclose(ends[name][method], known[name][policy], atol=0.1), (method, name)
    assert ends["forward_kl"].idxmin() == "pmle"
    assert (runs["accuracy"] <= known["accuracy"]["target"] + 1e-9).all()


@pytest.mark.parametrize("name", ["transformer-consistency", "training-curves", "oracle-advantage"])
def test_the_readme_has_each_command(name):
    results = registry.get(name).results
    assert f"`{results.command}`" in README
    assert f"`{results.file}`" in README
    assert f"`{name}`" in README


def test_all_tables_are_small():
    assert sum(path.stat().st_size for path in RESULTS.glob("*.parquet")) < 1_000_000
