"""Weights of pairs against closed forms, displacement against numpy and hand-made losses, and a wrong derivative caught."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit, log_softmax, softmax
from torch.nn.functional import logsigmoid

from theory.audit.differences import agreement
from theory.audit.displacement import crowding_example, excess, search_table, shared_example, table_kernel
from theory.audit.gradient import asked_margin, displacement, fading, section
from theory.audit.subject import Subject
from theory.audit.weights import VANISHED, Weights, placed, typical_reward_margin, weights_at
from theory.objectives import get, make, names
from theory.solvers.options import Options


def one(pair, *, gamma):
    return -logsigmoid(gamma * pair.logp_margin)


def biased(pair):
    return (pair.logp_margin - 1.0) ** 2


def falling(pair):
    return -pair.logp_margin


def bounded(pair):
    return -torch.sigmoid(pair.logp_margin)


def hinge(pair):
    return torch.relu(1 - pair.logp_margin)


def exponential(pair):
    return torch.exp(-pair.logp_margin)


def unlikely(pair):
    """Three times as much pull on the loser as on the winner."""
    return -pair.logp_chosen + 3 * pair.logp_rejected


def likely(pair):
    """Half as much."""
    return -pair.logp_chosen + 0.5 * pair.logp_rejected


def detached(pair):
    """Its gradient leaves out the weight's own."""
    return -torch.sigmoid(-pair.logp_margin).detach() * pair.logp_chosen


def perverse(pair):
    """It asks the winner to fall."""
    return pair.logp_chosen


MINE = (one, perverse, biased, falling, bounded, hinge, exponential, unlikely, likely, detached)


def _subject(objective, **options) -> Subject:
    return Subject(get(objective) if isinstance(objective, str) else make(objective), **options)


# --- Weights. ----------------------------------------------------------------------------------------

MARGINS = np.array([-20.0, -3.0, -0.5, 0.0, 2.0, 20.0])


def _weights(subject, margin=MARGINS, level=5.0) -> tuple[np.ndarray, np.ndarray]:
    found = weights_at(subject, torch.from_numpy(margin), torch.full((len(margin),), level, dtype=torch.float64))
    return found.winner.numpy(), found.loser.numpy()


def test_weights_of_margin_losses_are_their_derivatives():
    reward = typical_reward_margin(_subject("dpo").instance)
    for name, slope in {
        "dpo": -0.05 * expit(-0.05 * MARGINS),
        "ipo": 2 * (MARGINS - 5),
        "d-dpo": 2 * 0.1 * (0.1 * MARGINS - reward),
        "pref-distill": expit(MARGINS) - expit(reward),
        "simpo": -2 * expit(1 - 2 * MARGINS),
    }.items():
        winner, loser = _weights(_subject(name))
        np.testing.assert_allclose(winner, slope, atol=1e-15, err_msg=name)
        np.testing.assert_allclose(loser, -slope, atol=1e-15, err_msg=name)


def test_weights_of_drdo_are_those_of_its_appendix():
    """α times drdo A.5's gradient of the focal term, the term included that its eq. 34 drops."""
    subject = _subject("drdo")
    log_w, log_l = (t.numpy() for t in placed(torch.from_numpy(MARGINS), torch.tensor(5.0, dtype=torch.float64)))
    focus, p = expit(-MARGINS) ** 2, expit(MARGINS)
    odds = log_w - np.log1p(-np.exp(log_l))
    winner, loser = _weights(subject)
    np.testing.assert_allclose(winner, 0.1 * focus * (-1 + 2 * p * odds), rtol=1e-12)
    np.testing.assert_allclose(loser, 0.1 * focus * (-np.exp(log_l) / -np.expm1(log_l) - 2 * p * odds), rtol=1e-12)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4))
def test_placed_pairs_are_possible(margin, level):
    log_w, log_l = (float(t) for t in placed(torch.tensor(margin), torch.tensor(level)))
    assert max(log_w, log_l) == pytest.approx(-level)
    assert log_w - log_l == pytest.approx(margin, rel=1e-5, abs=1e-2)


