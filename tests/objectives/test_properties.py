"""Symmetries that the mathematics has, shapes that must not matter, and the limits that are claimed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from theory.objectives import Pair, get, names

from . import twins

WITH_LOSS = [name for name in names() if name not in twins.LOSSLESS]
LABEL_FREE = ["pref-distill", "rebel", "d-dpo", "e-dpo", "dp-dpo"]
# ℓ depends on Δlogπ alone.
MARGIN = ["d-dpo", "dp-dpo", "dpo", "e-dpo", "hypo", "ipo", "p-dpo", "pmle", "pref-distill", "rebel"]

SIZE = 4
NUMBERS = {"logp": st.floats(-20, -0.01), "reward": st.floats(-5, 5), "length": st.integers(1, 40).map(float)}


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    inputs = {}
    for name in twins.FIELDS:
        numbers = NUMBERS[next(kind for kind in ("logp", "reward", "length") if kind in name)]
        inputs[name] = torch.tensor(draw(st.lists(numbers, min_size=SIZE, max_size=SIZE), label=name), dtype=torch.float64)
    return Pair(**inputs)


def loss(name: str, pair: Pair) -> torch.Tensor:
    return get(name).terms(pair, gamma=twins.GAMMA, **twins.HYPER[name]).loss


def shifted(pair: Pair, quantity: str, by: torch.Tensor | float) -> Pair:
    sides = (f"{quantity}_chosen", f"{quantity}_rejected")
    return pair.replace(**{side: getattr(pair, side) + by for side in sides})


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


class TestSymmetries:
    @pytest.mark.parametrize(
        ("name", "quantity"),
        [
            *((name, "reward") for name in [*LABEL_FREE, "drdo"]),
            *((name, "student_reward") for name in ["reward", "oracle", "drdo"]),
        ],
    )
    @given(pair=pairs(), by=st.lists(st.floats(-50, 50), min_size=SIZE, max_size=SIZE))
    def test_rewards_are_defined_up_to_a_constant_a_pair(self, name: str, quantity: str, pair: Pair, by: list[float]) -> None:
        constant = torch.tensor(by, dtype=torch.float64)
        close(loss(name, shifted(pair, quantity, constant)), loss(name, pair))

    @pytest.mark.parametrize("name", LABEL_FREE)
    @given(pair=pairs())
    def test_label_free_losses_ignore_the_label(self, name: str, pair: Pair) -> None:
        close(loss(name, pair.swapped()), loss(name, pair))

    @pytest.mark.parametrize("name", [n for n in WITH_LOSS if n not in LABEL_FREE])
    def test_the_others_do_not(self, name: str) -> None:
        pair = Pair(**twins.draw(seed=2, size=20, scale=2.0))
        change = loss(name, pair.swapped()) - loss(name, pair)
        assert (change.abs() > 1e-3).all()

    @pytest.mark.parametrize("name", MARGIN)
    @given(pair=pairs(), by=st.floats(-20, 20))
    def test_margin_losses_ignore_a_shift_of_both_log_probabilities(self, name: str, pair: Pair, by: float) -> None:
        close(loss(name, shifted(pair, "logp", by)), loss(name, pair))

    @pytest.mark.parametrize("name", ["chipo", "drdo", "oracle", "sft", "simpo"])
    def test_the_others_feel_it(self, name: str) -> None:
        # SimPO divides by unequal lengths here; at equal lengths it is a margin loss (next test).
        pair = Pair(**{**twins.draw(seed=2, size=20, scale=2.0), "length_chosen": torch.full((20,), 3.0).double()})
        pair = pair.replace(length_rejected=torch.full((20,), 8.0).double())
        change = loss(name, shifted(pair, "logp", -0.5)) - loss(name, pair)
        assert (change.abs() > 1e-5).all()

    @given(pair=pairs(), by=st.floats(-20, 20))
    def test_simpo_is_a_margin_loss_at_equal_lengths(self, pair: Pair, by: float) -> None:
        pair = pair.replace(length_rejected=pair.length_chosen)
        close(loss("simpo", shifted(pair, "logp", by)), loss("simpo", pair))

    # log σ(−x) − log σ(x) = −x: turning the label round costs the margin of the implicit reward.
    @pytest.mark.parametrize("name", ["dpo", "p-dpo", "hypo"])
    @given(pair=pairs())
    def test_dpo_is_antisymmetric_up_to_the_margin(self, name: str, pair: Pair) -> None:
        beta = twins.HYPER[name]["beta"]
        margin = pair.logp_chosen - pair.logp_rejected - pair.ref_logp_chosen + pair.ref_logp_rejected
        close(loss(name, pair) - loss(name, pair.swapped()), -beta * margin)

    @given(pair=pairs())
    def test_likelihoods_are_antisymmetric_up_to_the_margin(self, pair: Pair) -> None:
        policy = pair.logp_chosen - pair.logp_rejected
        reward = pair.student_reward_chosen - pair.student_reward_rejected
        close(loss("pmle", pair) - loss("pmle", pair.swapped()), -twins.GAMMA * policy)
        close(loss("reward", pair) - loss("reward", pair.swapped()), -reward)
        language = twins.HYPER["oracle"]["alpha_lm"] * policy
        close(loss("oracle", pair) - loss("oracle", pair.swapped()), -reward - language)

    @given(pair=pairs())
    def test_ipo_differs_by_its_target(self, pair: Pair) -> None:
        # (m − t)² − (−m − t)² = −4mt, t = 1/(2τ).
        margin = pair.logp_chosen - pair.logp_rejected - pair.ref_logp_chosen + pair.ref_logp_rejected
        close(loss("ipo", pair) - loss("ipo", pair.swapped()), -2 * margin / twins.HYPER["ipo"]["tau"])

    @given(pair=pairs())
    def test_chipo_halves_sum_to_one(self, pair: Pair) -> None:
        close((-loss("chipo", pair)).exp() + (-loss("chipo", pair.swapped())).exp(), torch.ones(SIZE, dtype=torch.float64))

    @given(pair=pairs())
    def test_label_free_twins(self, pair: Pair) -> None:
        # REBEL is d-DPO with β = 1/η; the pessimistic forms have the same ℓ.
        d_dpo = get("d-dpo").terms(pair, beta=0.4).loss
        close(get("rebel").terms(pair, eta=2.5).loss, d_dpo)
        close(get("dp-dpo").terms(pair, beta=0.4).loss, d_dpo)
        close(get("e-dpo").terms(pair, beta=0.4).loss, d_dpo)

    @pytest.mark.parametrize("name", WITH_LOSS)
    @given(pair=pairs(), order=st.permutations(range(SIZE)))
    def test_pairs_do_not_touch_each_other(self, name: str, pair: Pair, order: list[int]) -> None:
        together = loss(name, pair)
        assert torch.equal(loss(name, pair.map(lambda t: t[order])), together[order])
        close(loss(name, pair.map(lambda t: t[:1])), together[:1])


class TestShapes:
    """A batch (B,) and a table (S, X, V, V) are the same pairs."""

    sizes = (2, 3, 4)

    def table(self) -> Pair:
        """Log-probabilities and rewards of responses, laid out as a table of pairs by broadcasting."""
        generator = torch.Generator().manual_seed(0)
        inputs = {}
        for quantity in ("logp", "ref_logp", "reward", "student_reward", "length"):
            numbers = torch.randn(self.sizes, dtype=torch.float64, generator=generator)
            numbers = torch.log_softmax(numbers, -1) if "logp" in quantity else numbers
            numbers = 1 + numbers.abs().ceil() if quantity == "length" else numbers
            inputs |= {f"{quantity}_chosen": numbers.unsqueeze(-1), f"{quantity}_rejected": numbers.unsqueeze(-2)}
        return Pair(**inputs)

    @pytest.mark.parametrize("name", WITH_LOSS)
    def test_table_and_batch(self, name: str) -> None:
        shape = (*self.sizes, self.sizes[-1])
        table = loss(name, self.table()).expand(shape)
        batch = loss(name, self.table().map(lambda t: t.expand(shape).flatten()))
        assert batch.shape == (math.prod(shape),)
        torch.testing.assert_close(table.flatten(), batch, rtol=1e-14, atol=1e-14)

    @pytest.mark.parametrize("name", WITH_LOSS)
    def test_chosen_is_the_row(self, name: str) -> None:
        """Entry (i, j) of the table is the pair in which i was preferred to j."""
        one = self.table().map(lambda t: t[1, 2])
        got = loss(name, one).expand(4, 4)
        for i, j in itertools.product(range(4), repeat=2):
            numbers = {n: t.expand(4, 4)[i, j].item() for n, t in one.given().items()}
            want = twins.loss(name, numbers, twins.HYPER[name], twins.GAMMA)
            assert got[i, j].item() == pytest.approx(float(want), rel=1e-12, abs=1e-14)

    @pytest.mark.parametrize("name", names())
    def test_hyperparameters_of_many_seeds_at_once(self, name: str) -> None:
        """A tensor of hyperparameters gives what one seed at a time gives."""
        pair, scales = self.table(), torch.tensor([0.5, 1.5], dtype=torch.float64)
        numbers = {**twins.HYPER[name], "gamma": twins.GAMMA}
        columns = {n: (value * scales)[:, None, None, None] for n, value in numbers.items()}
        together = get(name).terms(pair, **columns)
        for s, scale in enumerate(scales.tolist()):
            alone = get(name).terms(pair.map(lambda t, s=s: t[s]), **{n: value * scale for n, value in numbers.items()})
            if alone.loss is not None:
                torch.testing.assert_close(
                    together.loss.expand(2, 3, 4, 4)[s], alone.loss.expand(3, 4, 4), rtol=1e-13, atol=1e-14
                )
            for n, c in alone.coefficients.items():
                many = torch.as_tensor(together.coefficients[n]).expand(2, 1, 1, 1)[s].item()
                assert many == pytest.approx(c, rel=1e-14)

    def test_an_ensemble_on_a_table(self) -> None:
        """Three rewards on a leading axis: each member's table is the loss with that reward alone."""
        pair = self.table()
        offsets = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)[:, None, None, None, None]
        together = loss("e-dpo", pair.replace(reward_chosen=pair.reward_chosen * (1 + offsets)))
        assert together.shape == (3, 2, 3, 4, 4)
        members = [loss("d-dpo", pair.replace(reward_chosen=pair.reward_chosen * (1 + o))) for o in (0.0, 1.0, -2.0)]
        torch.testing.assert_close(together, torch.stack(members), rtol=1e-14, atol=1e-14)
        least = min(member.mean().item() for member in members)
        assert get("e-dpo").reduce(together).item() == pytest.approx(least, rel=1e-14)


