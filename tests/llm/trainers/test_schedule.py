import pytest

from llm.trainers.schedule import Schedule
from tests.llm import small
from theory import objectives
from theory.errors import UserError


def test_without_annealing_nothing_moves():
    schedule = Schedule.of(objectives.get("p-dpo"), {"beta": 0.3})
    assert schedule.at(0.0) == schedule.at(0.7) == {"beta": 0.3, "lambda_": 1e-2}
    assert schedule.annealed == {}


def test_a_range_is_crossed_linearly():
    schedule = Schedule.of(objectives.get("p-dpo"), {}, anneal=True)
    assert schedule.at(0.0)["lambda_"] == pytest.approx(1e-4)
    assert schedule.at(0.25)["lambda_"] == pytest.approx(1e-4 + 0.25 * (1e-2 - 1e-4))
    assert schedule.at(1.0)["lambda_"] == pytest.approx(1e-2)
    assert schedule.at(0.25)["beta"] == schedule.at(1.0)["beta"] == 0.1


def test_a_value_that_is_given_stays():
    schedule = Schedule.of(objectives.get("p-dpo"), {"lambda_": 0.5}, anneal=True)
    assert schedule.at(0.0) == schedule.at(1.0) == {"beta": 0.1, "lambda_": 0.5}


@pytest.mark.parametrize("name", small.trainable())
def test_every_objective_starts_at_its_defaults(name):
    known = objectives.get(name)
    assert Schedule.of(known, {}).at(0.0) == {p.name: p.default for p in known.hyperparameters}


def test_bad_values():
    with pytest.raises(UserError, match="--bta: is no hyperparameter of dpo; it has --beta"):
        Schedule.of(objectives.get("dpo"), {"bta": 1.0})
    with pytest.raises(UserError, match="--beta 0: must lie in"):
        Schedule.of(objectives.get("dpo"), {"beta": 0.0})
