"""What is known about each objective, and how a user brings one of their own."""

from __future__ import annotations

import importlib
import pkgutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest
import torch
from torch import Tensor

import theory.objectives
from theory.errors import UserError
from theory.objectives import Hyper, Objective, Pair, Terms, get, load, make, names, registry


class Known(NamedTuple):
    """What math.md says of an objective. Quantities are abbreviated: both sides of a pair unless noted."""

    inputs: str
    margins: str = ""
    label_free: bool = False
    needs_reward: bool = False
    needs_gamma: bool = False
    on_policy: bool = False
    ensemble: int = 1
    tuned: str | None = "beta"


# `inputs` are what ℓ reads; the four functionals read π_ref and r̂ besides. SimPO's lengths are 1 on a
# table, so there it is a function of the margin. λ·KL(π_ref‖π) needs samples of π_ref, none of π.
KNOWN = {
    "chipo": Known("logp ref_logp"),
    "d-dpo": Known("logp ref_logp reward", "logp", label_free=True, needs_reward=True),
    "dp-dpo": Known("logp ref_logp reward", "logp", label_free=True, needs_reward=True),
    "dpo": Known("logp ref_logp", "logp"),
    "drdo": Known("logp reward student_reward", "student_reward", needs_reward=True, tuned=None),
    "e-dpo": Known("logp ref_logp reward", "logp", label_free=True, needs_reward=True, ensemble=3),
    "hypo": Known("logp ref_logp", "logp", on_policy=True),
    "ipo": Known("logp ref_logp", "logp", tuned="tau"),
    "oracle": Known("logp_chosen student_reward", "student_reward", tuned=None),
    "p-dpo": Known("logp ref_logp", "logp"),
    "pmle": Known("logp", "logp", needs_gamma=True, on_policy=True),
    "pref-distill": Known("logp reward", "logp", label_free=True, needs_reward=True, needs_gamma=True, on_policy=True),
    "rebel": Known("logp ref_logp reward", "logp", label_free=True, needs_reward=True, tuned="eta"),
    "reward": Known("student_reward", "student_reward", tuned=None),
    "rkl": Known("", label_free=True, needs_reward=True, needs_gamma=True, on_policy=True),
    "rlhf": Known("", label_free=True, needs_reward=True, on_policy=True),
    "sft": Known("logp_chosen", tuned=None),
    "simpo": Known("logp length", "logp"),
}

# Default, and whether zero is allowed (a weight that may be switched off) or not (a divisor, a temperature).
POSITIVE, FROM_ZERO = "(0, inf)", "[0, inf)"
HYPERPARAMETERS = {
    "chipo": {"beta": (0.05, POSITIVE), "r_max": (50.0, POSITIVE)},
    "d-dpo": {"beta": (0.1, POSITIVE)},
    "dp-dpo": {"beta": (0.1, POSITIVE), "lambda_": (1e-2, FROM_ZERO)},
    "dpo": {"beta": (0.05, POSITIVE)},
    "drdo": {"alpha": (0.1, POSITIVE), "gamma_f": (2.0, FROM_ZERO)},
    "e-dpo": {"beta": (0.1, POSITIVE), "lambda_": (1e-2, FROM_ZERO)},
    "hypo": {"beta": (0.05, POSITIVE), "kl": (0.01, FROM_ZERO)},
    "ipo": {"tau": (0.1, POSITIVE)},
    "oracle": {"alpha_lm": (0.01, FROM_ZERO)},
    "p-dpo": {"beta": (0.1, POSITIVE), "lambda_": (1e-2, FROM_ZERO)},
    "pmle": {"beta": (0.01, FROM_ZERO)},
    "pref-distill": {"beta": (0.05, FROM_ZERO)},
    "rebel": {"eta": (1.0, POSITIVE)},
    "reward": {},
    "rkl": {"alpha": (1.0, POSITIVE), "beta": (0.05, FROM_ZERO)},
    "rlhf": {"beta": (0.05, POSITIVE)},
    "sft": {},
    "simpo": {"beta": (2.0, POSITIVE), "target_margin": (1.0, FROM_ZERO)},
}
EACH_HYPERPARAMETER = [(name, p) for name, found in HYPERPARAMETERS.items() for p in found]


