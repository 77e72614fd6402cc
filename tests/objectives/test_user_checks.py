"""What a user's loss must be for the solvers to be right about it, and how each departure is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from theory.errors import UserError
from theory.objectives import Objective, Pair, load, names, registry

HEAD = """
from typing import Annotated

import torch
from torch.nn.functional import dropout, logsigmoid, relu, softplus

from theory.objectives import Hyper, Pair, Terms, objective
"""


@pytest.fixture
def loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Objective]:
    """Load ``f`` from a file with the given text after the usual imports; what it registers is forgotten."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def call(text: str) -> Objective:
        file = tmp_path / "mine.py"
        file.write_text(HEAD + text + "\n", encoding="utf-8")
        return load(f"{file}:f")

    return call


def _returning(expression: str) -> str:
    return f"def f(pair):\n    m = pair.logp_margin\n    return {expression}"


# What the refusal must say, and losses to which it must be said.
REFUSED = {
    "returned NaN or an infinite number on ordinary pairs": [
        "torch.log(m)",
        "1 / (0 * m)",
        "-m * 1e300 * 1e300",
        "torch.where(m > 0, -m, torch.nan)",
    ],
    "must not be random or keep a state": [
        "-m * torch.rand(())",
        "-m + 1e-6 * torch.randn(m.shape)",
        "dropout(-m)",
        "-pair.logp_chosen.mul_(1.5)",
    ],
    "each pair's loss must be a function of that pair alone": [
        "-(m - m.mean())",
        "-m / m.std()",
        "-m / len(m)",
        "-m.sort().values",
        "-m * m.argsort()",
        "-m * (m < m.median())",
        "-torch.softmax(m, 0)",
        "-m.flip(0)",
        "-m.roll(1)",
        "-m / pair.reward_chosen.sum()",
    ],
    "is not differentiable in what is trained": [
        "-m.detach()",
        "torch.tensor([-x.item() for x in m])",
        "(m < 0).double()",
        "m.long()",
        "torch.from_numpy(-m.detach().numpy())",
    ],
    "has a gradient of 0 on every pair: it is piecewise constant": [
        "-torch.sign(m)",
        "m.round()",
        "0 * m",
        "relu(m - 100)",
    ],
    "has a gradient that is NaN or infinite on ordinary pairs": [
        "torch.where(m > -9, -m, torch.sqrt(m))",
        "torch.where(m > -9, -m, torch.log(m) / (m - m))",
    ],
    "must return the unreduced loss: one number for each pair": [
        "-m.sum()",
        "-m.mean()",
        "-m[:, None]",
        "-m[:-1]",
        "-torch.stack([m, m])",
        "3",
        "'a loss'",
        "[-1.0, -2.0]",
        "(-m, 1)",
        "Terms(-m.mean(), kl=0.1)",
    ],
    "must return a loss or Terms; it returned neither": ["None", "Terms()", "Terms(kl=0.0)"],
    "needs an input that the table cannot give: Pair has no logp_winner": ["-pair.logp_winner", "Terms(-pair.logp_winner)"],
}


@pytest.mark.parametrize(("said", "expression"), [(said, e) for said, expressions in REFUSED.items() for e in expressions])
def test_refused(loading: Callable[[str], Objective], said: str, expression: str) -> None:
    with pytest.raises(UserError) as caught:
        loading(_returning(expression))
    assert caught.value.argument == "--objective"
    assert str(caught.value.value).endswith("mine.py:f")
    assert said in caught.value.remedy
    assert "\n" not in str(caught.value)


# The trained inputs whose gradient is wrong.
HALF_DETACHED = [
    ("-m * torch.sigmoid(-m).detach()", "logp_chosen, logp_rejected"),
    ("-(pair.logp_chosen - pair.logp_rejected.detach())", "logp_rejected"),
    ("-pair.logp_chosen.detach() + pair.logp_rejected", "logp_chosen"),
    ("-(m + (m.round() - m).detach())", "logp_chosen, logp_rejected"),
    ("-m - pair.student_margin * pair.student_margin.detach()", "student_reward_chosen, student_reward_rejected"),
]


