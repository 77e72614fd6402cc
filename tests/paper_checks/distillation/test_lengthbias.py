"""The tabular length-bias experiment against sampling, least squares in numpy, and its own parts."""

import numpy as np
import pytest
import torch

from paper_checks.distillation import lengthbias
from paper_checks.distillation.lengthbias import Design
from theory import objectives
from theory.solvers.selection import Search

SMALL = Design(prompts=20, new_prompts=10, responses=5, qualities=2)
TABLE = Design(prompts=20, new_prompts=0, responses=5, qualities=2, policy_features=False, reward_features=False)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_longer_is_preferred_in_61_percent_of_sampled_comparisons(noise):
    design = Design(prompts=20, responses=5, noise=noise, scale=1.5)
    world = lengthbias.make_world(design, 0)
    rng = np.random.default_rng(0)
    longer = won = 0
    for _ in range(20_000):
        x = rng.integers(design.prompts)
        i, j = rng.choice(design.responses, 2, p=np.exp(world.log_ref[x]))
        tokens = np.exp(design.length_sd * world.features[x, :, 0])
        if i == j or max(tokens[i], tokens[j]) < 1.1 * min(tokens[i], tokens[j]):
            continue
        margin = world.oracle[x, i] - world.oracle[x, j]
        first = margin > 0 if noise == 0 else rng.random() < 1 / (1 + np.exp(-margin))
        longer += 1
        won += first == (tokens[i] > tokens[j])
    assert won / longer == pytest.approx(0.61, abs=4 * 0.5 / np.sqrt(longer))


def test_training_sets_have_their_share_and_only_pairs_with_a_longer_response():
    world = lengthbias.make_world(SMALL, 1)
    wins = lengthbias.draw_biased(world, 0.3, 1000, np.random.default_rng(0))
    assert wins.shape == (20, 5, 5)
    assert wins.sum() == 1000
    assert wins[world.longer].sum() == 300
    assert wins[world.longer.transpose(0, 2, 1)].sum() == 700


def test_labels_are_the_oracles():
    world = lengthbias.make_world(SMALL, 1)
    x, i, j = np.nonzero(lengthbias.draw_biased(world, 0.2, 1000, np.random.default_rng(0)))
    assert (world.oracle[x, i] > world.oracle[x, j]).all()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_reweighted_subsets_have_the_bias_asked_for(share):
    world = lengthbias.make_world(SMALL, 1)
    wins = lengthbias.draw_biased(world, 0.3, 1000, np.random.default_rng(0))
    subset = lengthbias.reweighted(wins, world.longer, 0.3, share)
    assert subset[world.longer].sum() / subset.sum() == pytest.approx(share)
    assert (subset <= wins + 1e-12).all()
    assert (subset == wins)[wins > 0].any()


def test_policies_on_all_prompts_agree_on_the_training_ones():
    world = lengthbias.make_world(SMALL, 2)
    wins = lengthbias.draw_biased(world, 0.5, 500, np.random.default_rng(0))[None]
    task = lengthbias.task_of(world, wins, SMALL)
    logp = Search(objectives.get("dpo"), [task]).at({"beta": 1.0}).fits[0].logp
    everywhere = lengthbias.on_all_prompts(world, logp, SMALL)
    np.testing.assert_allclose(everywhere[:, : SMALL.prompts], logp.numpy(), rtol=0, atol=1e-10)
    assert everywhere.shape == (1, 40, 5)
    np.testing.assert_allclose(np.exp(everywhere).sum(-1), 1)


def test_reference_is_in_the_policy_class():
    world = lengthbias.make_world(SMALL, 2)
    reference = torch.from_numpy(world.log_ref[None, : SMALL.prompts])
    np.testing.assert_allclose(lengthbias.on_all_prompts(world, reference, SMALL)[0], world.log_ref, atol=1e-10)


def test_a_row_by_hand():
    """IPO on tables, recomputed with least squares in numpy at the chosen τ."""
    (row,) = lengthbias.advantage_curves([0.4], ["ipo"], [3], TABLE)
    world = lengthbias.make_world(TABLE, 3)
    rng = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(21, 400)))
    wins = lengthbias.draw_biased(world, 0.4, 600, rng)
    gains = []
    for x in range(1, TABLE.prompts, 2):
        weight = wins[x] / wins[x].sum()
        laplacian = np.diag((weight + weight.T).sum(1)) - weight - weight.T
        # The ridge is ½·(0.01/n_x)·‖centred log-ratio‖².
        laplacian += TABLE.ridge / wins[x].sum() / 2 * (np.eye(5) - 0.2)
        ratio = np.linalg.pinv(laplacian) @ (weight.sum(1) - weight.sum(0)) / (2 * row["hyper"])
        policy = np.exp(world.log_ref[x] + ratio)
        gains.append((policy / policy.sum() - np.exp(world.log_ref[x])) @ world.oracle[x])
    assert row["advantage"] == pytest.approx(np.mean(gains), rel=1e-6)
    assert row["advantage_sd"] == pytest.approx(np.mean(gains) / world.unit, rel=1e-6)


def test_rows_are_the_same_beside_other_rhos_and_seeds():
    alone = lengthbias.advantage_curves([0.2], ["d-dpo", "e-dpo-length"], [1], SMALL)
    beside = lengthbias.advantage_curves([0.2, 0.8], ["d-dpo", "e-dpo-length"], [0, 1], SMALL)
    beside = [row for row in beside if row["seed"] == 1 and row["rho"] == 0.2]
    assert [row["hyper"] for row in alone] == [row["hyper"] for row in beside]
    assert [row["advantage"] for row in alone] == pytest.approx([row["advantage"] for row in beside], abs=1e-8)
    assert len(lengthbias.advantage_curves([0.2, 0.8], ["dpo"], [0, 1], SMALL)) == 4


def test_the_chosen_value_is_the_best_on_validation_prompts():
    (row,) = lengthbias.advantage_curves([0.5], ["dpo"], [0], SMALL)
    world = lengthbias.make_world(SMALL, 0)
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(21, 500)))
    task = lengthbias.task_of(world, lengthbias.draw_biased(world, 0.5, 600, rng)[None], SMALL)
    scores = {}
    for beta in lengthbias.BETAS:
        policy = lengthbias.on_all_prompts(world, Search(objectives.get("dpo"), [task]).at({"beta": beta}).fits[0].logp, SMALL)
        gain = ((np.exp(policy[0]) - np.exp(world.log_ref)) * world.oracle).sum(-1)
        scores[beta] = gain[20:30].mean(), gain[30:].mean()
    best = max(scores, key=lambda beta: scores[beta][0])
    assert (row["hyper"], row["validation"]) == (best, pytest.approx(scores[best][0], rel=1e-6))
    assert row["advantage"] == pytest.approx(scores[best][1], rel=1e-6)