class TestConvexity:
    """ℓ as a function of a context's logits and the student's rewards, for every pair of responses."""

    vocab = 4
    tables = 200

    def gap(self, name: str) -> torch.Tensor:
        """Half of ℓ(a) + ℓ(b) minus ℓ at the middle, at random a and b, near and far."""
        generator = torch.Generator().manual_seed(4)
        ends = torch.randn(2, self.tables, 2, self.vocab, dtype=torch.float64, generator=generator)
        ends = ends * torch.logspace(-1, 1.3, self.tables, dtype=torch.float64)[:, None, None]
        logits = torch.cat([ends, ends.mean(0, keepdim=True)])
        fixed = torch.log_softmax(torch.randn(self.vocab, dtype=torch.float64, generator=generator), -1)
        reward = torch.randn(self.vocab, dtype=torch.float64, generator=generator)
        policy, student = torch.log_softmax(logits[:, :, 0], -1), logits[:, :, 1]
        one = torch.ones(self.vocab, dtype=torch.float64)
        quantities = {"logp": policy, "ref_logp": fixed, "reward": reward, "student_reward": student, "length": one}
        chosen = {f"{q}_chosen": t.unsqueeze(-1) for q, t in quantities.items()}
        rejected = {f"{q}_rejected": t.unsqueeze(-2) for q, t in quantities.items()}
        values = loss(name, Pair(**chosen, **rejected)).expand(3, self.tables, self.vocab, self.vocab)
        off_diagonal = ~torch.eye(self.vocab, dtype=torch.bool)
        return ((values[0] + values[1]) / 2 - values[2])[:, off_diagonal] / (1 + values.abs().amax(0)[:, off_diagonal])

    def test_who_claims_it(self) -> None:
        assert {n for n in names() if not get(n).convex} == {"chipo", "drdo"}

    @pytest.mark.parametrize("name", [n for n in WITH_LOSS if n not in ("chipo", "drdo")])
    def test_convex(self, name: str) -> None:
        assert (self.gap(name) >= -1e-12).all()

    @pytest.mark.parametrize("name", ["chipo", "drdo"])
    def test_not_convex(self, name: str) -> None:
        assert (self.gap(name) < -1e-3).any()