def expand(quantities: str) -> set[str]:
    sides = ("chosen", "rejected")
    return {n for q in quantities.split() for n in ([q] if q.endswith(sides) else [f"{q}_{side}" for side in sides])}


class TestMetadata:
    def test_complete(self) -> None:
        assert set(names()) == set(KNOWN) == set(HYPERPARAMETERS)
        assert names() == sorted(names())

    @pytest.mark.parametrize("name", names())
    def test_inputs(self, name: str) -> None:
        assert get(name).inputs == expand(KNOWN[name].inputs)

    @pytest.mark.parametrize("name", names())
    @pytest.mark.parametrize("quantity", ["logp", "ref_logp", "reward", "student_reward", "length"])
    def test_reads(self, name: str, quantity: str) -> None:
        assert get(name).reads(quantity) == (quantity in KNOWN[name].inputs.replace("_chosen", "").split())

    @pytest.mark.parametrize("name", names())
    def test_what_is_read_off(self, name: str) -> None:
        made, known = get(name), KNOWN[name]
        assert made.margins == set(known.margins.split())
        assert made.label_free == known.label_free
        assert made.needs_reward == known.needs_reward
        assert made.needs_gamma == known.needs_gamma
        assert made.on_policy == known.on_policy
        assert made.ensemble == known.ensemble
        assert (made.tuned.name if made.tuned else None) == known.tuned

    @pytest.mark.parametrize("name", names())
    def test_hyperparameters(self, name: str) -> None:
        assert {p.name: (p.default, p.range) for p in get(name).hyperparameters} == HYPERPARAMETERS[name]

    @pytest.mark.parametrize("name", names())
    def test_described(self, name: str) -> None:
        made = get(name)
        assert made.title
        assert not made.title.endswith(".")
        assert made.sections["equation"]
        assert made.sections["source"]
        assert all(p.about.meaning for p in made.hyperparameters)

    def test_titles_differ(self) -> None:
        assert len({get(name).title for name in names()}) == len(names())

    @pytest.mark.parametrize("name", names())
    def test_annealed(self, name: str) -> None:
        annealed = {p.name: p.about.anneal for p in get(name).hyperparameters if p.about.anneal}
        assert annealed == ({"lambda_": (1e-4, 1e-2)} if name in ("p-dpo", "dp-dpo", "e-dpo") else {})

    def test_sections_are_parsed(self) -> None:
        sections = get("dpo").sections
        assert sections["title"] == "Direct preference optimisation (DPO)"
        assert sections["equation"] == "−log σ(β(Δlogπ − Δlogπ_ref))"
        assert sections["source"].startswith("unified eq. 6; drdo eq. 3")
        assert "note" not in sections
        assert get("rebel").sections["note"] == "label-free"

    def test_one_module_one_objective(self) -> None:
        machinery = {"numerics", "pair", "registry", "user"}
        modules = {m.name for m in pkgutil.iter_modules(theory.objectives.__path__)} - machinery
        assert {m.replace("_", "-") for m in modules} == set(KNOWN)
        for module in modules:
            path = f"theory.objectives.{module}"
            defined = [n for n in KNOWN if get(n).function.__module__ == path]
            assert defined == [module.replace("_", "-")]
            # The decorated function stays what the module exports.
            assert getattr(importlib.import_module(path), module) is get(module).function


class TestGet:
    @pytest.mark.parametrize("name", names())
    def test_underscores_and_hyphens(self, name: str) -> None:
        assert get(name).name == name
        assert get(name.replace("-", "_")) is get(name)

    @pytest.mark.parametrize(("typed", "meant"), [("rkll", "rkl"), ("pref_distil", "pref-distill"), ("drod", "drdo")])
    def test_suggests_the_nearest(self, typed: str, meant: str) -> None:
        with pytest.raises(UserError) as caught:
            get(typed)
        assert str(caught.value) == f"--method {typed}: is not a known objective; did you mean {meant}?"

    def test_lists_all_when_nothing_is_near(self) -> None:
        with pytest.raises(UserError, match=r"--method zzzzzz: is not a known objective; known: chipo, d-dpo, .*, simpo$"):
            get("zzzzzz")


