"""Equivalences against closed forms and hand-derived relations; the search against policies built in numpy."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_softmax
from torch.nn.functional import logsigmoid

from theory.audit.comparison import AS_IT_IS, IN_POPULATION, LIMIT, MINIMISER, OBJECTIVE, TRANSFORMED, UNIFORM, Match, label
from theory.audit.equivalence import equivalences, groups, section
from theory.audit.matching import corners, divergence, expressions, locate, newton_distance, policy_gradient, scale_between
from theory.audit.subject import Subject
from theory.instances import random_instance
from theory.objectives import get, make
from theory.sampling import draw, population
from theory.simulation import Settings, make_task, solve
from theory.solvers.options import Options


def cautious(pair, *, gamma, beta=0.1):
    return -logsigmoid(gamma * pair.logp_margin) + beta * pair.logratio_margin**2


def biased(pair):
    return (pair.logp_margin - 1.0) ** 2


def falling(pair):
    return -pair.logp_margin


def doubled(pair):
    return -2 * pair.logp_chosen


def _subject(objective, **options) -> Subject:
    return Subject(get(objective) if isinstance(objective, str) else make(objective), **options)


def _task(instance, data=None, **options):
    return make_task(instance, data or population(instance), Settings(get("reward"), options=Options(ridge=0.0, **options)))


INSTANCE = random_instance(3, vocab=5, contexts=2, gamma=1.4)


def _tilted(beta: float) -> torch.Tensor:
    """π_ref exp(r*/β)/Z in numpy."""
    return torch.from_numpy(log_softmax(np.log(INSTANCE.reference) + INSTANCE.reward() / beta, axis=-1))


# --- Finding a value. ----------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.floats(math.log(0.2), math.log(20)))
def test_the_value_is_found_from_the_policy_alone(log_beta):
    task, beta = _task(INSTANCE), math.exp(log_beta)
    for name, value in {"dpo": beta, "rlhf": beta, "d-dpo": beta, "rebel": 1 / beta}.items():
        objective = get(name)
        found = locate(task, objective, objective.resolve({}), _tilted(beta))
        assert found is not None
        assert found[objective.tuned.name] == pytest.approx(value, rel=1e-6)


def test_a_policy_that_no_value_gives_is_told():
    assert locate(_task(INSTANCE), get("rlhf"), {"beta": 1.0}, torch.from_numpy(np.log(INSTANCE.target))) is None
    assert locate(_task(INSTANCE), get("sft"), {}, torch.from_numpy(np.log(INSTANCE.target))) is None


def test_zero_is_among_the_values():
    assert locate(_task(INSTANCE), get("pmle"), {"beta": 1.0}, torch.from_numpy(np.log(INSTANCE.target))) == {"beta": 0.0}


@pytest.mark.parametrize("name", ["dpo", "rlhf"])
def test_the_newton_distance_is_the_divergence_to_the_minimiser_nearby(name):
    task = _task(INSTANCE)
    near = newton_distance(task, get(name), {"beta": 1.0}, _tilted(1.002))
    assert near == pytest.approx(divergence(task, _tilted(1.002), _tilted(1.0)), rel=0.05)
    assert newton_distance(task, get(name), {"beta": 1.0}, _tilted(1.0)) < 1e-16


@given(arrays(np.float64, (2, 2, 4), elements=st.floats(-4, 4)))
def test_the_divergence_is_the_kl(logits):
    instance = random_instance(0, vocab=4, contexts=2)
    first, second = log_softmax(logits, axis=-1)
    expected = (np.exp(first) * (first - second)).sum(-1).mean()
    found = divergence(_task(instance), torch.from_numpy(first), torch.from_numpy(second))
    assert found == pytest.approx(expected, abs=1e-12)


@given(st.floats(0.01, 100), arrays(np.float64, 6, elements=st.floats(-1, 1)))
def test_scales(k, values):
    second = torch.from_numpy(values) + torch.arange(1.0, 7)
    assert scale_between(k * second, second) == pytest.approx(k)
    assert scale_between(-k * second, second) is None
    assert scale_between(k * second + torch.tensor([1.0, 0, 0, 0, 0, 0]), second) is None
    assert scale_between(second, 0 * second) is None


def test_expressions_are_worth_what_they_say():
    values = {"alpha": 0.9, "lambda_": 0.03}
    found = expressions(values, 0.7)
    assert {"alpha", "γ", "1/(γ·(alpha + lambda))", "4·alpha²", "1/2", "alpha/(4·γ)"} <= set(found)
    for name, value in found.items():
        written = name.replace("·", "*").replace("²", "**2").replace("lambda", "lambda_")
        assert eval(written, {"γ": 0.7, **values}) == pytest.approx(value), name


def test_corners_are_lowest_values_one_at_a_time():
    assert corners(get("hypo"), {"beta": 0.05, "kl": 0.01}) == [{"beta": 0.05, "kl": 0.01}, {"beta": 0.05, "kl": 0.0}]
    assert corners(get("dpo"), {"beta": 0.05}) == [{"beta": 0.05}]
    assert corners(make(cautious), {"beta": 0.1}) == [{"beta": 0.1}]


# --- What is found. ------------------------------------------------------------------------------------


def _found(objective, **options) -> dict[tuple, Match]:
    matches = equivalences(_subject(objective, **options))
    return {(m.method, m.world, tuple(m.at.values()), m.label): m for m in matches}


def test_rkl_is_rlhf_with_another_reward():
    """β' = α + β with r̂/γ − α log π_ref, the same objective on any data; β' = γ(α + β) where π_ref is uniform."""
    found = _found("rkl")
    match = found["rlhf", TRANSFORMED, (1.0, 0.05), "rlhf"]
    assert match.kind == OBJECTIVE
    assert match.scale == pytest.approx(1.0)
    assert match.relation == {"beta": "alpha + beta"}
    match = found["rlhf", UNIFORM, (1.0, 0.05), "rlhf"]
    assert match.relation == {"beta": "γ·(alpha + beta)"}
    assert match.scale == pytest.approx(1 / 0.7)
    assert ("rlhf", AS_IT_IS, (1.0, 0.05), "rlhf") not in found
    match = found["pmle", AS_IT_IS, (1.0, 0.0), "pmle (beta = 0)"]
    assert match.kind == MINIMISER


def test_pmle_is_its_distillation_and_dpo_at_gamma_with_a_uniform_reference():
    found = _found("pmle")
    assert found["dpo", UNIFORM, (0.0,), "dpo"].relation == {"beta": "γ"}
    assert found["dpo", UNIFORM, (0.0,), "dpo"].kind == OBJECTIVE
    assert found["reward", AS_IT_IS, (0.0,), "reward"].kind == OBJECTIVE
    assert found["rkl", AS_IT_IS, (0.0,), "rkl (beta = 0)"].kind == MINIMISER
    assert found["pref-distill", AS_IT_IS, (0.01,), "pref-distill"].kind == OBJECTIVE
    assert found["hypo", UNIFORM, (0.01,), "hypo"].relation == {"beta": "γ", "kl": "beta"}


def test_pmle_and_its_distillation_have_one_gradient_on_any_data():
    """The Bradley–Terry fit has the data's scores, Σ_j n_ij σ(Δr̂_ij) = wins of i, and they are all that the gradient reads."""
    instance = random_instance(1, vocab=4, contexts=1, gamma=1.3)
    data = draw(instance, 500, 3)
    logits = np.random.default_rng(0).standard_normal(4)
    wins = data.wins[0, 0]
    margins = 1.3 * (logits[:, None] - logits[None, :])
    by_hand = 1.3 * ((wins + wins.T) * expit(margins) - wins).sum(1) / data.n
    policy = torch.log_softmax(torch.from_numpy(logits), -1)[None, None]
    for name in ("pmle", "pref-distill"):
        found = policy_gradient(_task(instance, data), get(name), {"beta": 0.0}, policy)
        np.testing.assert_allclose(found[0, 0].numpy(), by_hand, atol=1e-9, err_msg=name)