class TestImplicitReward:
    """f(log π, log π_ref, **hyper) as math.md and the papers state it."""

    expected = {  # noqa: RUF012
        "d-dpo": lambda a, b, h: h["beta"] * (a - b),
        "dp-dpo": lambda a, b, h: h["beta"] * (a - b),
        "dpo": lambda a, b, h: h["beta"] * (a - b),
        "e-dpo": lambda a, b, h: h["beta"] * (a - b),
        "hypo": lambda a, b, h: h["beta"] * (a - b),
        "p-dpo": lambda a, b, h: h["beta"] * (a - b),
        "pmle": lambda a, b, h: h["gamma"] * a,
        "pref-distill": lambda a, b, h: h["gamma"] * a,
        "rebel": lambda a, b, h: (a - b) / h["eta"],
        "simpo": lambda a, b, h: h["beta"] * a,
    }

    def test_who_has_one(self) -> None:
        assert {n for n in names() if get(n).implicit_reward is not None} == set(self.expected)

    @pytest.mark.parametrize("name", sorted(expected))
    @given(a=st.floats(-30, 0), b=st.floats(-30, 0))
    def test_value(self, name: str, a: float, b: float) -> None:
        hyper = {**twins.HYPER[name], "gamma": twins.GAMMA}
        logp, ref = torch.tensor([a, b], dtype=torch.float64)
        got = get(name).implicit_reward(logp, ref, **hyper).item()
        assert got == pytest.approx(self.expected[name](a, b, hyper), rel=1e-12, abs=1e-13)

    def test_which_losses_are_its_bradley_terry_likelihood(self) -> None:
        assert {n for n in names() if get(n).bradley_terry} == {"dpo", "hypo", "p-dpo", "pmle"}

    @pytest.mark.parametrize("name", ["dpo", "hypo", "p-dpo", "pmle"])
    @given(pair=pairs())
    def test_bradley_terry_likelihood(self, name: str, pair: Pair) -> None:
        # exp(−ℓ) is the probability of the label: it and its opposite sum to one, and their log-odds is Δf.
        hyper = {**twins.HYPER[name], "gamma": twins.GAMMA}
        f_w = get(name).implicit_reward(pair.logp_chosen, pair.ref_logp_chosen, **hyper)
        f_l = get(name).implicit_reward(pair.logp_rejected, pair.ref_logp_rejected, **hyper)
        agree, disagree = loss(name, pair), loss(name, pair.swapped())
        close((-agree).exp() + (-disagree).exp(), torch.ones(SIZE, dtype=torch.float64))
        close(disagree - agree, f_w - f_l)


