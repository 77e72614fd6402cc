"""Population minimisers that are known by hand: the target, a least-squares fit, a mixture, none."""

from dataclasses import replace
from typing import Annotated

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax
from torch.nn.functional import logsigmoid

from theory.audit import consistency, subject
from theory.audit.consistency import Law, basins, gradient_at_target, law, path, scan
from theory.audit.report import EXACT
from theory.audit.subject import Subject, population_limit
from theory.instances import Instance, random_instance
from theory.objectives import Hyper, Terms, get, make


def right(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def square(pair):
    return (pair.logp_margin - 1) ** 2


def falling(pair):
    return -pair.logp_margin


def levelling(pair):
    return -torch.sigmoid(pair.logp_margin)


def scaled(pair, *, gamma, scale=1.0, offset=0.0):
    return -logsigmoid(scale * gamma * pair.logp_margin) + offset


SMALL = random_instance(7, vocab=4, contexts=3, gamma=1.5)


@pytest.fixture(autouse=True)
def _small_companions(monkeypatch):
    """The same questions on companions that take no time."""
    monkeypatch.setattr(subject, "COMPANIONS", ({"vocab": 3, "contexts": 2, "gamma": 0.5}, {"vocab": 2, "contexts": 1}))


def of(objective, instance=SMALL, scans=None, **values) -> Subject:
    made = get(objective) if isinstance(objective, str) else make(objective)
    return Subject(made, values, instance=instance, scans=scans or {})


def verdicts(subject: Subject) -> dict[str, str]:
    return {f.id.removeprefix("consistency."): f.verdict for f in consistency.section(subject).findings}


def frequencies(instance: Instance) -> np.ndarray:
    """How often i beats j among all comparisons of a context: 2 μ_i μ_j σ(γ(log π*_i − log π*_j))."""
    reward = instance.gamma * np.log(instance.target)
    mu = instance.data_policy
    table = 2 * mu[:, :, None] * mu[:, None, :] * expit(reward[:, :, None] - reward[:, None, :])
    table[:, range(instance.vocab), range(instance.vocab)] = 0
    return table


def forward_kl(instance: Instance, log_policy: np.ndarray) -> float:
    per_context = (instance.target * (np.log(instance.target) - log_policy)).sum(1)
    return float(instance.context_weights @ per_context)


def least_squares(instance: Instance, margin: float = 1.0) -> np.ndarray:
    """log of the policy with the least Σ f_ij (log π_i − log π_j − margin)², context by context."""
    rows = []
    for table in frequencies(instance):
        i, j = np.nonzero(table)
        weight = np.sqrt(table[i, j])
        design = np.zeros((len(i), len(table)))
        design[range(len(i)), i], design[range(len(i)), j] = weight, -weight
        rows.append(log_softmax(np.linalg.lstsq(design, margin * weight, rcond=None)[0]))
    return np.array(rows)


# --- A consistent, a biased and two degenerate losses. ---------------------------------------------------


def test_the_likelihood_of_the_preference_model_is_consistent():
    audited = of(right)
    assert audited.limit.forward_kl <= 1e-15
    assert audited.limit.finite is True
    np.testing.assert_allclose(audited.limit.logp, np.log(SMALL.target), atol=1e-7)
    assert gradient_at_target(audited.limit) <= 1e-12
    found = law(audited.limit)
    assert (found.target, found.reference, found.explained) == pytest.approx((1, 0, 1), abs=1e-7)
    assert verdicts(audited) == {"target": "yes", "stationary": "yes", "minimum": "yes", "limit": "π*"}


def test_a_squared_margin_is_biased_by_what_least_squares_says():
    audited = of(square)
    expected = least_squares(SMALL)
    np.testing.assert_allclose(audited.limit.logp, expected, atol=1e-8)
    assert audited.limit.forward_kl == pytest.approx(forward_kl(SMALL, expected), rel=1e-8)
    assert audited.limit.forward_kl > 0.01
    section = consistency.section(audited)
    target = section.finding("consistency.target")
    assert (target.verdict, target.basis) == ("no", EXACT)
    floors = [forward_kl(world, least_squares(world)) for world in audited.family]
    assert target.numbers["floors"] == pytest.approx(floors, rel=1e-7)
    assert section.finding("consistency.minimum").verdict == "yes"
    assert section.finding("consistency.limit").verdict == "biased"


def test_the_gradient_at_the_target_by_hand():
    """∂/∂l_i Σ f_ij (l_i − l_j − 1)² at l = log π*, context by context."""
    log_target = np.log(SMALL.target)
    slope = 2 * frequencies(SMALL) * (log_target[:, :, None] - log_target[:, None, :] - 1)
    expected = np.abs(slope.sum(2) - slope.sum(1)).max()
    assert gradient_at_target(of(square).limit) == pytest.approx(expected, rel=1e-9)
    assert verdicts(of(square))["stationary"] == "no"


def test_the_responses_that_the_limit_misplaces_most():
    tables = {table.title: table for table in consistency.section(of(square)).tables}
    rows = tables["Most under- and over-weighted responses"].rows
    gap = least_squares(SMALL) - np.log(SMALL.target)
    assert [row[-1] for row in rows] == pytest.approx(sorted(gap.ravel())[:3] + sorted(gap.ravel())[-3:])
    for x, y, target, reference, limit, log_ratio in rows:
        assert target == SMALL.target[x, y]
        assert reference == SMALL.reference[x, y]
        assert log_ratio == pytest.approx(gap[x, y], abs=1e-8)
        assert limit == pytest.approx(target * np.exp(log_ratio))


@pytest.mark.parametrize("loss", [falling, levelling])
def test_degenerate_losses_have_no_floor(loss):
    """−Δ falls without bound, −σ(Δ) tends to its infimum: both send every context to its best response."""
    audited = of(loss)
    assert audited.limit.finite is False
    assert audited.limit.forward_kl == np.inf
    assert not audited.limit.regular
    section = consistency.section(audited)
    assert {f.id.removeprefix("consistency."): f.verdict for f in section.findings} == {
        "target": "no",
        "stationary": "no",
        "minimum": "no minimiser",
        "limit": "no minimiser",
    }
    assert section.finding("consistency.target").numbers["floors"] == [np.inf] * 3
    assert section.panels == []
    assert [table.title for table in section.tables] == ["The floor on four worlds"]


# --- Mixtures of target and reference. -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dpo", "rlhf"])
@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_dpo_and_rlhf_share_their_limit(name, beta):
    """π_ref · π*^{γ/β} / Z."""
    audited = of(name, beta=beta)
    exponent = SMALL.gamma / beta
    expected = log_softmax(np.log(SMALL.reference) + exponent * np.log(SMALL.target), axis=1)
    np.testing.assert_allclose(audited.limit.logp, expected, atol=1e-6)
    assert audited.limit.forward_kl == pytest.approx(forward_kl(SMALL, expected), rel=1e-6)
    found = law(audited.limit)
    assert (found.target, found.reference, found.explained) == pytest.approx((exponent, 1, 1), abs=1e-6)
    assert verdicts(audited)["limit"] == "a mixture"


@pytest.mark.parametrize("name", ["dpo", "rlhf"])
def test_the_best_beta_by_a_scalar_minimiser(name):
    def floor(log_beta: float) -> float:
        mixed = np.log(SMALL.reference) + SMALL.gamma / np.exp(log_beta) * np.log(SMALL.target)
        return forward_kl(SMALL, log_softmax(mixed, axis=1))

    best = minimize_scalar(floor, bounds=(-3, 4), method="bounded", options={"xatol": 1e-10})
    limit = of(name).limit
    assert limit.forward_kl == pytest.approx(best.fun, rel=1e-6)
    assert limit.hyper["beta"] == pytest.approx(np.exp(best.x), rel=1e-3)


def test_rkl_is_consistent_at_alpha_one_alone():
    """π ∝ π*^{1/(α+β)} π_ref^{β/(α+β)}: the target exactly at α = 1 and β = 0."""
    assert verdicts(of("rkl"))["target"] == "yes"
    assert of("rkl").limit.hyper == {"alpha": 1.0, "beta": 0.0}
    for alpha, beta in ((2.0, 0.0), (0.5, 0.0), (1.0, 0.5), (0.5, 0.5)):
        audited = of("rkl", alpha=alpha, beta=beta)
        mixed = (np.log(SMALL.target) + beta * np.log(SMALL.reference)) / (alpha + beta)
        assert audited.limit.forward_kl == pytest.approx(forward_kl(SMALL, log_softmax(mixed, axis=1)), rel=1e-6)
        assert audited.limit.forward_kl > 1e-4
        found = law(audited.limit)
        assert (found.target, found.reference) == pytest.approx((1 / (alpha + beta), beta / (alpha + beta)), abs=1e-6)
        assert verdicts(audited)["target"] == "no"


def test_sft_tends_to_the_distribution_of_winners():
    winners = frequencies(SMALL).sum(2)
    winners /= winners.sum(1, keepdims=True)
    limit = of("sft").limit
    np.testing.assert_allclose(np.exp(limit.logp), winners, atol=1e-9)
    assert limit.forward_kl == pytest.approx(forward_kl(SMALL, np.log(winners)), rel=1e-6)


def test_the_law_of_a_limit_that_is_no_mixture_explains_less():
    found = law(of(square).limit)
    x = np.stack([t - t.mean(1, keepdims=True) for t in (np.log(SMALL.target), np.log(SMALL.reference))], -1).reshape(-1, 2)
    y = least_squares(SMALL)
    y = (y - y.mean(1, keepdims=True)).ravel()
    weights = np.linalg.solve(x.T @ x, x.T @ y)
    assert found == Law(pytest.approx(weights[0], rel=1e-6), pytest.approx(weights[1], abs=1e-6), found.explained)
    assert found.explained == pytest.approx(1 - ((y - x @ weights) ** 2).sum() / (y**2).sum(), abs=1e-8)
    assert found.explained < 0.9999


# --- Limits that are reached beyond the grid. -------------------------------------------------------------


def test_a_hyperparameter_is_followed_to_its_limit():
    """−log σ(γΔ) + β KL(π‖π_ref) with β > 0: no value is consistent, β → 0 is."""

    def fading(pair, *, gamma, beta: Annotated[float, Hyper("weight", low=0, open_low=True)] = 1.0):
        return Terms(-logsigmoid(gamma * pair.logp_margin), kl=beta)

    audited = of(fading)
    assert 0 < audited.limit.hyper["beta"] < 1e-4
    assert audited.limit.forward_kl <= 1e-10
    target = consistency.section(audited).finding("consistency.target")
    assert target.verdict == "yes"
    assert "reached as beta → 0" in target.answer
    # At the value that a user who tunes nothing has, it is not.
    assert audited.untuned.hyper == {"beta": 1.0}
    assert audited.untuned.forward_kl > 1e-4


def test_a_value_inside_the_grid_is_not_followed():
    limit = of("dpo").limit
    assert 1e-3 < limit.hyper["beta"] < 1e2
    assert limit.forward_kl > 1e-4


# --- Several minima. --------------------------------------------------------------------------------------

PAIR = Instance(np.array([[0.7, 0.3]]), np.array([[0.5, 0.5]]))


def wells(pair, *, tilt=0.0):
    return (pair.logp_margin**2 - 1) ** 2 - tilt * pair.logp_margin


def margins_of_wells(tilt: float) -> tuple[float, float, float]:
    """Both minima of (m² − 1)² − t(2P − 1)m and how much the second is above the first, at half weight."""
    pull = tilt * (2 * 0.7 - 1)
    roots = np.sort(np.roots([4, 0, -4, -pull]).real)
    low, high = roots[2], roots[0]

    def value(m: float) -> float:
        return (m**2 - 1) ** 2 - pull * m

    return low, high, 0.5 * (value(high) - value(low))


def test_two_wells_of_equal_depth_are_both_found():
    audited = of(wells, PAIR)
    assert abs(audited.limit.logp[0, 0] - audited.limit.logp[0, 1]) == pytest.approx(1, abs=1e-6)
    found = basins(audited.limit)
    assert len(found.shares) == 2
    assert sum(found.shares) == pytest.approx(1)
    assert found.lower == 0
    assert found.unfinished == 0
    # A start ends in the well of its own sign: 24 fair coins.
    assert 5 / 24 <= found.shares[0] <= 19 / 24
    assert verdicts(audited)["minimum"] == "lowest of several"


def test_the_deeper_of_two_wells_is_reported_and_a_shallow_one_is_found_out():
    audited = of(wells, PAIR, tilt=1.0)
    low, high, gap = margins_of_wells(1.0)
    assert gap > 0.1
    limit = audited.limit
    assert limit.logp[0, 0] - limit.logp[0, 1] == pytest.approx(low, abs=1e-6)
    found = basins(limit)
    assert (len(found.shares), found.lower) == (2, 0)
    # The other well, passed off as the limit.
    other = torch.from_numpy(log_softmax(np.array([[[high, 0.0]]]), axis=-1))
    shallow = replace(limit, chosen=replace(limit.chosen, fits=[replace(limit.fit, logp=other)]))
    worse = basins(shallow)
    assert worse.lower == pytest.approx(gap, abs=1e-6)
    assert worse.shares == pytest.approx(found.shares[::-1])


def test_one_basin_where_the_loss_is_convex():
    found = basins(of(square).limit, starts=6)
    assert found.shares == [1.0]
    assert (found.lower, found.unfinished) == (0.0, 0.0)


def test_contexts_have_basins_of_their_own():
    """Two contexts of two wells: four combinations of wells, but two basins a context."""
    twice = Instance(np.array([[0.7, 0.3], [0.4, 0.6]]), np.full((2, 2), 0.5))
    found = basins(of(wells, twice).limit)
    assert len(found.shares) == 2


# --- Scans along hyperparameters, and along the tuned one. -------------------------------------------------


def test_a_scan_by_closed_form():
    """−log σ(cγΔ) has the limit π*^{1/c}/Z, the target at c = 1."""
    audited = of(scaled, scans={"scale": [0.5, 1.0, 4.0]})
    found = scan(audited, audited.objective.hyperparameters[0])
    expected = [forward_kl(SMALL, log_softmax(np.log(SMALL.target) / c, axis=1)) for c in (0.5, 1.0, 4.0)]
    assert found.values == [0.5, 1.0, 4.0]
    assert found.floors == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert found.best == 1
    assert found.tuned is None
    section = consistency.section(audited)
    finding = section.finding("consistency.scale")
    assert (finding.verdict, finding.numbers["best"]) == ("yes", 1.0)
    assert section.finding("consistency.offset").verdict == "no"
    rows = next(t for t in section.tables if t.title == "The floor along scale").rows
    assert [row[0] for row in rows] == [0.5, 1.0, 4.0]
    assert [row[1] for row in rows] == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_a_scan_tunes_anew_at_every_value():
    """rkl at α: π ∝ (π* π_ref^β)^{1/(α+β)}, with the best β for each α by a scalar minimiser."""
    audited = of("rkl", scans={"alpha": [0.25, 1.0, 2.0]})
    found = scan(audited, next(p for p in audited.objective.hyperparameters if p.name == "alpha"))
    for k, alpha in ((0, 0.25), (2, 2.0)):

        def floor(beta: float, alpha: float = alpha) -> float:
            mixed = (np.log(SMALL.target) + beta * np.log(SMALL.reference)) / (alpha + beta)
            return forward_kl(SMALL, log_softmax(mixed, axis=1))

        best = minimize_scalar(floor, bounds=(0, 30), method="bounded", options={"xatol": 1e-9})
        assert best.x > 0.1
        assert found.floors[k] == pytest.approx(best.fun, rel=1e-5)
        assert found.tuned[k] == pytest.approx(best.x, rel=1e-2)
    assert found.floors[1] <= 1e-10
    assert found.tuned[1] == 0.0


def test_a_scan_says_where_there_is_no_minimiser():
    """A logistic loss whose margin also pays c a nat, without end once c outweighs what is lost."""

    def mixed(pair, *, weight=1.0):
        return -logsigmoid(pair.logp_margin) - weight * pair.logp_margin

    audited = of(mixed, PAIR, scans={"weight": [0.0, 0.25, 2.0]})
    found = scan(audited, audited.objective.hyperparameters[0])
    # Sinking the loser: 0.3(1 + c) − 0.7c < 0 for c > 3/4.
    assert np.isfinite(found.floors).tolist() == [True, True, False]


def test_without_values_a_scan_tries_multiples_of_the_default_within_the_range():
    def ranged(pair, *, weight: Annotated[float, Hyper("weight", low=0, open_low=True, high=0.5)] = 0.2):
        return -logsigmoid(weight * pair.logp_margin)

    audited = of(ranged)
    assert scan(audited, audited.objective.hyperparameters[0]).values == pytest.approx([0.05, 0.1, 0.2, 0.4])


def test_the_path_along_beta_by_closed_form():
    values, floors = path(of("dpo"))
    mixed = np.log(SMALL.reference) + SMALL.gamma / values[:, None, None] * np.log(SMALL.target)
    expected = [forward_kl(SMALL, row) for row in log_softmax(mixed, axis=-1)]
    np.testing.assert_allclose(floors, expected, rtol=1e-4)
    assert (np.diff(values) < 0).all()
    (panel,) = consistency.section(of("dpo")).panels
    assert panel.levels == [("floor", pytest.approx(of("dpo").limit.forward_kl))]


# --- The worlds. --------------------------------------------------------------------------------------------


def test_the_family_is_the_instance_and_its_companions(monkeypatch):
    monkeypatch.undo()
    family = of("dpo").family
    assert family[0] is SMALL
    assert [(w.gamma, w.vocab, w.contexts) for w in family[1:]] == [(0.5, 10, 10), (2.0, 10, 10), (1.0, 4, 4)]
    assert len({w.target.tobytes() for w in family}) == 4
    assert of("dpo").describe(SMALL) == "random (seed 7), V = 4, X = 3, γ = 1.5"


def test_one_inconsistent_companion_is_enough():
    """−log σ(1.5Δ) is the likelihood at γ = 1.5 alone: consistent on the instance, not on its companions."""

    def fixed(pair):
        return -logsigmoid(1.5 * pair.logp_margin)

    audited = of(fixed)
    assert audited.limit.forward_kl <= 1e-15
    target = consistency.section(audited).finding("consistency.target")
    assert target.verdict == "no"
    assert target.numbers["floors"][0] <= 1e-15
    assert min(target.numbers["floors"][1:]) > 1e-4


def test_the_settings_of_a_limit_are_those_asked_for():
    limit = population_limit(SMALL, of("drdo", gamma_f=1.0).settings)
    assert limit.hyper == {"alpha": 0.1, "gamma_f": 1.0}