@pytest.mark.parametrize(("expression", "named"), HALF_DETACHED)
def test_a_gradient_that_is_not_the_slope(loading: Callable[[str], Objective], expression: str, named: str) -> None:
    with pytest.raises(UserError) as caught:
        loading(_returning(expression))
    assert caught.value.remedy.startswith(f"has a gradient in {named} that is not the slope of its value")


@pytest.mark.parametrize("result", ["pair.reward_margin ** 2", "-pair.ref_logp_chosen", "pair.length_chosen - 1.0"])
def test_nothing_to_train(loading: Callable[[str], Objective], result: str) -> None:
    with pytest.raises(UserError, match="reads neither the policy's log-probabilities nor a student's reward: there is nothing"):
        loading(f"def f(pair):\n    return {result}")


def test_a_block_without_gradients(loading: Callable[[str], Objective]) -> None:
    """The weight moves with both log-probabilities, the gradient with the chosen one alone and by the wrong amount."""
    text = """
def f(pair):
    with torch.no_grad():
        weight = torch.exp(-pair.logp_margin)
    return -weight * pair.logp_chosen
"""
    with pytest.raises(UserError, match="has a gradient in logp_chosen, logp_rejected that is not the slope of its value"):
        loading(text)
    with pytest.raises(UserError, match="is not differentiable"):
        loading("@torch.no_grad()\ndef f(pair):\n    return -pair.logp_margin")