class TestPopulationLimits:
    """Where each objective's expected gradient vanishes as n → ∞: the limit that its docstring names.

    All pairs of a context are drawn from μ ⊗ μ and labelled by the preference model (math.md eq. 2–3).
    """

    gamma = 1.3
    target = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    reference = np.array([0.1, 0.25, 0.3, 0.15, 0.2])

    @property
    def preference(self) -> np.ndarray:
        powers = self.target**self.gamma
        return powers[:, None] / (powers[:, None] + powers[None, :])

    def gradient(self, name: str, policy: np.ndarray, student: np.ndarray | None = None, **hyper: float) -> list[float]:
        """Of E_D[ℓ] in the logits (and the student's rewards), with the target's reward as r̂."""
        logits = torch.tensor(np.log(policy), requires_grad=True)
        head = torch.tensor(np.zeros(5) if student is None else student, requires_grad=True)
        reward = torch.tensor(self.gamma * np.log(self.target))
        one = torch.ones(5, dtype=torch.float64)
        quantities = {
            "logp": torch.log_softmax(logits, -1),
            "ref_logp": torch.tensor(np.log(self.reference)),
            "reward": reward,
            "student_reward": head,
            "length": one,
        }
        chosen = {f"{q}_chosen": t.unsqueeze(-1) for q, t in quantities.items()}
        rejected = {f"{q}_rejected": t.unsqueeze(-2) for q, t in quantities.items()}
        pair_loss = get(name).terms(Pair(**chosen, **rejected), gamma=self.gamma, **hyper).loss
        weight = torch.tensor(np.outer(self.reference, self.reference) * self.preference)
        expected = (weight * pair_loss).sum()
        wanted = [logits] * get(name).reads("logp") + [head] * get(name).reads("student_reward")
        return torch.cat(torch.autograd.grad(expected, wanted)).tolist()

    @staticmethod
    def normal(weights: np.ndarray) -> np.ndarray:
        return weights / weights.sum()

    @pytest.mark.parametrize("name", ["dpo", "p-dpo", "hypo"])
    @pytest.mark.parametrize("beta", [0.4, 1.0, 3.0])
    def test_dpo(self, name: str, beta: float) -> None:
        limit = self.normal(self.reference * self.target ** (self.gamma / beta))
        assert self.gradient(name, limit, beta=beta) == pytest.approx([0] * 5, abs=1e-15)
        assert np.abs(self.gradient(name, self.target, beta=beta)).max() > 1e-3  # not consistent

    @pytest.mark.parametrize("name", ["d-dpo", "dp-dpo", "e-dpo"])
    def test_distillation_reaches_the_rlhf_optimum(self, name: str) -> None:
        limit = self.normal(self.reference * np.exp(self.gamma * np.log(self.target) / 0.6))
        assert self.gradient(name, limit, beta=0.6) == pytest.approx([0] * 5, abs=1e-14)

    def test_rebel(self) -> None:
        limit = self.normal(self.reference * np.exp(2.5 * self.gamma * np.log(self.target)))
        assert self.gradient("rebel", limit, eta=2.5) == pytest.approx([0] * 5, abs=1e-14)

    @pytest.mark.parametrize("name", ["pmle", "pref-distill"])
    def test_consistent(self, name: str) -> None:
        assert self.gradient(name, self.target) == pytest.approx([0] * 5, abs=1e-15)
        assert np.abs(self.gradient(name, self.reference)).max() > 1e-3

    def test_simpo_is_consistent_only_without_a_target_margin(self) -> None:
        assert self.gradient("simpo", self.target, beta=self.gamma, target_margin=0.0) == pytest.approx([0] * 5, abs=1e-15)
        assert np.abs(self.gradient("simpo", self.target, beta=self.gamma, target_margin=1.0)).max() > 1e-3

    def test_reward_and_oracle(self) -> None:
        reward = self.gamma * np.log(self.target) + 0.7  # up to a constant
        winners = self.normal(self.reference * (self.preference @ self.reference))
        assert self.gradient("reward", self.reference, reward) == pytest.approx([0] * 5, abs=1e-15)
        assert self.gradient("sft", winners) == pytest.approx([0] * 5, abs=1e-15)
        assert self.gradient("oracle", winners, reward) == pytest.approx([0] * 10, abs=1e-15)

    def test_ipo_fits_preference_minus_one_half(self) -> None:
        # Least squares on the complete graph with weights μ_i μ_j: u_i = Σ_j μ_j (P_ij − ½)/τ.
        ratio = (self.preference - 0.5) @ self.reference / 0.2
        limit = self.normal(self.reference * np.exp(ratio))
        assert self.gradient("ipo", limit, tau=0.2) == pytest.approx([0] * 5, abs=1e-14)

    def test_chipo_inverts_its_link(self) -> None:
        # β φ(z) = r* − Z with z = π/π_ref, and Z such that π sums to one.
        beta, reward = 0.8, self.gamma * np.log(self.target)

        def ratios(constant: float) -> np.ndarray:
            return np.array([brentq(lambda z, r=r: z + math.log(z) - (r - constant) / beta, 1e-12, 1e3) for r in reward])

        constant = brentq(lambda c: (self.reference * ratios(c)).sum() - 1, -10, 10, xtol=1e-14)
        limit = self.reference * ratios(constant)
        assert limit.sum() == pytest.approx(1, rel=1e-10)
        assert self.gradient("chipo", limit, beta=beta) == pytest.approx([0] * 5, abs=1e-10)

    def test_drdo_is_not_consistent(self) -> None:
        gradient = np.array(self.gradient("drdo", self.target, self.gamma * np.log(self.target)))
        assert gradient[5:] == pytest.approx(np.zeros(5), abs=1e-15)  # the student matches its teacher
        assert np.abs(gradient[:5]).max() > 1e-3  # and the focal term still moves the policy