def test_a_known_reward_parts_them():
    match = _found("pref-distill", options=Options(oracle="true"))["pmle", AS_IT_IS, (0.05,), "pmle"]
    assert match.kind == IN_POPULATION
    assert match.scale_on_data is None


def test_the_family_of_dpo():
    found = _found("dpo")
    at = (0.05,)
    for name, kind in {"rlhf": MINIMISER, "d-dpo": MINIMISER, "rebel": MINIMISER}.items():
        assert found[name, AS_IT_IS, at, name].kind == kind
    assert found["rebel", AS_IT_IS, at, "rebel"].relation == {"eta": "1/beta"}
    assert found["hypo", AS_IT_IS, at, "hypo (kl = 0)"].kind == OBJECTIVE
    assert found["e-dpo", AS_IT_IS, at, "e-dpo (lambda = 0)"].kind == LIMIT  # its bootstraps differ on data
    assert ("hypo", AS_IT_IS, at, "hypo") not in found


def test_pessimistic_distillation_is_chipo():
    """Where μ = π_ref both solve β log z + (λ/4β) z = r + const, z = π/π_ref, so that λ = 4β²."""
    match = _found("chipo")["dp-dpo", AS_IT_IS, (0.05, 50.0), "dp-dpo"]
    assert match.relation == {"beta": "beta", "lambda_": "4·beta²"}
    assert match.kind == LIMIT
    found = [
        solve(INSTANCE, _task(INSTANCE), Settings(get(name), values, "fixed", Options(ridge=0.0))).logp[0]
        for name, values in {"chipo": {"beta": 0.3}, "dp-dpo": {"beta": 0.3, "lambda_": 0.36}}.items()
    ]
    np.testing.assert_allclose(*found, atol=1e-8)
    ratio = np.exp(found[0]) / INSTANCE.reference
    rest = 0.3 * (np.log(ratio) + ratio) - INSTANCE.reward()
    np.testing.assert_allclose(rest - rest[:, :1], 0, atol=1e-7)