def test_typical_reward_margin_is_an_average_over_labelled_pairs():
    instance = _subject("dpo").instance
    reward, total, weight = instance.reward(), 0.0, 0.0
    for x in range(instance.contexts):
        for i in range(instance.vocab):
            for j in range(instance.vocab):
                if i != j:
                    share = instance.data_policy[x, i] * instance.data_policy[x, j] * expit(reward[x, i] - reward[x, j])
                    total, weight = total + share * (reward[x, i] - reward[x, j]), weight + share
    assert typical_reward_margin(instance) == pytest.approx(total / weight)


# --- Where they vanish. -------------------------------------------------------------------------------


def test_logistic_losses_vanish_on_the_right_side_only():
    """β·σ(−βm) falls below 1e-8 of β/2 at m = log(2e8 − 1)/β."""
    for name, beta in {"dpo": 0.05, "p-dpo": 0.1, "pmle": 1.0}.items():
        found = fading(_subject(name))
        assert found.ordered == pytest.approx(math.log(2 / VANISHED - 1) / beta, rel=1e-5)
        assert found.inverted is None
        assert not found.pathological


def test_a_bounded_loss_forgets_pairs_in_the_wrong_order():
    """σ(m)σ(−m) falls below 1e-8 of ¼."""
    found = fading(_subject(bounded))
    expected = math.acosh(math.sqrt(1 / VANISHED)) * 2
    assert (found.ordered, found.inverted) == (pytest.approx(expected, rel=1e-5), pytest.approx(expected, rel=1e-5))
    assert found.pathological
    assert section(_subject(bounded)).finding("gradient.vanishes").verdict == "both sides"


def test_kinks_squares_and_exponentials():
    assert fading(_subject(hinge)).ordered == pytest.approx(1.0, rel=1e-5)
    assert fading(_subject(hinge)).inverted is None
    assert fading(_subject(biased)).ordered is None
    assert fading(_subject(exponential)).ordered == pytest.approx(-math.log(VANISHED), rel=1e-5)
    assert fading(_subject(exponential)).inverted is None


def test_levels():
    assert fading(_subject("sft")).loser_level == -math.inf
    assert fading(_subject("sft")).winner_level is None
    assert fading(_subject("drdo")).loser_level is None  # the focal weight's own derivative grows with the level


def test_the_asked_margin_is_where_the_slope_changes_sign():
    reward = typical_reward_margin(_subject("dpo").instance)
    expected = {
        "ipo": 5.0,
        "d-dpo": reward / 0.1,
        "pref-distill": reward,
        "rebel": reward,
        "dpo": None,
        "sft": None,
        "drdo": None,
    }
    for name, margin in expected.items():
        assert asked_margin(_subject(name)) == (None if margin is None else pytest.approx(margin, rel=1e-6)), name
    assert asked_margin(_subject(biased)) == pytest.approx(1.0, rel=1e-6)
    assert asked_margin(_subject(perverse)) == -math.inf


# --- Displacement. ------------------------------------------------------------------------------------


def _jacobian(p: np.ndarray) -> np.ndarray:
    """∂ log π_i/∂θ_k of a softmax table."""
    return np.eye(len(p)) - p


@given(arrays(np.float64, 5, elements=st.floats(-8, 8)))
def test_the_kernel_of_a_table_is_that_of_its_jacobian(logits):
    p = softmax(logits)
    j = _jacobian(p)
    one_, two, rest = torch.tensor(p[0]), torch.tensor(p[1]), torch.tensor(p[2:])
    found = table_kernel(one_, two, rest.sum(), rest.square().sum())
    np.testing.assert_allclose([float(k) for k in found], [j[0] @ j[0], j[0] @ j[1]], atol=1e-14)


@given(arrays(np.float64, 5, elements=st.floats(-8, 8)))
def test_a_margin_loss_never_lowers_its_winner_on_a_table(logits):
    """The factor is 1 − π_w + π_l > 0."""
    p = softmax(logits)
    j = _jacobian(p)
    assert j[0] @ j[0] - j[0] @ j[1] == pytest.approx(1 - p[0] + p[1], abs=1e-12)


