"""Over-optimisation paths against closed forms, an independent reward fit and made-up paths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch.nn.functional import logsigmoid

from theory import objectives
from theory.audit import overoptimisation
from theory.audit.overoptimisation import Path, paths, turn
from theory.audit.subject import Subject
from theory.instances import Instance, random_instance
from theory.instances.mismatch import with_coverage
from theory.objectives import make
from theory.sampling import draw
from theory.solvers.options import Options

WORLD = random_instance(0, vocab=5, contexts=4)
IDS = [f"over-optimisation.{name}" for name in ("gold", "gap", "forward_kl")]


def likelihood(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def linear(pair):
    return -pair.logp_margin


def hinge(pair):
    return torch.relu(1 - pair.logp_margin)


def subject(name, instance=WORLD, **kwargs):
    objective = objectives.get(name) if isinstance(name, str) else make(name)
    return Subject(objective, instance=instance, **kwargs)


def bradley_terry(wins, ridge):
    """The ridge's Bradley–Terry rewards of one context by scipy, centred."""

    def cost(r):
        loss = (wins * np.logaddexp(0, -(r[:, None] - r[None, :]))).sum()
        return loss + ridge / 2 * ((r - r.mean()) ** 2).sum()

    r = minimize(cost, np.zeros(len(wins)), tol=1e-12).x
    return r - r.mean()


def test_rlhf_along_its_path_is_the_closed_form_on_an_independent_reward():
    values = [10.0, 1.0, 0.1]
    found = paths(subject("rlhf"), coefficient=20.0, n=300, data_sets=2, values=values)
    world = with_coverage(WORLD, 20.0)
    assert np.array_equal(found.values, values)
    for s in range(2):
        wins = draw(world, 300, 0, range(s, s + 1)).wins[0]
        learned = np.stack([bradley_terry(w, 0.01) for w in wins])
        for p, beta in enumerate(values):
            policy = world.reference * np.exp(learned / beta)
            policy /= policy.sum(1, keepdims=True)
            step = policy - world.reference
            assert found.proxy[p, s] == pytest.approx((step * learned).sum(1).mean(), rel=1e-4)
            assert found.gold[p, s] == pytest.approx((step * np.log(world.target)).sum(1).mean(), rel=1e-4)
            assert found.drift[p, s] == pytest.approx((policy * np.log(policy / world.reference)).sum(1).mean(), rel=1e-3)
            expected = (world.target * np.log(world.target / policy)).sum(1).mean()
            assert found.forward_kl[p, s] == pytest.approx(expected, rel=1e-4)


@settings(max_examples=15)
@given(seed=st.integers(0, 30), gamma=st.floats(0.5, 2))
def test_rlhf_buys_learned_reward_with_drift(seed, gamma):
    # Along decreasing β both E_π[r̂] and KL(π‖π_ref) rise, on every data set.
    world = random_instance(seed, vocab=4, contexts=2, gamma=gamma)
    found = paths(subject("rlhf", world), coefficient=10.0, n=200, data_sets=3)
    assert (np.diff(found.proxy, axis=0) >= -1e-9).all()
    assert (np.diff(found.drift, axis=0) >= -1e-9).all()
    assert found.end == len(found.values) - 1 or np.allclose(found.drift[found.end :], found.drift[-1], rtol=1e-6)


def test_a_true_reward_is_not_over_optimised():
    found = paths(subject("rlhf", options=Options(oracle="true")))
    assert (np.diff(found.gold, axis=0) >= -1e-9).all()
    assert turn(found, found.gold).turns is False
    # It is the reward that is right, not the policy: the forward KL still explodes.
    assert turn(found, -found.forward_kl).turns is True


def test_paths_start_where_the_policy_is_nearest_to_the_reference():
    for name in ("rlhf", "rebel", "ipo"):
        found = paths(subject(name), data_sets=3, values=[0.01, 0.1, 1.0, 10.0])
        mean = found.drift.mean(1)
        assert mean[0] == mean.min()
        assert found.end == 3
    rebel = paths(subject("rebel"), data_sets=2, values=[10.0, 0.01])
    assert rebel.values.tolist() == [0.01, 10.0]


def test_the_target_as_policy_has_the_targets_advantage():
    # With n large and good coverage RKL at β = 0 is the target.
    found = paths(subject("rkl"), coefficient=1.0, n=10**12, data_sets=1, values=[0.0, 100.0])
    assert found.gold[-1, 0] == pytest.approx(found.target, rel=1e-4)
    assert found.proxy[-1, 0] == pytest.approx(found.gold[-1, 0], rel=1e-4)
    assert found.forward_kl[-1, 0] < 1e-8
    step = WORLD.target - WORLD.reference
    assert found.target == pytest.approx((step * np.log(WORLD.target)).sum(1).mean())