def rejects(name: str, parameter: str, value: float) -> str:
    """The one line that refuses a value."""
    with pytest.raises(UserError) as caught:
        get(name).resolve({parameter: value})
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestRanges:
    @pytest.mark.parametrize(("name", "parameter"), EACH_HYPERPARAMETER)
    def test_refused(self, name: str, parameter: str) -> None:
        option, interval = "--" + parameter.strip("_").replace("_", "-"), HYPERPARAMETERS[name][parameter][1]
        for value, written in [(-0.5, "-0.5"), (float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")]:
            assert rejects(name, parameter, value) == f"{option} {written}: must lie in {interval}"

    @pytest.mark.parametrize(("name", "parameter"), EACH_HYPERPARAMETER)
    def test_zero(self, name: str, parameter: str) -> None:
        if HYPERPARAMETERS[name][parameter][1] == POSITIVE:
            assert rejects(name, parameter, 0.0).endswith(" 0: must lie in (0, inf)")
        else:
            assert get(name).resolve({parameter: 0.0})[parameter] == 0

    @pytest.mark.parametrize(("name", "parameter"), EACH_HYPERPARAMETER)
    def test_accepted(self, name: str, parameter: str) -> None:
        for value in (1e-12, 1, 1e6):
            resolved = get(name).resolve({parameter: value})
            defaults = {n: default for n, (default, _) in HYPERPARAMETERS[name].items()}
            assert resolved == {**defaults, parameter: value}
            assert all(isinstance(v, float) for v in resolved.values())

    def test_unknown_hyperparameter(self) -> None:
        with pytest.raises(UserError) as caught:
            get("simpo").resolve({"margin_": 1.0})
        assert str(caught.value) == "--margin: is no hyperparameter of simpo; it has --beta, --target-margin"
        with pytest.raises(UserError, match=r"--beta: is no hyperparameter of sft; it has none$"):
            get("sft").resolve({"beta": 1.0})

    def test_bounded_above(self) -> None:
        def smoothed(pair: Pair, *, eps: Annotated[float, Hyper("flip rate", low=0, high=0.5)] = 0.1) -> Tensor:
            return pair.logp_margin * eps

        made = make(smoothed)
        assert made.hyperparameters[0].range == "[0, 0.5]"
        assert made.resolve({"eps": 0.5}) == {"eps": 0.5}
        with pytest.raises(UserError, match=r"--eps 0.6: must lie in \[0, 0.5\]"):
            made.resolve({"eps": 0.6})

    def test_unbounded(self) -> None:
        def shift(pair: Pair, *, c: float = -2) -> Tensor:
            return pair.logp_margin - c

        made = make(shift)
        assert made.hyperparameters[0].range == "(-inf, inf)"
        assert made.resolve({"c": -1e9}) == {"c": -1e9}
        with pytest.raises(UserError, match="--c -inf: "):
            made.resolve({"c": float("-inf")})


class TestMade:
    """What is read off a function of one's own, which no default may hide."""

    def test_a_term_that_is_off_by_default_is_still_seen(self) -> None:
        def padded(pair: Pair, *, weight: float = 0.0) -> Tensor:
            return torch.nn.functional.softplus(-pair.logp_margin) - weight * pair.logp_chosen

        # At weight 0 this is a function of the margin; a solver that believed so would be wrong at weight 1.
        assert make(padded).margins == set()

    def test_a_term_that_vanishes_at_gamma_one_is_still_seen(self) -> None:
        def bent(pair: Pair, *, gamma: float) -> Tensor:
            return pair.logp_margin**2 + (gamma - 1) * pair.logp_chosen

        assert make(bent).margins == set()

    def test_an_input_that_is_read_at_other_values_only_is_still_seen(self) -> None:
        def anchored(pair: Pair, *, weight: float = 0.0) -> Tensor:
            plain = -pair.logp_margin
            return plain + weight * pair.ref_margin if weight else plain

        assert make(anchored).inputs == expand("logp ref_logp")

    def test_a_label_that_cancels_at_the_default_is_still_seen(self) -> None:
        def mixed(pair: Pair, *, share: Annotated[float, Hyper(low=0, high=1)] = 0.5) -> Tensor:
            return share * pair.logp_margin.exp() + (1 - share) * (-pair.logp_margin).exp()

        assert not make(mixed).label_free

    def test_inputs_read_through_a_swapped_pair(self) -> None:
        def conservative(pair: Pair, *, flip: float = 0.1) -> Tensor:
            dpo = get("dpo").function
            return (1 - flip) * dpo(pair) + flip * dpo(pair.swapped())

        assert make(conservative).inputs == expand("logp ref_logp")
        assert make(conservative).margins == {"logp"}

    def test_inputs_read_through_copies(self) -> None:
        def copied(pair: Pair) -> Tensor:
            return pair.map(torch.exp).replace(ref_logp_chosen=torch.zeros(64)).swapped().reward_rejected

        assert make(copied).inputs == {"reward_chosen"}

    @pytest.mark.parametrize("hyper", [{}, {"gamma": 2.0}])
    def test_gamma_reaches_only_those_who_name_it(self, hyper: dict[str, float]) -> None:
        def scaled(pair: Pair, gamma: float, *, beta: float = 3.0) -> Tensor:
            return gamma * beta * pair.logp_chosen

        pair = Pair(logp_chosen=torch.tensor([-1.0]))
        assert make(scaled).terms(pair, **hyper).loss.item() == -3 * hyper.get("gamma", 1.0)
        assert [p.name for p in make(scaled).hyperparameters] == ["beta"]
        assert get("sft").terms(pair, **hyper).loss.item() == 1.0

    def test_tuned_is_the_marked_one_even_beside_a_beta(self) -> None:
        def both(pair: Pair, *, beta: float = 1.0, tau: Annotated[float, Hyper("target", tuned=True)] = 2.0) -> Tensor:
            return beta * pair.logp_margin - tau

        assert make(both).tuned.name == "tau"

    def test_without_a_docstring(self) -> None:
        def bare(pair: Pair) -> Tensor:
            return -pair.logp_chosen

        assert make(bare).sections == {"title": "bare"}


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a user's file; what it registers is forgotten after the test."""
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))

    def write(text: str) -> str:
        path = tmp_path / "mine.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


