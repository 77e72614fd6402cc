"""The random recipe: reproducible, and with the distribution that it states."""

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import random_instance


def _same(a, b) -> bool:
    arrays = ("target", "reference", "data_policy", "context_weights")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


def test_the_same_seed_gives_the_same_instance():
    assert _same(random_instance(7), random_instance(7))
    assert not _same(random_instance(7), random_instance(8))


def test_the_recipe_is_frozen():
    """Published results name an instance by its seed, so these numbers may never change."""
    instance = random_instance(0)
    np.testing.assert_allclose(
        instance.target[0, :3], [0.21560549295110198, 0.020776309788586182, 0.10624152412687395], rtol=1e-12
    )
    np.testing.assert_allclose(
        instance.reference[9, -3:], [0.02045667741386122, 0.20030244557603974, 0.1594261257845095], rtol=1e-12
    )


def test_defaults():
    instance = random_instance()
    assert (instance.contexts, instance.vocab, instance.gamma, instance.features) == (10, 10, 1.0, None)
    np.testing.assert_array_equal(instance.data_policy, instance.reference)
    np.testing.assert_allclose(instance.context_weights, 0.1)
    assert _same(instance, random_instance(0))


def test_logits_are_standard_normal_and_the_reference_is_off_by_tau():
    """z and τ·ε are recovered, up to a constant a row, from the log-probabilities.

    2·10⁵ draws: each variance has standard error 0.32 %, so 2 % is six of them (two-sided 1e-9).
    """
    instance = random_instance(3, vocab=1_000, contexts=200, ref_noise=0.7)
    logits, shifted = np.log(instance.target), np.log(instance.reference)
    noise = shifted - logits
    for table, deviation in ((logits, 1.0), (noise, 0.7), (shifted, np.hypot(1, 0.7))):
        assert np.var(table, axis=1, ddof=1).mean() == pytest.approx(deviation**2, rel=0.02)
    centred = [t - t.mean(1, keepdims=True) for t in (logits, noise)]
    assert abs((centred[0] * centred[1]).mean()) < 0.02  # z and ε are independent


def test_no_noise_makes_the_reference_the_target():
    instance = random_instance(1, ref_noise=0)
    np.testing.assert_array_equal(instance.target, instance.reference)


def test_more_features_or_gamma_change_no_probability_of_the_table():
    assert _same(random_instance(2, gamma=3.0), random_instance(2))
    assert random_instance(2, gamma=3.0).gamma == 3.0


def test_a_realizable_target_lies_in_the_class():
    instance = random_instance(5, vocab=8, contexts=4, features=3, realizable=True)
    assert instance.features.shape == (4, 8, 3)
    phi = instance.features - instance.features.mean(1, keepdims=True)
    log_target = np.log(instance.target) - np.log(instance.target).mean(1, keepdims=True)
    _, residual, rank, _ = np.linalg.lstsq(phi.reshape(-1, 3), log_target.ravel(), rcond=None)
    assert rank == 3
    assert residual[0] < 1e-20
    unrealizable = random_instance(5, vocab=8, contexts=4, features=3)
    log_target = np.log(unrealizable.target) - np.log(unrealizable.target).mean(1, keepdims=True)
    assert np.linalg.lstsq(phi.reshape(-1, 3), log_target.ravel(), rcond=None)[1][0] > 1


def test_two_responses_and_one_context():
    instance = random_instance(0, vocab=2, contexts=1)
    assert instance.target.shape == (1, 2)
    np.testing.assert_allclose(instance.target.sum(1), 1)


@pytest.mark.parametrize(
    ("arguments", "argument", "value", "remedy"),
    [
        ({"vocab": 1}, "--vocab", "1", "at least 2"),
        ({"vocab": -3}, "--vocab", "-3", "at least 2"),
        ({"contexts": 0}, "--contexts", "0", "at least 1"),
        ({"ref_noise": -0.5}, "--ref-noise", "-0.5", "zero or positive"),
        ({"ref_noise": float("nan")}, "--ref-noise", "nan", "zero or positive"),
        ({"ref_noise": float("inf")}, "--ref-noise", "inf", "finite"),
        ({"features": 10}, "--features", "10", "less than V = 10"),
        ({"features": -1}, "--features", "-1", "at least 0"),
        ({"realizable": True}, "--realizable", "", "needs --features d"),
        ({"gamma": 0.0}, "gamma", "0.0", "must be positive"),
    ],
)
def test_bad_arguments(arguments, argument, value, remedy):
    with pytest.raises(UserError) as caught:
        random_instance(**arguments)
    for part in (argument, value, remedy):
        assert part in str(caught.value)