def test_user_functions():
    match = _found(biased)["ipo", UNIFORM, (), "ipo"]
    assert match.values == {"tau": pytest.approx(0.5)}
    assert match.kind == OBJECTIVE
    match = _found(doubled)["sft", AS_IT_IS, (), "sft"]
    assert match.scale == pytest.approx(2.0)
    assert _found(cautious) == {}


# --- What is said. --------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["sft", "e-dpo", "drdo", falling], ids=lambda case: getattr(case, "__name__", str(case)))
def test_findings(objective):
    found = section(_subject(objective))
    assert [f.id for f in found.findings] == ["equivalence.minimiser", "equivalence.gradient"]
    verdicts = {"sft": ["found"] * 2, "e-dpo": ["found"] * 2, "drdo": ["none found"] * 2}
    assert [f.verdict for f in found.findings] == verdicts.get(objective, ["no minimiser"] * 2)
    for finding in found.findings:
        assert finding.answer
        json.dumps(finding.numbers)
    for table in found.tables:
        assert all(len(row) == len(table.columns) for row in table.rows)


def _match(method: str, world: str = AS_IT_IS, general: bool = True, **values: float) -> Match:
    at = {"beta": 0.05}
    return Match(method, get(method).resolve(values), at, world, 0.0, 0.0, None, None, {}, general)


def test_groups_join_what_shares_a_member():
    found = {
        "dpo": [_match("rlhf", beta=0.2), _match("simpo", UNIFORM), _match("ipo", general=False)],
        "rlhf": [_match("hypo", kl=0.0)],
        "pmle": [_match("pref-distill")],
    }
    assert groups(found) == [["dpo", "hypo (kl = 0)", "rlhf"], ["pmle", "pref-distill"]]
    assert groups(found, UNIFORM)[0] == ["dpo", "hypo (kl = 0)", "rlhf", "simpo"]


def test_labels():
    assert label(get("pmle"), {"beta": 0.0}) == "pmle (beta = 0)"
    assert label(get("pmle"), {"beta": 0.3}) == "pmle"
    assert label(get("hypo"), {"beta": 0.3, "kl": 0.0}) == "hypo (kl = 0)"