HINGE = '''
    from __future__ import annotations

    from typing import TYPE_CHECKING, Annotated

    from theory.objectives import Hyper, Pair, Terms

    if TYPE_CHECKING:
        from torch import Tensor


    def slack(
        pair: Pair,
        *,
        gamma: float,
        width: Annotated[float, Hyper("width of the hinge", low=0, open_low=True)] = 1.5,
        shift: int = 2,
    ) -> Tensor:
        """A hinge.

        Equation: (w − γΔlogπ)₊ + s
        """
        return (width - gamma * pair.logp_margin).clamp(min=0) + shift


    def anchored(pair: Pair, *, kl: float = 0.25) -> Terms:
        return Terms(-pair.logp_chosen, kl=kl)


    def on_policy(pair: Pair, *, beta: float = 0.5) -> Terms:
        return Terms(reward=1.0, kl=beta)
'''


class TestLoad:
    def test_a_plain_function(self, write: Callable[[str], str]) -> None:
        made = load(write(HINGE) + ":slack")
        assert isinstance(made, Objective)
        assert made.name == "slack"
        assert made.sections == {"title": "A hinge", "equation": "(w − γΔlogπ)₊ + s"}
        assert [(p.name, p.default, p.range) for p in made.hyperparameters] == [
            ("width", 1.5, "(0, inf)"),
            ("shift", 2.0, "(-inf, inf)"),
        ]
        assert made.hyperparameters[0].about.meaning == "width of the hinge"
        assert made.needs_gamma
        assert made.inputs == expand("logp")
        assert made.margins == {"logp"}
        assert not made.label_free
        # Margins −1 and 3 at γ = 2: 1.5 + 2 and 0, plus the shift.
        pair = Pair(logp_chosen=torch.tensor([-2.0, -1.0]), logp_rejected=torch.tensor([-1.0, -4.0]))
        assert made.terms(pair, gamma=2.0).loss.tolist() == [5.5, 2.0]
        assert made.terms(pair, gamma=2.0, width=7.0, shift=0.0).loss.tolist() == [9.0, 1.0]

    def test_a_range_survives_annotations_that_only_a_type_checker_reads(self, write: Callable[[str], str]) -> None:
        with pytest.raises(UserError, match=r"--width 0: must lie in \(0, inf\)"):
            load(write(HINGE) + ":slack").resolve({"width": 0.0})

    def test_a_plain_function_is_not_registered(self, write: Callable[[str], str]) -> None:
        load(write(HINGE) + ":slack")
        assert set(names()) == set(KNOWN)

    def test_terms(self, write: Callable[[str], str]) -> None:
        made = load(write(HINGE) + ":anchored")
        assert made.on_policy
        assert made.inputs == {"logp_chosen"}
        terms = made.terms(Pair(logp_chosen=torch.tensor([-3.0])), kl=0.75)
        assert isinstance(terms, Terms)
        assert (terms.loss.item(), terms.kl) == (3.0, 0.75)

    def test_terms_without_a_loss(self, write: Callable[[str], str]) -> None:
        made = load(write(HINGE) + ":on_policy")
        assert not made.has_loss
        assert made.needs_reward
        assert made.tuned.name == "beta"

    def test_a_decorated_function(self, write: Callable[[str], str]) -> None:
        path = write("""
            from theory.objectives import Pair, objective

            @objective(convex=True)
            def my_loss(pair: Pair, *, beta: float = 0.5):
                return -beta * pair.logp_margin
        """)
        made = load(path + ":my_loss")
        assert made.name == "my-loss"
        assert made.convex
        assert get("my-loss") is made
        assert load(path + ":my_loss").name == "my-loss"  # a second time, as in a notebook

    def test_a_built_in_through_the_users_file(self, write: Callable[[str], str]) -> None:
        path = write("from theory.objectives.dpo import dpo")
        assert load(path + ":dpo") is get("dpo")

    def test_an_undecorated_namesake_shadows_nothing(self, write: Callable[[str], str]) -> None:
        built_in = get("dpo")
        made = load(write("def dpo(pair): return -pair.logp_margin") + ":dpo")
        assert made is not built_in
        assert made.inputs == expand("logp")
        assert get("dpo") is built_in