def test_the_excess_is_minus_the_rate_over_its_parts():
    pull = Weights(*(torch.tensor([v]) for v in (0.0, -1.0, 3.0)))
    assert float(excess(pull, (torch.tensor([2.0]), torch.tensor([1.0])))) == pytest.approx(1 / 5)


@given(arrays(np.float64, 4, elements=st.floats(-10, 10)))
def test_drdo_never_lowers_its_winner_on_a_table(logits):
    """(1 − π_w)(1 − π_w − π_l) + Σ_rest π² ≥ 0 is what the case ∂_l < 0 comes down to; the rate, by the appendix's gradient."""
    p = softmax(logits)
    focus, chosen, odds = expit(np.log(p[1] / p[0])) ** 2, expit(np.log(p[0] / p[1])), np.log(p[0] / (1 - p[1]))
    g_w, g_l = focus * (-1 + 2 * chosen * odds), focus * (-p[1] / (1 - p[1]) - 2 * chosen * odds)
    j = _jacobian(p)
    parts = g_w * (j[0] @ j[0]), g_l * (j[0] @ j[1])
    assert sum(parts) <= 1e-9 * sum(map(abs, parts))


def test_table_searches():
    assert search_table(_subject(one)).example is None
    assert search_table(_subject(one)).signed
    assert search_table(_subject("drdo")).example is None
    assert not search_table(_subject("drdo")).signed
    assert search_table(_subject(likely)).signed
    assert search_table(_subject(biased)).example is None  # where it asks the winner to rise


def _check(example, loss) -> None:
    """Take the step in numpy: a gradient by central differences, the loss and log π_w before and after."""
    phi, w = np.array(example.features), np.array(example.parameters)

    def state(at):
        logp = log_softmax(phi @ at)
        return loss(logp[0], logp[1]), logp[0], logp[1]

    h = 1e-6
    gradient = np.array([(state(w + h * e)[0] - state(w - h * e)[0]) / (2 * h) for e in np.eye(len(w))])
    before, after = state(w), state(w - example.step.size * gradient)
    np.testing.assert_allclose([example.step.loss[0], example.step.winner[0], example.step.loser[0]], before, atol=1e-9)
    np.testing.assert_allclose([example.step.loss[1], example.step.winner[1], example.step.loser[1]], after, atol=1e-6)
    assert after[0] < before[0]
    assert after[1] < before[1]
    u = phi - softmax(phi @ w) @ phi
    np.testing.assert_allclose(example.kernel, [u[0] @ u[0], u[0] @ u[1]], rtol=1e-9)
    assert example.weights[0] * example.kernel[0] + example.weights[1] * example.kernel[1] > 0


def test_a_loss_that_pulls_harder_on_the_loser_lowers_its_winner_on_a_table():
    found = search_table(_subject(unlikely))
    assert found.example is not None
    assert found.example.weights == (-1.0, 3.0)
    _check(found.example, lambda won, lost: -won + 3 * lost)


def test_shared_parameters_lower_the_winner():
    _check(shared_example(_subject(one)), lambda won, lost: np.log1p(np.exp(lost - won)))
    _check(shared_example(_subject(biased)), lambda won, lost: (won - lost - 1) ** 2)
    _check(shared_example(_subject(falling)), lambda won, lost: lost - won)

    def drdo(won, lost):
        reward = typical_reward_margin(_subject("drdo").instance)
        return reward**2 - 0.1 * expit(lost - won) ** 2 * (won - np.log1p(-np.exp(lost)))

    _check(shared_example(_subject("drdo")), drdo)
    assert shared_example(_subject("sft")) is None


