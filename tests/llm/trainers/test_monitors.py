import math

import pytest
import torch

from llm.trainers.monitors import CHOSEN_LOSS, OPENING, Monitor

CHOSEN, REJECTED = torch.tensor([-2.0, -4.0]), torch.tensor([-5.0, -3.0])
REWARDS = torch.tensor([1.0, 0.2]), torch.tensor([0.5, 0.4])


def sides(chosen, rejected):
    return {"chosen": chosen, "rejected": rejected}


def metrics(monitor, chosen, rejected, ref, rewards):
    """Of both sides; ``ref`` and ``rewards`` are pairs."""
    return monitor.metrics(sides(chosen, rejected), sides(*ref) if ref else {}, sides(*rewards))


def test_numbers_of_a_batch_by_hand():
    found = metrics(Monitor(), CHOSEN, REJECTED, (torch.tensor([-3.0, -3.5]), torch.tensor([-4.0, -4.0])), REWARDS)
    assert found["logps/chosen"] == -3
    assert found["logps/rejected"] == -4
    assert found["logps/chosen_change"] == pytest.approx(-3 + 3.25)
    assert found["logps/rejected_change"] == pytest.approx(0)
    assert found["logps/margin_growth"] == pytest.approx((-3 + 4) - (-3.25 + 4))
    assert found["rewards/chosen"] == pytest.approx(0.6)
    assert found["rewards/rejected"] == pytest.approx(0.45)
    assert found["rewards/margins"] == pytest.approx(0.15)
    assert found["rewards/accuracies"] == 0.5
    assert found["degenerate"] == 0


def test_a_pair_is_nondeterministic_while_its_implied_preference_is_near_a_half():
    edge = math.log(0.6 / 0.4)
    margins = torch.tensor([0.0, 0.99 * edge, -0.99 * edge, 1.01 * edge, -5.0])
    found = metrics(Monitor(), margins, margins, None, (margins, torch.zeros(5)))
    assert found["nondeterministic"] == pytest.approx(3 / 5)


def test_without_a_reference_the_first_batches_are_the_start():
    monitor = Monitor()
    for value in range(OPENING):
        metrics(monitor, torch.tensor([float(value)]), torch.tensor([0.0]), None, REWARDS)
    mean = (OPENING - 1) / 2
    for value in (10.0, -7.0):
        found = metrics(monitor, torch.tensor([value]), torch.tensor([1.0]), None, REWARDS)
        assert found["logps/chosen_change"] == pytest.approx(value - mean)
        assert found["logps/rejected_change"] == pytest.approx(1)
        assert found["logps/margin_growth"] == pytest.approx((value - 1) - mean)


@pytest.mark.parametrize(
    ("chosen", "rejected", "alarm"),
    [
        (-CHOSEN_LOSS - 1, -CHOSEN_LOSS - 5, 1),  # the chosen sink, the rejected sink more
        (-CHOSEN_LOSS + 1, -CHOSEN_LOSS - 5, 0),  # not far enough
        (-CHOSEN_LOSS - 5, -CHOSEN_LOSS - 1, 0),  # the margin shrinks: unlearning, not degeneration
        (5, 0, 0),
    ],
)
def test_the_alarm_is_for_chosen_responses_that_sink_while_the_margin_grows(chosen, rejected, alarm):
    zero = torch.zeros(1)
    found = metrics(Monitor(), torch.tensor([float(chosen)]), torch.tensor([float(rejected)]), (zero, zero), (zero, zero))
    assert found["degenerate"] == alarm