BAD = "def good(pair): return -pair.logp_chosen\n"


def refusal(specification: str) -> str:
    with pytest.raises(UserError) as caught:
        load(specification)
    assert str(caught.value).startswith("--objective ")
    return str(caught.value)


class TestLoadRefuses:
    @pytest.mark.parametrize("specification", ["dpo", "mine.py", ":slack", "mine.py:", ":"])
    def test_what_is_no_file_and_name(self, specification: str) -> None:
        assert refusal(specification) == f"--objective {specification}: give it as path/to/file.py:name"

    def test_a_missing_file(self, tmp_path: Path) -> None:
        path = tmp_path / "nowhere.py"
        assert refusal(f"{path}:loss") == f"--objective {path}:loss: there is no file {path}"

    def test_a_folder(self, tmp_path: Path) -> None:
        assert refusal(f"{tmp_path}:loss").endswith(f"there is no file {tmp_path}")

    def test_a_file_that_is_not_python(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text(BAD)
        assert refusal(f"{path}:good").endswith("is not a Python file (its name must end in .py)")

    def test_a_missing_function(self, write: Callable[[str], str]) -> None:
        path = write(BAD + "def _hidden(pair): return 0\nNUMBER = 3\n")
        assert refusal(f"{path}:goood").endswith("has no function goood; did you mean good?")
        assert refusal(f"{path}:zzz").endswith("has no function zzz; known: good")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("NUMBER = 3", "NUMBER"),
            ("class Loss: pass", "Loss"),
            ("from functools import partial\nhalf = partial(print)", "half"),
        ],
    )
    def test_what_is_not_a_function(self, write: Callable[[str], str], text: str, name: str) -> None:
        assert f"has no function {name}; " in refusal(f"{write(BAD + text)}:{name}")

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("import no_such_package_at_all", "ModuleNotFoundError: No module named 'no_such_package_at_all'"),
            ("def f(pair: return", "SyntaxError: "),
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("raise SystemExit(3)", "SystemExit: 3"),
        ],
    )
    def test_a_file_that_fails(self, write: Callable[[str], str], text: str, cause: str) -> None:
        assert f"could not be imported: {cause}" in refusal(f"{write(text)}:f")

    @pytest.mark.parametrize("parameter", ["beta='a'", "beta=None", "beta=True", "beta", "*more", "**more"])
    def test_a_default_that_is_no_number(self, write: Callable[[str], str], parameter: str) -> None:
        path = write(f"def f(pair, {parameter}): return -pair.logp_chosen")
        name = parameter.split("=")[0].strip("*")
        assert refusal(f"{path}:f") == f"--objective f: hyperparameter {name} needs a number as default"

    @pytest.mark.parametrize(
        "result",
        [
            "-pair.logp_chosen.mean()",
            "-pair.logp_chosen.mean(0, keepdim=True)",
            "-pair.logp_chosen - pair.logp_rejected[:, None]",
            "0.0",
        ],
    )
    def test_a_loss_that_is_not_one_number_for_each_pair(self, write: Callable[[str], str], result: str) -> None:
        path = write(f"def f(pair): return {result}")
        assert refusal(f"{path}:f").endswith("must return the unreduced loss: one number for each pair")

    @pytest.mark.parametrize("text", ["def f(pair): -pair.logp_chosen", "def f(pair): return Terms(kl=0.0)"])
    def test_a_function_that_says_nothing(self, write: Callable[[str], str], text: str) -> None:
        path = write("from theory.objectives import Terms\n" + text)
        assert refusal(f"{path}:f").endswith("must return a loss or Terms; it returned neither")

    def test_an_unknown_attribute(self, write: Callable[[str], str]) -> None:
        message = refusal(f"{write('def f(pair): return -pair.logp_winner')}:f")
        assert "needs an input that the table cannot give: Pair has no logp_winner; it has logp_chosen, " in message

    @pytest.mark.parametrize(
        ("text", "cause"),
        [
            ("def f(): return 0", "TypeError: f() takes 0 positional arguments but 1 was given"),
            ("def f(pair): return pair.logp_chosen @ [1]", "TypeError: "),
            # Fails only away from the default, or only on the swapped pair that label-freeness is read off.
            ("def f(pair, c=0.0): return pair.logp_chosen * (1 if c == 0 else [1, 2])", "Error: "),
            (
                "import torch\ndef f(pair):\n  assert pair.reward_chosen[0] > pair.reward_rejected[0]\n  return pair.logp_chosen",
                "AssertionError",
            ),
        ],
    )
    def test_a_function_that_fails(self, write: Callable[[str], str], text: str, cause: str) -> None:
        message = refusal(f"{write(text)}:f")
        assert "failed on a batch of pairs: " in message
        assert cause in message

    def test_a_decorated_function_with_a_built_in_name(self, write: Callable[[str], str]) -> None:
        built_in = get("rkl")
        path = write("""
            from theory.objectives import objective

            @objective()
            def rkl(pair):
                return -pair.logp_chosen
        """)
        assert "rkl: is already registered by theory.objectives.rkl" in refusal(f"{path}:rkl")
        assert get("rkl") is built_in


@pytest.mark.parametrize("body", ["math.exp(beta) * pair.logp_margin", "(beta if beta > 1 else 2 * beta) * pair.logp_margin"])
def test_a_function_that_takes_numbers_only_is_refused_when_it_is_loaded(tmp_path, body):
    file = tmp_path / "mine.py"
    file.write_text(f"import math\n\ndef mine(pair, *, beta=0.5):\n    return {body}\n")
    with pytest.raises(UserError, match="hyperparameters as tensors"):
        load(f"{file}:mine")