def made_up(gold, noise=0.0, data_sets=20):
    """A path whose drift grows step by step, with the given mean gold reward."""
    gold = np.asarray(gold, dtype=float)[:, None] + noise * np.random.default_rng(0).standard_normal((len(gold), data_sets))
    drift = np.arange(len(gold), dtype=float)[:, None] * np.ones(data_sets)
    return Path(WORLD, np.arange(len(gold), dtype=float), drift, gold, drift, drift, 0.0)


def test_a_turn_is_found_where_it_is_and_measured_on_other_data_sets():
    path = made_up([0.0, 1.0, 2.0, 1.5, 0.5])
    found = turn(path, path.gold)
    assert (found.best, found.loss.value, found.turns) == (2, 1.5, True)
    rising = made_up([0.0, 1.0, 2.0])
    assert turn(rising, rising.gold).turns is False
    # The choice of the best of 25 points that differ by noise alone does not flatter what is lost after it.
    level = made_up(np.zeros(25), noise=1.0)
    assert turn(level, level.gold).turns is None


def test_a_path_that_comes_back_ends_at_its_farthest_point():
    path = made_up([0.0, 1.0, 2.0, 1.0])
    back = Path(WORLD, path.values, np.array([0.0, 3.0, 1.0, 0.1])[:, None] * np.ones(20), path.gold, path.gold, path.gold, 0.0)
    assert back.end == 1
    assert turn(back, back.gold).best == 1


def test_rows_are_tidy_and_reproducible():
    first, again = (paths(subject("dpo"), data_sets=2, values=[1.0, 0.1]).rows() for _ in range(2))
    assert first == again
    assert len(first) == 4
    assert {(row["value"], row["data_set"]) for row in first} == {(1.0, 0), (1.0, 1), (0.1, 0), (0.1, 1)}
    other = paths(subject("dpo", seed=1), data_sets=2, values=[1.0, 0.1]).rows()
    assert other[0]["proxy"] != first[0]["proxy"]


@pytest.mark.parametrize("name", [*objectives.names(), likelihood])
def test_every_method_has_a_path_or_a_point(name):
    one = subject(name)
    values = [1.0, 0.1] if one.objective.tuned else None
    found = paths(one, n=200, data_sets=2, values=values)
    assert found.drift.shape == ((2, 2) if values else (1, 2))
    assert (found.values is None) == (values is None)
    for row in found.rows():
        assert all(math.isfinite(row[name]) for name in ("drift", "gold", "proxy", "forward_kl"))
        assert min(row["drift"], row["forward_kl"]) >= 0


@pytest.mark.parametrize("name", ["rkl", "dpo", "e-dpo", "reward", "drdo", "sft", likelihood, linear, hinge])
def test_every_section_has_every_finding(name):
    section = overoptimisation.section(subject(name, random_instance(0, vocab=4, contexts=2)))
    assert [f.id for f in section.findings] == IDS
    gold, gap, forward_kl = section.findings
    one = subject(name)
    if name is linear:
        assert {f.verdict for f in section.findings} == {"no minimiser"}
    elif name is hinge:
        assert {f.verdict for f in section.findings} == {"not decided"}
    elif one.objective.tuned is None:
        assert gold.verdict == forward_kl.verdict == "does not apply"
        assert "gap" in gap.numbers
        assert not section.panels
    else:
        assert gold.verdict in {"yes", "no", "both fall", "gold falls", "not decided"}
        assert len(section.panels) == 2
        for panel in section.panels:
            assert all(len(line.x) == len(line.y) for line in panel.lines)
            assert all(math.isfinite(v) for line in panel.lines for v in [*line.x, *line.y])


def test_findings_on_a_reward_that_is_pursued_too_far():
    section = overoptimisation.section(subject("rlhf", random_instance()))
    gold, gap, forward_kl = section.findings
    assert (gold.verdict, gap.verdict, forward_kl.verdict) == ("yes", "overrates", "yes")
    assert gold.numbers["interval"][0] > 0
    assert gold.numbers["proxy_rise"] > 0
    assert 0 < gold.numbers["peak_drift"] < gold.numbers["end_drift"]


def test_where_there_is_no_path_or_no_world():
    fixed = overoptimisation.section(subject("rkl", values={"beta": 0.1}))
    assert fixed.findings[0].verdict == "does not apply"
    assert "fixed" in fixed.findings[0].answer
    coins = Instance(np.full((2, 4), 0.25), np.full((2, 4), 0.25))
    assert {f.verdict for f in overoptimisation.section(subject("rkl", coins)).findings} == {"does not apply"}
