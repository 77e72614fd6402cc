"""Numbers of the instance of unified App. D.1 from the formulas alone, without a solver."""

import numpy as np

from theory.instances import Instance, random_instance


def cramer_rao() -> float:
    """c = ½ Σ_x tr(I_x⁺ S_x), pair by pair (nats)."""
    instance, total = random_instance(0), 0.0
    for target, data in zip(instance.target, instance.data_policy, strict=True):
        information = np.zeros((len(target), len(target)))
        for i in range(len(target)):
            for j in range(i):
                difference = np.zeros(len(target))
                difference[i], difference[j] = 1.0, -1.0
                win = target[i] ** instance.gamma / (target[i] ** instance.gamma + target[j] ** instance.gamma)
                information += 2 * data[i] * data[j] * win * (1 - win) * np.outer(difference, difference)
        covariance = np.diag(target) - np.outer(target, target)
        total += 0.5 * np.trace(np.linalg.pinv(instance.gamma**2 * information) @ covariance)
    return total


def rlhf_floor() -> float:
    """The least forward KL of π_ref·(π*)^{γ/β}/Z over a fine grid of β (nats)."""
    instance = random_instance(0)
    betas = np.geomspace(5, 20, 2001)
    return min(_distance(instance, instance.reference * instance.target ** (instance.gamma / beta)) for beta in betas)


def sft_floor() -> float:
    """The forward KL of the distribution of winners of pairs of two responses, each drawn from μ (nats)."""
    instance = random_instance(0)
    strength = instance.target**instance.gamma
    beats = strength[:, :, None] / (strength[:, :, None] + strength[:, None, :])
    met = instance.data_policy[:, None, :] * (1 - np.eye(instance.vocab))
    return _distance(instance, instance.data_policy * (beats * met).sum(-1))


def _distance(instance: Instance, unnormalised: np.ndarray) -> float:
    policy = unnormalised / unnormalised.sum(-1, keepdims=True)
    per_context = (instance.target * np.log(instance.target / policy)).sum(-1)
    return float(instance.context_weights @ per_context)
