"""Curves: exact measures against loops over pairs and sampled ones, the followed run against an unfollowed one."""

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llm.consistency import cell as cells
from llm.consistency import run as running
from llm.consistency.study import Cell, Limit, Study
from llm.consistency.table import Method
from llm.curves import run as curving
from llm.curves.follow import TEMPERATURES, FollowedTrainer, follow, moments
from llm.curves.measures import Judge
from llm.curves.summary import ends
from llm.world.exact import all_logps
from llm.world.lookup import all_rewards
from llm.world.reference import Fitting, fit_reference
from theory import objectives
from theory.errors import UserError
from theory.instances import random_language
from theory.sampling.responses import draw_labelled

TINY = random_language(0, tokens=3, length=2, prompts=2, gamma=2.0)
QUICK = Fitting(layers=1, width=16, heads=2, batch=16, steps=5, warmup=1)
SHORT = {"max_steps": 6, "per_device_train_batch_size": 32, "learning_rate": 1e-2}


def _method(name: str, **changes) -> Method:
    return Method(objectives.get(name), **{"values": {}, **changes})


def _study(*methods: Method, **changes) -> Study:
    return Study(TINY, methods, **{"sizes": (40,), "seeds": 1, "training": SHORT, "fitting": QUICK, **changes})


def _cell(name: str, **changes) -> Cell:
    method = _method(name, **changes)
    return Cell(_study(method), method, Limit(method.objective.resolve({}), 0.0), 40, 0)


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> str:
    """The folder of a reference that is fitted for a few steps only."""
    return str(fit_reference(TINY, tmp_path_factory.mktemp("references"), QUICK).path)


@pytest.fixture(scope="module")
def policy() -> np.ndarray:
    """A made-up log π that leaves a tenth of every prompt's mass off the language."""
    scores = np.random.default_rng(3).normal(size=(TINY.prompts, TINY.vocab))
    return np.log(0.9) + scores - np.log(np.exp(scores).sum(1, keepdims=True))


def test_measures_by_loops_over_every_pair(policy):
    target, reference = (np.exp(TINY.log_probs(which)) for which in ("target", "reference"))
    inside = np.exp(policy) / 0.9
    reward = TINY.gamma * np.log(target)
    rank = np.random.default_rng(4).normal(size=policy.shape)
    rank[0, 1] = rank[0, 2] + 1e-7  # a tie but for rounding
    total = beats = mass = accuracy = chosen = rejected = 0.0
    for x in range(TINY.prompts):
        total += sum(inside[x, y] * reward[x, y] for y in range(TINY.vocab)) / TINY.prompts
        for i in range(TINY.vocab):
            for j in range(TINY.vocab):
                prefers = 1 / (1 + np.exp(reward[x, j] - reward[x, i]))
                beats += inside[x, i] * reference[x, j] * prefers / TINY.prompts
                if i == j:
                    continue
                weight = reference[x, i] * reference[x, j] * prefers
                tie = abs(rank[x, i] - rank[x, j]) < 1e-6
                mass += weight
                accuracy += weight * (0.5 if tie else rank[x, i] > rank[x, j])
                chosen += weight * policy[x, i]
                rejected += weight * policy[x, j]
    found = Judge(TINY).measure(policy, rank)
    assert found.oracle_reward == pytest.approx(total)
    assert found.win_rate == pytest.approx(beats)
    assert found.accuracy == pytest.approx(accuracy / mass)
    assert (found.chosen_logp, found.rejected_logp) == pytest.approx((chosen / mass, rejected / mass))
    assert found.off_language_mass == pytest.approx(0.1)
    assert found.policy_accuracy == pytest.approx(Judge(TINY).measure(policy, policy).accuracy)


def test_expectations_are_those_of_drawn_comparisons(policy):
    """Fresh comparisons, 2e5 of them: within five standard errors."""
    drawn = draw_labelled(TINY, 200_000, 11)
    index = {tuple(row): place for place, row in enumerate(TINY.responses())}
    chosen, rejected = ([index[tuple(row)] for row in side] for side in (drawn.chosen, drawn.rejected))
    logps = {side: policy[drawn.prompt, places] for side, places in (("chosen", chosen), ("rejected", rejected))}
    found = Judge(TINY).measure(policy, policy)
    samples = {
        "accuracy": (logps["chosen"] > logps["rejected"]).astype(float),
        "chosen_logp": logps["chosen"],
        "rejected_logp": logps["rejected"],
    }
    for name, values in samples.items():
        assert abs(getattr(found, name) - values.mean()) < 5 * values.std() / np.sqrt(len(values)), name


