import math

import numpy as np
import pytest
from scipy.stats import entropy

from paper_checks.unified import degenerate


def excess(epsilon, gamma, beta, loser=0.5):
    """PMLE's value less its value at the boundary, written out for two responses."""
    epsilon = np.asarray(epsilon)
    loss = np.log1p((epsilon / (1 - epsilon)) ** gamma)
    divergence = epsilon * np.log(epsilon / loser) + (1 - epsilon) * np.log((1 - epsilon) / (1 - loser))
    return loss + beta * (divergence + math.log(1 - loser))


@pytest.mark.parametrize(("gamma", "beta", "loser"), [(0.5, 0.05, 0.5), (2.0, 0.3, 0.1)])
def test_pmle_excess_written_out(gamma, beta, loser):
    for epsilon in (1e-9, 0.01, 0.6):
        assert degenerate.pmle_excess(epsilon, gamma, beta, loser) == pytest.approx(excess(epsilon, gamma, beta, loser), rel=1e-9)


@pytest.mark.parametrize(("gamma", "beta"), [(0.1, 0.1), (0.5, 0.1), (0.5, 0.01)])
def test_boundary_is_proved_and_no_grid_point_contradicts_it(gamma, beta):
    cover, tail = degenerate.boundary_is_global(gamma, beta)
    assert cover.proved
    assert tail
    assert (excess(np.geomspace(1e-25, 0.999, 4000), gamma, beta) > 0).all()


@pytest.mark.parametrize(("gamma", "beta"), [(0.5, 2.0), (0.9, 0.5)])
def test_above_the_critical_weight_there_is_no_proof(gamma, beta):
    assert excess(np.geomspace(1e-6, 0.5, 4000), gamma, beta).min() < 0
    assert not degenerate.boundary_is_global(gamma, beta)[0].proved


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_critical_weight_by_a_grid(gamma):
    weight, grid = degenerate.critical_weight(gamma), np.geomspace(1e-12, 0.999, 200_000)
    assert excess(grid, gamma, weight * 0.999).min() > 0
    assert excess(grid, gamma, weight * 1.001).min() < 0


@pytest.mark.parametrize(("gamma", "beta"), [(1.0, 0.05), (2.0, 0.1)])
def test_loser_mass_by_a_grid(gamma, beta):
    grid = np.geomspace(1e-12, 0.5, 400_000)
    best = grid[excess(grid, gamma, beta).argmin()]
    assert degenerate.loser_mass(gamma, beta) == pytest.approx(math.log10(best), abs=0.01)


def test_loser_mass_at_gamma_one_has_a_closed_form():
    # 1 + e^θ + βθ = 0, and e^θ is beyond rounding.
    assert degenerate.loser_mass(1.0, 0.02) == pytest.approx(-50 / math.log(10), rel=1e-9)


def test_slope_is_that_of_the_objective():
    theta, step = 0.7, 1e-5
    epsilon = 1 / (1 + math.exp(-theta))
    ahead, behind = (degenerate.pmle_excess(1 / (1 + math.exp(-theta - s)), 0.5, 0.3, 0.2) for s in (step, -step))
    slope = float(degenerate.pmle_slope(np.array(theta), 0.5, 0.3, 0.2)) * epsilon * (1 - epsilon)
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-8)


def test_dpo_value_is_the_entropy_of_the_labels():
    values = degenerate.dpo_values((0.0001, 0.7))
    assert list(values.values()) == pytest.approx([entropy([0.8, 0.2])] * 2)


def test_structure_needs_the_labels_to_be_one_way():
    assert degenerate.drained(degenerate.unanimous(1.0, (0.5, 0.5)), "dpo") == "boundary"
    assert degenerate.drained(degenerate.unanimous(2.0, (0.5, 0.5)), "pmle", beta=0.1) == "interior"
    assert degenerate.drained(degenerate.unanimous(0.5, (0.5, 0.5)), "pmle", beta=0.1) == "undecided"


def test_toy_data_sets_stop_being_degenerate():
    assert degenerate.degenerate_share(100, 5) == 1
    assert degenerate.degenerate_share(10_000_000, 5) == 0
