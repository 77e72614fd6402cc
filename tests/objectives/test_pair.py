"""What an objective sees, and what it says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from theory.objectives import MissingInput, Pair, Terms

from . import twins


def everything() -> Pair:
    """A pair whose inputs are all different: 1, 2, 4, 8, … in the order of `Pair`'s documentation."""
    return Pair(**{name: torch.tensor([2.0**i]) for i, name in enumerate(twins.FIELDS)})


class TestInputs:
    def test_fields(self) -> None:
        assert set(Pair.FIELDS) == set(twins.FIELDS)
        assert len(Pair.FIELDS) == 10

    @pytest.mark.parametrize("name", list(twins.FIELDS))
    def test_given_and_missing(self, name: str) -> None:
        value = torch.tensor([3.0])
        assert getattr(Pair(**{name: value}), name) is value
        with pytest.raises(MissingInput, match=rf"needs {name}, which was not given"):
            getattr(Pair(), name)

    def test_an_optional_input_can_be_probed(self) -> None:
        pair = Pair(length_chosen=torch.ones(1))
        assert hasattr(pair, "length_chosen")
        assert not hasattr(pair, "length_rejected")

    def test_unknown_attribute(self) -> None:
        with pytest.raises(AttributeError, match="Pair has no logp_winner; it has logp_chosen, ") as caught:
            _ = everything().logp_winner
        assert not isinstance(caught.value, MissingInput)

    def test_unknown_input(self) -> None:
        with pytest.raises(TypeError, match="Pair has no loss, margin; it has logp_chosen, "):
            Pair(logp_chosen=torch.ones(1), margin=torch.ones(1), loss=torch.ones(1))

    def test_given(self) -> None:
        inputs = {"logp_chosen": torch.ones(1), "reward_rejected": torch.zeros(2)}
        assert Pair(**inputs).given() == inputs
        assert Pair().given() == {}


class TestMargins:
    # 2⁰ − 2¹, 2² − 2³, their difference, 2⁴ − 2⁵, 2⁶ − 2⁷.
    @pytest.mark.parametrize(
        ("name", "value"),
        [("logp_margin", -1), ("ref_margin", -4), ("logratio_margin", 3), ("reward_margin", -16), ("student_margin", -64)],
    )
    def test_winner_minus_loser(self, name: str, value: float) -> None:
        assert getattr(everything(), name).tolist() == [value]
        assert getattr(everything().swapped(), name).tolist() == [-value]

    @pytest.mark.parametrize(
        ("name", "needed"),
        [
            ("logp_margin", "logp"),
            ("ref_margin", "ref_logp"),
            ("logratio_margin", "logp"),
            ("reward_margin", "reward"),
            ("student_margin", "student_reward"),
        ],
    )
    @pytest.mark.parametrize("side", ["chosen", "rejected"])
    def test_names_the_input_that_is_missing(self, name: str, needed: str, side: str) -> None:
        inputs = {n: t for n, t in everything().given().items() if n != f"{needed}_{side}"}
        with pytest.raises(MissingInput, match=rf"needs {needed}_{side}, which was not given"):
            getattr(Pair(**inputs), name)

    def test_an_ensemble_adds_a_leading_axis(self) -> None:
        pair = Pair(reward_chosen=torch.tensor([[1.0, 2.0], [3.0, 5.0], [0.0, 0.0]]), reward_rejected=torch.tensor([1.0, 1.0]))
        assert pair.reward_margin.tolist() == [[0, 1], [2, 4], [-1, -1]]


class TestCopies:
    def test_swapped(self) -> None:
        pair, swapped = everything(), everything().swapped()
        for i, name in enumerate(twins.FIELDS):
            # Chosen responses sit at even powers of two, rejected ones a power above.
            assert getattr(pair, name).item() == 2**i
            assert getattr(swapped, name).item() == 2 ** (i + 1 if i % 2 == 0 else i - 1)

    def test_swapping_keeps_what_is_missing_missing(self) -> None:
        one_sided = Pair(logp_chosen=torch.tensor([5.0])).swapped()
        assert list(one_sided.given()) == ["logp_rejected"]

    def test_replace(self) -> None:
        pair = everything()
        changed = pair.replace(logp_chosen=torch.tensor([-9.0]))
        assert changed.logp_chosen.item() == -9
        assert changed.logp_rejected is pair.logp_rejected
        assert pair.logp_chosen.item() == 1
        assert Pair().replace(length_chosen=torch.ones(1)).given() == {"length_chosen": torch.ones(1)}
        with pytest.raises(TypeError, match="Pair has no logp"):
            pair.replace(logp=torch.ones(1))

    def test_map(self) -> None:
        mapped = everything().map(lambda t: -t.double())
        assert [getattr(mapped, name).item() for name in twins.FIELDS] == [-(2.0**i) for i in range(10)]
        assert mapped.logp_chosen.dtype == torch.float64

    @pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
    def test_survives_copying_and_pickling(self, duplicate) -> None:  # workers receive pairs
        got = duplicate(everything())
        assert {n: t.item() for n, t in got.given().items()} == {n: 2.0**i for i, n in enumerate(twins.FIELDS)}


class TestTerms:
    def test_nothing_by_default(self) -> None:
        assert Terms().loss is None
        assert Terms().coefficients == {"reward": 0.0, "entropy": 0.0, "kl": 0.0, "forward_kl": 0.0}

    def test_coefficients_leave_the_loss_out(self) -> None:
        terms = Terms(torch.ones(3), reward=1, entropy=2, kl=3, forward_kl=4)
        assert list(terms.coefficients.items()) == [("reward", 1), ("entropy", 2), ("kl", 3), ("forward_kl", 4)]

    def test_frozen(self) -> None:
        with pytest.raises(AttributeError):
            Terms().kl = 1.0  # type: ignore[misc]