def test_what_is_known_of_policies_without_training():
    judge = Judge(TINY)
    policies = judge.known()
    found = {name: judge.measure(logp, logp) for name, logp in policies.items()}
    assert found["target"].forward_kl == pytest.approx(0, abs=1e-12)
    assert found["reference"].win_rate == pytest.approx(0.5)
    assert found["reference"].kl_to_reference == pytest.approx(0, abs=1e-12)
    # Nothing ranks comparisons better than the target, and a winner is worth more than a draw.
    assert found["target"].accuracy == max(one.accuracy for one in found.values())
    assert found["winners"].oracle_reward > found["reference"].oracle_reward
    drawn = draw_labelled(TINY, 200_000, 12)
    reward = TINY.gamma * TINY.log_prob("target", drawn.prompt, drawn.chosen)
    # The winners' policy weighs prompts alike; that of comparisons weighs them by their draws of different responses.
    by_prompt = np.mean([reward[drawn.prompt == x].mean() for x in range(TINY.prompts)])
    assert found["winners"].oracle_reward == pytest.approx(by_prompt, abs=5 * reward.std() / np.sqrt(len(reward)))


def test_steps_that_are_measured():
    assert moments(300, 4) == [1, 7, 45, 300]
    assert moments(3, 10) == [1, 2, 3]
    assert moments(5, 1) == [5]
    assert moments(1, 3) == [1]


@pytest.mark.parametrize("name", ["sft", "dpo", "drdo", "e-dpo", "pmle", "simpo"])
def test_following_a_run_changes_nothing_of_it(name, quick):
    cell = _cell(name)
    alone = cells.train(cell, quick)
    rows = follow(cell, quick, 3)
    trained = [row for row in rows if row["policy"] == "trained"]
    assert [(row["step"], row["temperature"]) for row in trained] == [
        *((step, 1.0) for step in (0, 1, 2, 6)),
        *((6, t) for t in TEMPERATURES),
    ]
    before, after = trained[0], trained[3]
    assert before["forward_kl"] == pytest.approx(alone["forward_kl_before"], rel=1e-5)
    assert after["forward_kl"] == pytest.approx(alone["forward_kl"], rel=1e-5)
    assert after["forward_kl"] != pytest.approx(before["forward_kl"], rel=1e-4)
    assert {row["policy"] for row in rows[len(trained) :]} == {"target", "reference", "winners"}
    assert {json.dumps([row[key] for key in ("method", "n", "seed", "training", "versions")]) for row in rows} == {
        json.dumps([alone[key] for key in ("method", "n", "seed", "training", "versions")])
    }


@pytest.mark.parametrize(("name", "logp"), [("dpo", "sum"), ("drdo", "sum"), ("sft", "sum"), ("dpo", "mean"), ("simpo", "sum")])
def test_a_table_is_what_other_functions_say(name, logp, quick, tmp_path):
    cell = _cell(name, logp=logp)
    run = cells.prepare(cell, quick, str(tmp_path), FollowedTrainer)
    run.trainer.train()
    training = run.model.training
    logps, rewards = run.trainer.table()
    assert run.model.training == training
    expected = all_logps(run.model, run.tokenizer, TINY).ravel()
    assert logps == pytest.approx(expected, abs=1e-6)
    start, length = run.start.ravel(), TINY.length + 1
    if name == "drdo":
        assert rewards == pytest.approx(all_rewards(run.model, run.tokenizer, TINY).ravel(), abs=1e-6)
    elif name == "simpo":
        assert rewards == pytest.approx(cell.limit.hyper["beta"] * expected / length, abs=1e-5)
    else:
        beta = cell.limit.hyper.get("beta", 1.0)
        assert rewards == pytest.approx(beta * (expected - start) / (length if logp == "mean" else 1), abs=1e-5)


def test_at_the_start_a_log_ratio_ranks_nothing(quick):
    first, *_ = follow(_cell("dpo"), quick, 1)
    assert first["accuracy"] == 0.5
    assert first["policy_accuracy"] > 0.5


def test_a_temperature_is_a_samplers(quick, tmp_path):
    """Against next-token distributions of the model's own forward, their logits divided."""
    run = cells.prepare(_cell("sft"), quick, str(tmp_path), FollowedTrainer)
    before = [p.clone() for p in run.model.parameters()]
    sequences = run.trainer.pairs.sequences
    logits = run.model(input_ids=sequences["input_ids"], attention_mask=sequences["attention_mask"]).logits[:, :-1]
    ids, mask = sequences["input_ids"][:, 1:], sequences["completion_mask"][:, 1:]
    picked = (logits / 0.5).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    with run.trainer.cooled(0.5):
        found = run.trainer.table()[0]
    assert found == pytest.approx((picked * mask).sum(1).detach().numpy(), abs=1e-4)
    assert all(torch.equal(p, q) for p, q in zip(before, run.model.parameters(), strict=True))


def _run(study: Study, out, points: int = 2) -> running.Done:
    calls = {"say": lambda text: None, "expect": lambda count: None, "report": lambda count: None}
    curving.check(study, points)
    return running.run_study(study, out, jobs=1, job=curving.job(points), **calls)