@settings(max_examples=30)
@given(arrays(np.float64, (4, 2), elements=st.floats(-2, 2)), arrays(np.float64, 2, elements=st.floats(-1, 1)))
def test_margin_losses_displace_exactly_when_the_kernel_says_so(features, w):
    """A tiny step on −log σ(Δ) in numpy."""
    p = softmax(features @ w)
    u = features - p @ features
    rise = u[0] @ u[0] - u[0] @ u[1]
    if abs(rise) < 1e-2:
        return
    slope = -expit(-(np.log(p[0]) - np.log(p[1])))
    moved = log_softmax(features @ (w - 1e-6 * slope * (features[0] - features[1])))
    assert (moved[0] > np.log(p[0])) == (rise > 0)


def test_a_response_that_never_lost_is_crowded_out():
    """dθ = σ(−Δ)(e_w − e_l) over the labels: y1 gains 1 and y3 gains `times`, which costs y1 more than it gains."""
    found = crowding_example(_subject(one))
    p = np.array(found.start)
    pulls = np.zeros(4)
    for won, lost, times in ((0, 1, 1), (2, 3, found.times)):
        weight = times * expit(np.log(p[lost]) - np.log(p[won])) / (1 + found.times)
        pulls[won], pulls[lost] = weight, -weight
    moved = log_softmax(np.log(p) + found.step.size * pulls)
    assert moved[0] < np.log(p[0])
    assert found.step.winner == (pytest.approx(np.log(p[0])), pytest.approx(moved[0]))
    assert found.step.displaces


def test_verdicts():
    assert displacement(_subject("sft")).verdict == "no"
    assert displacement(_subject("sft")).direction is None
    assert displacement(_subject("dpo")).verdict == "shared only"
    assert displacement(_subject("dpo")).direction is not None
    assert displacement(_subject("chipo")).verdict == "on a table too"


def test_chipo_lowers_its_winner_where_the_ratio_of_the_loser_is_large():
    """The link's slope 1 + π/π_ref weighs the two responses unequally."""
    example = search_table(_subject("chipo")).example
    ratio = np.array(example.probabilities[:2]) / np.exp(example.reference)
    assert example.weights[1] / -example.weights[0] == pytest.approx((1 + ratio[1]) / (1 + ratio[0]), rel=1e-9)

    def chipo(won, lost):
        won, lost = won - example.reference[0], lost - example.reference[1]
        return np.log1p(np.exp(0.05 * (np.exp(lost) + lost - np.exp(won) - won)))

    _check(example, chipo)


# --- Derivatives. --------------------------------------------------------------------------------------


def test_derivatives_agree_with_differences():
    for objective in (*names(), one, hinge, exponential):
        assert agreement(_subject(objective)).largest < 1e-8, objective


def test_a_wrong_derivative_is_caught():
    assert agreement(_subject(detached)).largest > 1e-2
    assert section(_subject(detached)).finding("gradient.checks").verdict == "no"


# --- The section. --------------------------------------------------------------------------------------

IDS = ["gradient.vanishes", "gradient.displacement", "gradient.checks"]


@pytest.mark.parametrize("objective", [*names(), *MINE], ids=lambda case: getattr(case, "__name__", str(case)))
def test_every_objective_has_every_finding(objective):
    found = section(_subject(objective))
    assert [f.id for f in found.findings] == IDS
    for finding in found.findings:
        assert finding.answer
        assert finding.family
        json.dumps(finding.numbers)


def test_what_does_not_apply_says_why():
    for name, why in {"rkl": "no pair loss", "reward": "reward head alone"}.items():
        found = section(_subject(name))
        assert [f.verdict for f in found.findings] == ["does not apply", "does not apply", "yes"]
        assert why in found.findings[0].answer


def test_a_tied_head_is_part_of_the_weights():
    """With r̂_θ = γ log π the regression pulls on the policy too: 2γ(γΔ − Δr̂) on the winner."""
    separate, tied = (_weights(_subject("drdo", options=Options(reward_head=head)))[0] for head in ("separate", "tied"))
    reward = typical_reward_margin(_subject("drdo").instance)
    np.testing.assert_allclose(tied - separate, 2 * (MARGINS - reward), rtol=1e-9)
    assert section(_subject("drdo", options=Options(reward_head="tied"))).finding("gradient.checks").verdict == "yes"