def test_a_counter(loading: Callable[[str], Objective]) -> None:
    text = "calls = []\ndef f(pair):\n    calls.append(1)\n    return -pair.logp_margin / len(calls)"
    with pytest.raises(UserError, match="must not be random or keep a state"):
        loading(text)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise ValueError('first line\\nsecond line')", "ValueError: first line"),
        ("assert False", "AssertionError: "),
        ("return {}['key']", "KeyError: 'key'"),
        ("return pair.logp_chosen @ pair.logp_margin[:3]", "RuntimeError: "),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("return pair.logp_margin.no_such_method()", "AttributeError: 'Tensor' object has no attribute 'no_such_method'"),
        ("return torch.from_numpy(-pair.logp_margin.numpy())", "RuntimeError: Can't call numpy() on Tensor that requires grad"),
    ],
)
def test_a_loss_that_fails_says_why_in_one_line(loading: Callable[[str], Objective], body: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        loading(f"def f(pair):\n    {body}")
    assert caught.value.remedy.startswith(f"failed on a batch of pairs: {said}")
    assert "\n" not in str(caught.value)


def test_nothing_refused_is_registered(loading: Callable[[str], Objective]) -> None:
    before = names()
    with pytest.raises(UserError):
        loading(_returning("-m.mean()"))
    assert names() == before


# --- What must be accepted. -----------------------------------------------------------------------------

VALUES = (-1.0, -3.0, -2.0, -2.5, 1.0, 0.5, 0.0, 2.0, 2.0, 4.0)
ONE = Pair(**{name: torch.tensor([v], dtype=torch.float64) for name, v in zip(Pair.FIELDS, VALUES, strict=True)})

# Losses and their value on the pair above (Δlogπ = 2, Δref = ½, Δr = ½, Δr̂ = −2), by hand.
ACCEPTED = [
    ("relu(3 - m)", 1.0),  # a kink, among the pairs that it is tried on or not
    ("relu(-m)", 0.0),
    ("(m - 0.5).abs()", 1.5),
    ("torch.maximum(1 - m, m - 1)", 1.0),
    ("-m.clamp(-1, 1)", -1.0),
    ("relu(-m) + 5.0", 5.0),
    ("-m", -2.0),
    ("-pair.logp_chosen", 1.0),
    ("pair.logp_rejected", -3.0),
    ("(m - pair.reward_margin) ** 2", 2.25),
    ("(pair.logratio_margin - 1) ** 2", 0.25),
    ("pair.student_margin ** 2", 4.0),
    ("relu(1 - pair.student_margin) + pair.logp_rejected", 0.0),
    ("-(pair.logp_chosen / pair.length_chosen - pair.logp_rejected / pair.length_rejected)", -0.25),
    ("-m * torch.sign(pair.reward_margin)", -2.0),  # piecewise constant in what is not trained
    ("-m * pair.reward_margin.detach()", -1.0),
    ("m ** 3", 8.0),
    ("torch.where(m > 1, m - 1, (1 - m) ** 2)", 1.0),
]


@pytest.mark.parametrize(("expression", "value"), ACCEPTED)
def test_accepted(loading: Callable[[str], Objective], expression: str, value: float) -> None:
    made = loading(_returning(expression))
    assert made.terms(ONE).loss.tolist() == pytest.approx([value])
    assert made.name == "f"


def test_terms_with_coefficients_alone(loading: Callable[[str], Objective]) -> None:
    made = loading("def f(pair, *, beta=0.5):\n    return Terms(reward=1.0, entropy=0.25, kl=beta)")
    assert not made.has_loss
    assert made.on_policy
    terms = made.terms(ONE, beta=2.0)
    assert (terms.loss, terms.reward, terms.entropy, terms.kl, terms.forward_kl) == (None, 1.0, 0.25, 2.0, 0.0)


def test_terms_with_a_loss_and_a_barrier(loading: Callable[[str], Objective]) -> None:
    made = loading("def f(pair, *, anchor=0.5):\n    return Terms(softplus(-pair.logp_margin), forward_kl=anchor)")
    assert made.margins == {"logp"}
    assert not made.on_policy
    assert made.terms(ONE).loss.item() == pytest.approx(0.126928011)  # log(1 + e⁻²)


def test_annotated_hyperparameters(loading: Callable[[str], Objective]) -> None:
    made = loading("""
def f(
    pair: Pair,
    *,
    gamma: float,
    width: Annotated[float, Hyper("width of the hinge", low=0, open_low=True, tuned=True)] = 1,
    shift: float = -2.5,
) -> torch.Tensor:
    return relu(width - gamma * pair.logp_margin) + shift
""")
    assert [(p.name, p.default, p.range) for p in made.hyperparameters] == [
        ("width", 1.0, "(0, inf)"),
        ("shift", -2.5, "(-inf, inf)"),
    ]
    assert made.tuned.name == "width"
    assert made.needs_gamma
    assert made.terms(ONE, gamma=0.25, width=2.0).loss.item() == pytest.approx(-1.0)


def test_a_reward_head_alone(loading: Callable[[str], Objective]) -> None:
    made = loading("def f(pair):\n    return -logsigmoid(pair.student_margin)")
    assert made.inputs == {"student_reward_chosen", "student_reward_rejected"}
    assert not made.reads("logp")
    assert made.margins == {"student_reward"}


def test_an_ensemble(loading: Callable[[str], Objective]) -> None:
    """The loss of k rewards has k rows; the least member's mean is what counts."""
    made = loading("@objective(ensemble=2)\ndef f(pair):\n    return (pair.logp_margin - pair.reward_margin) ** 2")
    assert made.ensemble == 2
    assert made.reduce(torch.tensor([[4.0, 0.0], [1.0, 2.0]])).item() == 1.5
    with pytest.raises(UserError, match="one number for each pair"):
        loading("@objective(ensemble=2)\ndef f(pair):\n    return pair.logp_margin ** 2")
    with pytest.raises(UserError, match="function of that pair alone"):
        loading(
            "@objective(ensemble=2)\ndef f(pair):\n    return (pair.logp_margin - pair.reward_margin.mean(-1, keepdim=True)) ** 2"
        )


def test_a_few_kinks_are_no_wrong_gradient_but_many_are(loading: Callable[[str], Objective]) -> None:
    """A jump spoils the slope of the pairs that sit on it: rare for a loss, systematic for a wrong gradient."""
    steps = "-m + torch.where(pair.reward_chosen > 1.{digits}, 1.0, 0.0) * (m - m.detach())"
    assert loading(_returning(steps.format(digits="97"))).name == "f"
    with pytest.raises(UserError, match="not the slope of its value"):
        loading(_returning(steps.format(digits="50")))
