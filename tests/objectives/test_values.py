"""Every objective's value against its high-precision twin, and against numbers derived by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mp, mpf

from theory.objectives import Pair, get, names
from theory.objectives.rkl import rlhf_reward

from . import twins

WITH_LOSS = [name for name in names() if name not in twins.LOSSLESS]


def scalars(**inputs: float) -> Pair:
    return Pair(**{name: torch.tensor(value, dtype=torch.float64) for name, value in inputs.items()})


def level(logp_margin: float = 0.0, ref_margin: float = 0.0, **inputs: float) -> Pair:
    """A pair with given margins of log-probabilities."""
    logps = {"logp_chosen": -5.0, "logp_rejected": -5.0 - logp_margin}
    refs = {"ref_logp_chosen": -7.0, "ref_logp_rejected": -7.0 - ref_margin}
    return scalars(**logps, **refs, **inputs)


class TestAgainstTwins:
    def test_every_objective_has_one(self) -> None:
        assert set(names()) == set(twins.LOSSES) | twins.LOSSLESS == set(twins.HYPER)

    @pytest.mark.parametrize("scale", [0.3, 5.0, 200.0])
    @pytest.mark.parametrize("name", WITH_LOSS)
    def test_random_pairs(self, name: str, scale: float) -> None:
        pair = twins.draw(seed=1, size=12, scale=scale)
        got = get(name).terms(Pair(**pair), gamma=twins.GAMMA, **twins.HYPER[name]).loss.tolist()
        want = [float(twins.loss(name, row, twins.HYPER[name], twins.GAMMA)) for row in twins.rows(pair)]
        assert got == pytest.approx(want, rel=1e-11, abs=0)

    @pytest.mark.parametrize("name", WITH_LOSS)
    @given(data=st.data())
    def test_any_pair_at_any_setting(self, name: str, data: st.DataObject) -> None:
        logp, reward = st.floats(-30, -1e-3), st.floats(-8, 8)
        kinds = {n: st.integers(1, 50) if "length" in n else logp if "logp" in n else reward for n in twins.FIELDS}
        row = {n: float(data.draw(kind, label=n)) for n, kind in kinds.items()}
        hyper = {n: data.draw(st.floats(0.05, 3), label=n) for n in twins.HYPER[name]}
        gamma = data.draw(st.floats(0.1, 4), label="gamma")
        got = get(name).terms(scalars(**row), gamma=gamma, **hyper).loss.item()
        assert got == pytest.approx(float(twins.loss(name, row, hyper, gamma)), rel=1e-10, abs=1e-10)

    @pytest.mark.parametrize("name", names())
    def test_coefficients(self, name: str) -> None:
        hyper = twins.HYPER[name]
        terms = get(name).coefficients(gamma=twins.GAMMA, **hyper)
        settings = type("Settings", (), {**hyper, "gamma": twins.GAMMA})
        want = twins.COEFFICIENTS.get(name, lambda h: (0, 0, 0, 0))(settings)
        got = (terms.reward, terms.entropy, terms.kl, terms.forward_kl)
        assert [float(c) for c in got] == pytest.approx([float(c) for c in want], rel=1e-15, abs=0)

    @pytest.mark.parametrize("name", names())
    def test_on_policy_objectives_have_no_pair_loss(self, name: str) -> None:
        terms = get(name).terms(Pair(**twins.draw(seed=0, size=3, scale=1.0)))
        assert (terms.loss is None) == (name in twins.LOSSLESS)
        assert get(name).has_loss == (name not in twins.LOSSLESS)


class TestByHand:
    @pytest.mark.parametrize("name", ["dpo", "p-dpo", "hypo"])
    @pytest.mark.parametrize("beta", [0.01, 1.0, 30.0])
    def test_dpo_at_the_reference_is_log_two(self, name: str, beta: float) -> None:
        pair = level(1.7, 1.7)
        assert get(name).terms(pair, beta=beta).loss.item() == pytest.approx(math.log(2), rel=1e-15)

    def test_dpo_at_odds_three_to_one(self) -> None:
        # β·margin = log 3, so P = 3/4 and the loss is log 4/3; the other way round it is log 4.
        pair = level(2 * math.log(3), 0.0)
        assert get("dpo").terms(pair, beta=0.5).loss.item() == pytest.approx(math.log(4 / 3), rel=1e-14)
        assert get("dpo").terms(pair.swapped(), beta=0.5).loss.item() == pytest.approx(math.log(4), rel=1e-14)

    def test_chipo_at_the_reference_is_log_two(self) -> None:
        assert get("chipo").terms(level(1.7, 1.7)).loss.item() == pytest.approx(math.log(2), rel=1e-15)

    def test_chipo_caps_the_exponent_at_twenty(self) -> None:
        # Log-ratios 25 and 0: φ's difference is e²⁰ + 25 − 1, far from e²⁵ + 25 − 1.
        margin = 1e-9 * (math.exp(20) + 24)
        logps = {"logp_chosen": -5.0, "logp_rejected": -30.0}
        pair = scalars(**logps, ref_logp_chosen=-30.0, ref_logp_rejected=-30.0)
        got = get("chipo").terms(pair, beta=1e-9).loss.item()
        assert got == pytest.approx(math.log1p(math.exp(-margin)), rel=1e-12)

    def test_chipo_clips_the_margin_at_twice_the_bound(self) -> None:
        # β·margin of log-ratios alone is 50 > 2R = 3.
        pair = level(50.0, 0.0)
        assert get("chipo").terms(pair, beta=1.0, r_max=1.5).loss.item() == pytest.approx(math.log1p(math.exp(-3)), rel=1e-14)
        assert get("chipo").terms(pair.swapped(), beta=1.0, r_max=1.5).loss.item() == pytest.approx(
            3 + math.log1p(math.exp(-3)), rel=1e-14
        )

    @pytest.mark.parametrize("tau", [0.05, 0.1, 2.0])
    def test_ipo_is_at_rest_at_its_target_margin(self, tau: float) -> None:
        logp = torch.tensor([-5.0 + 1 / (2 * tau), -5.0], dtype=torch.float64, requires_grad=True)
        refs = torch.tensor([-7.0, -7.0], dtype=torch.float64)
        pair = Pair(logp_chosen=logp[0], logp_rejected=logp[1], ref_logp_chosen=refs[0], ref_logp_rejected=refs[1])
        loss = get("ipo").terms(pair, tau=tau).loss
        (gradient,) = torch.autograd.grad(loss, logp)
        assert loss.item() == pytest.approx(0, abs=1e-28)
        assert gradient.tolist() == pytest.approx([0, 0], abs=1e-14)

    def test_ipo_away_from_its_target(self) -> None:
        # Log-ratio margin 3 − 1 = 2, target 1/(2·0.25) = 2; then target 1/(2·0.5) = 1.
        assert get("ipo").terms(level(3.0, 1.0), tau=0.25).loss.item() == pytest.approx(0, abs=1e-28)
        assert get("ipo").terms(level(3.0, 1.0), tau=0.5).loss.item() == pytest.approx(1, rel=1e-14)

    def test_pref_distill_of_an_indifferent_reward_and_policy_is_log_two(self) -> None:
        pair = level(0.0, 0.0, reward_chosen=0.4, reward_rejected=0.4)
        assert get("pref-distill").terms(pair).loss.item() == pytest.approx(math.log(2), rel=1e-15)

    def test_pref_distill_at_its_own_reward_is_the_entropy_of_the_label(self) -> None:
        # s = σ(log 3) = 3/4 and the policy agrees: H = −¾ log ¾ − ¼ log ¼.
        pair = level(math.log(3), 0.0, reward_chosen=math.log(3), reward_rejected=0.0)
        entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
        assert get("pref-distill").terms(pair, gamma=1.0).loss.item() == pytest.approx(entropy, rel=1e-14)

    def test_pmle_ignores_the_reference_and_scales_by_gamma(self) -> None:
        # γ = 2, margin log 3: odds nine to one.
        assert get("pmle").terms(level(math.log(3), 99.0), gamma=2.0).loss.item() == pytest.approx(math.log(10 / 9), rel=1e-14)

    @pytest.mark.parametrize("name", ["d-dpo", "dp-dpo", "e-dpo"])
    def test_distillation_vanishes_at_the_rlhf_optimum(self, name: str) -> None:
        # β(5 − 1) = 2 = Δr̂; and at Δr̂ = −1 the residual is 3.
        optimum = level(5.0, 1.0, reward_chosen=3.0, reward_rejected=1.0)
        wrong = level(5.0, 1.0, reward_chosen=0.0, reward_rejected=1.0)
        assert get(name).terms(optimum, beta=0.5).loss.item() == pytest.approx(0, abs=1e-28)
        assert get(name).terms(wrong, beta=0.5).loss.item() == pytest.approx(9, rel=1e-14)

    def test_rebel_divides_by_eta(self) -> None:
        # (5 − 1)/2 − 2 = 0 and (5 − 1)/4 − 2 = −1.
        pair = level(5.0, 1.0, reward_chosen=2.0, reward_rejected=0.0)
        assert get("rebel").terms(pair, eta=2.0).loss.item() == pytest.approx(0, abs=1e-28)
        assert get("rebel").terms(pair, eta=4.0).loss.item() == pytest.approx(1, rel=1e-14)

    def test_reward_and_oracle(self) -> None:
        # Odds of seven to one: log 8/7; the oracle adds α_lm·5.
        pair = level(student_reward_chosen=math.log(7), student_reward_rejected=0.0)
        assert get("reward").terms(pair).loss.item() == pytest.approx(math.log(8 / 7), rel=1e-14)
        assert get("oracle").terms(pair).loss.item() == pytest.approx(math.log(8 / 7) + 0.05, rel=1e-14)

    def test_sft(self) -> None:
        assert get("sft").terms(level()).loss.item() == 5.0

    def test_simpo_divides_by_length(self) -> None:
        # −6/3 and −8/2: 2·(−2 + 4) − 1 = 3.
        pair = scalars(logp_chosen=-6.0, logp_rejected=-8.0, length_chosen=3.0, length_rejected=2.0)
        got = get("simpo").terms(pair, beta=2.0, target_margin=1.0).loss.item()
        assert got == pytest.approx(math.log1p(math.exp(-3)), rel=1e-14)

    def test_drdo(self) -> None:
        # π_w = ½, π_l = ¼: p_w = ⅔, focal weight (⅓)², log(½/¾) = −log 1.5. Rewards: (2 − 0.5)² = 2.25.
        pair = scalars(
            logp_chosen=math.log(0.5),
            logp_rejected=math.log(0.25),
            reward_chosen=2.0,
            reward_rejected=0.0,
            student_reward_chosen=1.0,
            student_reward_rejected=0.5,
        )
        got = get("drdo").terms(pair, alpha=0.1, gamma_f=2.0).loss.item()
        assert got == pytest.approx(2.25 + 0.1 * math.log(1.5) / 9, rel=1e-14)

    @pytest.mark.parametrize("gap", [-2.5, -0.3, 0.0, 0.01, 1.0, 2.5])
    @pytest.mark.parametrize("gamma_f", [0.0, 1.0, 2.0])
    def test_drdo_of_two_responses_has_no_focal_term(self, gap: float, gamma_f: float) -> None:
        # V = 2: π_w = 1 − π_l, so the logarithm is zero at every policy, and with it the gradient.
        logits = torch.tensor([gap, 0.0], dtype=torch.float64, requires_grad=True)
        logp = torch.log_softmax(logits, -1)
        zero = torch.zeros((), dtype=torch.float64)
        rewards = dict.fromkeys(("reward_chosen", "reward_rejected", "student_reward_chosen", "student_reward_rejected"), zero)
        loss = get("drdo").terms(Pair(logp_chosen=logp[0], logp_rejected=logp[1], **rewards), alpha=1.0, gamma_f=gamma_f).loss
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == pytest.approx(0, abs=1e-12)
        assert gradient.tolist() == pytest.approx([0, 0], abs=1e-12)

    def test_rkl_coefficients(self) -> None:
        terms = get("rkl").coefficients(gamma=4.0, alpha=0.7, beta=0.2)
        assert (terms.reward, terms.entropy, terms.kl, terms.forward_kl) == (0.25, 0.7, 0.2, 0.0)


class TestEnsemble:
    def test_reduces_to_the_least_of_the_members_means(self) -> None:
        # Means 2, 1.75 and 5; the mean of the elementwise minima would be 0.25.
        loss = torch.tensor([[0.0, 4.0], [3.0, 0.5], [5.0, 5.0]])
        assert get("e-dpo").reduce(loss).item() == 1.75

    def test_reduces_a_table_of_pairs_member_by_member(self) -> None:
        loss = torch.stack([torch.full((2, 5, 4, 4), 3.0), torch.full((2, 5, 4, 4), 7.0), torch.full((2, 5, 4, 4), 2.5)])
        loss[2, 0, 0] -= 1.0  # one tenth of the third member: 2.5 − 0.1
        assert get("e-dpo").reduce(loss).item() == pytest.approx(2.4)

    def test_sees_each_member_reward(self) -> None:
        # β(5 − 1) = 2 against Δr̂ = 2, 0 and −1: residuals 0, 2 and 3, on two pairs alike.
        pair = level(5.0, 1.0).map(lambda t: t.expand(2))
        rewards = torch.tensor([[2.0, 2.0], [0.0, 0.0], [-1.0, -1.0]], dtype=torch.float64)
        loss = get("e-dpo").terms(pair.replace(reward_chosen=rewards, reward_rejected=torch.zeros_like(rewards)), beta=0.5).loss
        assert loss.tolist() == [pytest.approx([0, 0]), pytest.approx([4, 4]), pytest.approx([9, 9])]

    @pytest.mark.parametrize("name", [n for n in WITH_LOSS if n != "e-dpo"])
    def test_others_reduce_to_the_mean(self, name: str) -> None:
        assert get(name).reduce(torch.tensor([[1.0, 2.0], [3.0, 10.0]])).item() == 4.0


class TestRklIsRlhf:
    """With the reward r̂/γ − α log π_ref and β' = α + β, RLHF is RKL: as a functional and in its solution."""

    reward = ("0.3", "-1.2", "2.5", "0.9")
    reference = ("0.5", "0.2", "0.2", "0.1")
    setting = pytest.mark.parametrize(
        ("gamma", "alpha", "beta"), [(1.0, 1.0, 0.05), (0.5, 1.0, 0.0), (2.0, 0.3, 0.8), (1.3, 2.5, 0.01)]
    )

    def rewards(self, gamma: float, alpha: float) -> tuple[list[mpf], list[mpf], list[mpf]]:
        """r̂, log π_ref, and the reward that the code under test makes of them."""
        r, log_ref = [mpf(t) for t in self.reward], [mp.log(mpf(t)) for t in self.reference]
        tensors = (torch.tensor([float(v) for v in values], dtype=torch.float64) for values in (r, log_ref))
        return r, log_ref, [mpf(v) for v in rlhf_reward(*tensors, gamma=gamma, alpha=alpha).tolist()]

    @setting
    def test_same_policy(self, gamma: float, alpha: float, beta: float) -> None:
        r, log_ref, transformed = self.rewards(gamma, alpha)
        rkl = [mp.exp((a / gamma + beta * b) / (alpha + beta)) for a, b in zip(r, log_ref, strict=True)]
        rlhf = [mp.exp(b) * mp.exp(a / (alpha + beta)) for a, b in zip(transformed, log_ref, strict=True)]
        got, want = [float(x / sum(rlhf)) for x in rlhf], [float(x / sum(rkl)) for x in rkl]
        assert got == pytest.approx(want, rel=1e-13)

    @setting
    def test_same_objective_at_any_policy(self, gamma: float, alpha: float, beta: float) -> None:
        r, log_ref, transformed = self.rewards(gamma, alpha)
        settings = {"rkl": {"alpha": alpha, "beta": beta}, "rlhf": {"beta": alpha + beta}}
        policy = [mpf(t) for t in ("0.1", "0.25", "0.05", "0.6")]
        values = []
        for name, rewards in (("rkl", r), ("rlhf", transformed)):
            c = get(name).coefficients(gamma=gamma, **settings[name])
            entropy = -sum(p * mp.log(p) for p in policy)
            kl = sum(p * (mp.log(p) - b) for p, b in zip(policy, log_ref, strict=True))
            gain = sum(p * a for p, a in zip(policy, rewards, strict=True))
            values.append(float(-c.reward * gain - c.entropy * entropy + c.kl * kl))
        assert values[0] == pytest.approx(values[1], rel=1e-13)
