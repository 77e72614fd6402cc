"""Efficiency: the constant and floors by formula, half-lives of known curves, what is drawn and said."""

import numpy as np
import pandas as pd
import pytest

from figures.build import render
from figures.gallery.efficiency import FIGURE, Config, half_life, leaders
from tests.figures.gallery import closed_forms
from theory import objectives

METHODS = ("reward", "rkl", "rlhf", "sft")
SIZES = (10.0**4, 10.0**6, 10.0**8)


@pytest.fixture(scope="module")
def data():
    left_out = tuple(name for name in objectives.names() if name not in METHODS)
    return FIGURE.data(Config(left_out, (4, 8, 2), 12))


@pytest.fixture(scope="module")
def facts(data):
    return data[data["part"] == "method"].set_index("method")


def test_every_registered_method_is_there_unless_it_is_left_out(data):
    assert Config().without == ()
    assert set(data["method"]) == set(METHODS)
    assert set(FIGURE.fast.without) < set(objectives.names())


def test_efficiency_is_the_cramer_rao_constant_over_n_times_the_error(data):
    runs = data[data["part"] == "run"]
    product = runs["efficiency"] * runs["n"] * runs["forward_kl"]
    assert product.to_numpy() == pytest.approx(closed_forms.cramer_rao())
    assert sorted(runs["n"].unique()) == list(SIZES)


def test_floors_by_formula(facts):
    assert facts.loc["rlhf", "floor"] == pytest.approx(closed_forms.rlhf_floor(), rel=1e-5)
    assert facts.loc["sft", "floor"] == pytest.approx(closed_forms.sft_floor(), rel=1e-5)
    assert facts.loc["rkl", "floor"] == pytest.approx(0, abs=1e-12)


def test_only_consistent_methods_stay_efficient(data, facts):
    assert np.isinf(facts.loc[["reward", "rkl"], "half"]).all()
    # Past 4c/floor even an error of half the floor would be too much.
    assert (facts.loc[["rlhf", "sft"], "half"] < 4 * closed_forms.cramer_rao() / closed_forms.rlhf_floor() + SIZES[0]).all()
    assert facts.loc["rkl", "leader"] == facts.loc["reward", "leader"] == "reward"
    assert facts.loc["sft", "leader"] != "reward"


def test_half_life_of_known_curves():
    sizes = np.geomspace(1e2, 1e8, 601)
    assert half_life(sizes, 1 / (1 + sizes / 3e4)) == pytest.approx(3e4, rel=1e-3)
    assert half_life(sizes, np.full(601, 0.51)) == np.inf
    assert half_life(sizes, np.full(601, 0.49)) == 1e2
    assert half_life([10.0, 100.0, 1000.0, 10000.0], [0.4, 1.0, 0.75, 0.25]) == pytest.approx(10**3.5)


def test_curves_within_a_hair_have_one_leader():
    curves = {"a": [1.0, 0.5], "b": [1.01, 0.49], "c": [1.0, 0.4], "d": [1.02, 0.41]}
    assert leaders(curves) == {"a": "a", "b": "a", "c": "c", "d": "c"}


def test_the_picture_holds_the_table(data, facts):
    left, right = render(FIGURE, data).axes
    runs = data[data["part"] == "run"]
    drawn = {line.get_label(): line for line in left.lines}
    assert set(drawn) == {*facts["leader"], "Cramér–Rao limit"}
    assert drawn["Cramér–Rao limit"].get_ydata() == pytest.approx(1)
    for leader in facts["leader"].unique():
        errors = runs[runs["method"] == leader].groupby("n")["forward_kl"].mean()
        assert drawn[leader].get_ydata() == pytest.approx(closed_forms.cramer_rao() / (errors.index * errors))
    names = [label.get_text() for label in right.get_yticklabels()]
    assert sorted(names) == sorted(METHODS)
    ends = {names[int(line.get_ydata()[0])]: line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 1}
    assert ends == pytest.approx(np.minimum(facts["half"], SIZES[-1]).to_dict())
    assert [text.get_text() for text in right.texts].count("never") == 2


def test_the_caption_holds_the_numbers(data, facts):
    text = FIGURE.caption(data)
    end = data[(data["part"] == "run") & (data["method"] == "rkl") & (data["n"] == SIZES[-1])]["forward_kl"]
    assert abs(end.mean() * SIZES[-1] / closed_forms.cramer_rao() - 1) < 2.6 * end.sem() / end.mean()  # the limit is inside
    assert text.startswith("The reward model and RKL use the whole information in 1e8 comparisons, within a sampling error of ")
    assert f"The other 2 stop at floors of {facts.loc['rlhf', 'floor']:.2g} to {facts.loc['sft', 'floor']:.2g} nats" in text
    assert "and all use less than half from n = 1.0e4 on" in text
    assert text.count(". ") == 1


def _table(floors, halves):
    runs = [("run", m, 100.0, s, 0.01 * (1, 1.1)[s], 1 / (1, 1.1)[s]) for m in floors for s in (0, 1)]
    table = pd.DataFrame(runs, columns=["part", "method", "n", "seed", "forward_kl", "efficiency"])
    facts = pd.DataFrame({"part": "method", "method": list(floors), "floor": list(floors.values()), "half": halves})
    return pd.concat([table, facts.assign(leader=facts["method"])], ignore_index=True)


@pytest.mark.parametrize(
    ("floors", "halves", "said"),
    [
        ({"rkl": 0.0}, [np.inf], "None of the methods has a floor"),
        ({"rkl": 0.2}, [1e3], "No method reaches the target"),
        ({"rkl": 0.0, "dpo": 1e-5}, [np.inf, np.inf], "none of them is yet below half"),
    ],
)
def test_the_caption_notices_other_outcomes(floors, halves, said):
    assert said in FIGURE.caption(_table(floors, halves))