def test_a_second_start_follows_only_what_is_missing(tmp_path, monkeypatch):
    study = _study(_method("pmle"), _method("sft"), seeds=2)
    first = _run(study, tmp_path)
    assert (first.before, first.total) == (0, 4)
    assert pq.read_table(tmp_path / "curves.parquet").to_pylist() == first.rows
    steps = [row["step"] for row in first.rows if (row["method"], row["seed"], row["temperature"]) == ("sft", 1, 1.0)]
    assert steps[:3] == [0, 1, 6]
    followed = []
    monkeypatch.setattr(curving, "follow", lambda cell, start, points: followed.append(cell) or follow(cell, start, points))
    next((tmp_path / "parts").glob("curve-*-sft-n40-s1-*")).unlink()
    again = _run(study, tmp_path)
    assert (again.before, len(followed)) == (3, 1)
    assert again.rows == first.rows
    assert _run(study, tmp_path, points=3).before == 0
    # Curves and runs of llm consistency may share a directory.
    plain = running.run_study(study, tmp_path, jobs=1, say=print, expect=lambda n: None, report=lambda n: None)
    assert plain.before == 0


def test_ends_are_means_over_data_sets_at_the_last_step():
    base = dict.fromkeys(("forward_kl", "reverse_kl", "kl_to_reference", "entropy", "off_language_mass", "win_rate"), 0.0)
    base |= dict.fromkeys(("accuracy", "policy_accuracy", "chosen_logp", "rejected_logp"), 1.0)

    def row(policy, seed, step, reward, temperature=1.0) -> dict:
        given = {"method": "dpo", "policy": policy, "seed": seed, "step": step, "temperature": temperature}
        return {**base, **given, "oracle_reward": reward}

    rows = []
    for seed in (0, 1):
        rows += [row("trained", seed, step, 10.0 * step + seed) for step in (0, 3)]
        rows += [row("trained", seed, 3, 99.0, 0.5), row("reference", seed, 3, 5.0), row("target", seed, 3, 7.0)]
    found = {one["policy"]: (one["step"], one["oracle_reward"], one["oracle_advantage"]) for one in ends(rows)}
    assert found == {"dpo": (3, 30.5, 25.5), "reference": (3, 5.0, 0.0), "target": (3, 7.0, 2.0)}


@pytest.mark.parametrize(
    ("changes", "points", "said"),
    [
        ({"sizes": (30, 40)}, 2, "--n 30, 40: must be one size"),
        ({}, 0, "--points 0: must be at least 1"),
        ({"seeds": 0}, 2, "--seeds 0: must be at least 1"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_one_line(changes, points, said):
    with pytest.raises(UserError) as refused:
        curving.check(dataclasses.replace(_study(_method("dpo")), **changes), points)
    assert str(refused.value).startswith(said)


WORLD = ("--tokens", "3", "--length", "2", "--prompts", "2")
FAST = ("--n", "40", "--seeds", "1", "--max-steps", "2", "--jobs", "1", "--points", "2")


@pytest.fixture
def command(run, tmp_path, monkeypatch):
    """The command on a small world, from a reference that is fitted for a few steps only."""
    monkeypatch.setattr(running, "fit_reference", lambda language, cache, fitting: fit_reference(language, cache, QUICK))
    return lambda *words: run("curves", "--out", tmp_path / "out", *WORLD, *FAST, *words)


def test_the_command_for_people_and_for_programs(command, tmp_path):
    done = command("--methods", "sft,drdo")
    assert done.code == 0
    for words in ("sft", "drdo", "target", "winners", "advantage", "the end of training on 40 comparisons"):
        assert words in done.out, done.out
    again = command("--methods", "sft,drdo", "--json")
    assert again.err == "2 of 2 runs were there already\n"
    rows = pq.read_table(tmp_path / "out" / "curves.parquet").to_pylist()
    assert again.json["ends"] == ends(rows)
    assert [end["policy"] for end in again.json["ends"]] == ["sft", "drdo", "target", "reference", "winners"]
    assert {row["step"] for row in rows} == {0, 1, 2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--methods", "dpi"), "METHOD dpi: is not a known objective; did you mean dpo?"),
        (("--n", "1e3,1e4"), "--n 1000, 10000: must be one size"),
        (("--points", "0"), "--points 0: must be at least 1"),
        (("--jobs", "0"), "--jobs 0: must be a number of processes, or -1 for one a core"),
        (("--methods", "rlhf"), "--methods rlhf: maximises a reward on samples of its own"),
        (("--bets", "1"), "--bets: is no key of a run; known: "),
    ],
)
def test_one_line_and_nothing_written(words, said, command, tmp_path):
    assert command(*words).error.startswith(said)
    assert not (tmp_path / "out").exists()
