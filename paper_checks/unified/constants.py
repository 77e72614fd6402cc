"""The convergence theorems of the unified paper with every constant written out.

The paper hides "constants relying only on" B and γ, and its formulas are lost in the text; what
follows is our own derivation along its route (C.2–C.4). Assumptions are the paper's: Π finite and
π* ∈ Π; −B ≤ log π ≤ 0 on Π (so B ≥ log V); β = 0 (and α = 1 for RKL); for the two-stage methods
π* ∈ Π_R ⊂ Π (Assumption 5). Rewards r_π = γ log π; f = r̂ − r*; f̄ = f − E_μ[f|x].

1. *Concentration.* Lemma 11 with C = ½ Σ log(q_π/q_*) gives −n log(1 − H²) ≤ log(|Π|/δ) for the
   MLE, H² = E_μ of the squared Hellinger distance of the two labels' laws; (p − q)² ≤ 2H² for a
   binary label. So E_μ[(σ(Δr̂) − σ(Δr*))²] ≤ 2 log(|Π|/δ)/n (Proposition 12).
2. *Lemma 8.* |Δr| ≤ γB, so |σ(a) − σ(b)| ≥ ¼e^{−γB}|a − b|, and E_μ f̄² = ½E(Δf)²: hence
   E_μ f̄² ≤ 8e^{2γB} E(σ(Δr̂) − σ(Δr*))².
3. *Coverage.* E_{π*} f̄² ≤ C_Π E_μ f̄² (Definition 3).
4. *Schulman's trick and Lemma 9.* Shifting g = log π̂/π* by a constant in each context leaves
   KL(π*‖π̂) = log E_{π*}e^g − E_{π*}g as it is, so KL ≤ E_{π*}[eᵘ − 1 − u] ≤ φ(max u)·E_{π*}u² for
   u = g − E_μ g ≤ 2B, where E_{π*}u² = γ⁻²E_{π*}f̄². No normaliser needs a bound of its own.
5. *Second stages.* They reach loss 0, so that π̂ agrees with r̂ on everything they saw; a member
   that disagrees with probability p survives m draws with probability (1 − p)^m ≤ e^{−pm}, hence
   P(disagree) ≤ log(|Π|/δ)/m. On pairs (distillation) a disagreement costs (Δf)² ≤ (2γB)²; on
   prompts (RKL) it costs KL ≤ B, and no coverage.
6. *A stronger base ν* (Theorem 14). g = g₁ + g₂ with g₁ = log π̂/π_r̂ centred under ν and
   g₂ = log π_r̂/π* centred under μ: u ≤ 3B, u² ≤ 2u₁² + 2u₂², so only the first part pays the
   coverage of ν (over pairs of members) and only the second that of Π_R under μ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


def phi(u: float) -> float:
    """φ(u) = (eᵘ − 1 − u)/u², increasing, φ(0) = ½ (Lemma 9)."""
    return (math.expm1(u) - u) / u**2 if abs(u) > 1e-4 else 0.5 + u / 6


def preference_error(members: int, n: float, delta: float) -> float:
    """Bound on E_μ[(σ(Δr̂) − σ(Δr*))²] that the MLE keeps with probability 1 − δ (Proposition 12)."""
    return 2 * math.log(members / delta) / n


def disagreement(members: int, m: float, delta: float) -> float:
    """Bound on the probability that a second stage with loss 0 on m draws disagrees with its reward."""
    return math.log(members / delta) / m


@dataclass(frozen=True)
class Factors:
    """A deterministic bound KL ≤ error·E_μ[(σ(Δr̂) − σ(Δr*))²] + disagrees·P(π̂ disagrees with r̂), nats."""

    error: float
    disagrees: float = 0.0

    def one_stage(self, members: int, n: float, delta: float) -> float:
        """The bound that holds with probability 1 − δ for an MLE over ``members`` policies."""
        return self.error * preference_error(members, n, delta)

    def two_stages(self, rewards: int, n: float, policies: int, m: float, delta: float) -> float:
        """The same for a reward MLE on n comparisons and a policy on m draws, δ/2 for each."""
        return self.error * preference_error(rewards, n, delta / 2) + self.disagrees * disagreement(policies, m, delta / 2)


@dataclass(frozen=True)
class Scale:
    """γ and the B of Assumption 2, from which each theorem's factors follow."""

    gamma: float
    bound: float

    @property
    def _reward(self) -> float:
        """E_μ f̄² over E(σ(Δr̂) − σ(Δr*))² (step 2)."""
        return 8 * math.exp(2 * self.gamma * self.bound)

    @property
    def _disagreement(self) -> float:
        """E f̄² over P(Δr_π̂ ≠ Δr̂) (step 5)."""
        return 2 * self.gamma**2 * self.bound**2

    def pmle(self, coverage: float) -> Factors:
        """Theorem 4: φ(2B)γ⁻²·C_Π·8e^{2γB} for the error of an MLE over Π."""
        return Factors(phi(2 * self.bound) / self.gamma**2 * coverage * self._reward)

    def distillation(self, coverage: float) -> Factors:
        """Theorem 6: φ(2B)γ⁻²·C_Π·(8e^{2γB}, 2γ²B²)."""
        first = self.pmle(coverage).error
        return Factors(first, first / self._reward * self._disagreement)

    def rkl(self, rewards: float) -> Factors:
        """Theorem 7: φ(2B)γ⁻²·C_R·8e^{2γB}, and B for a prompt; ``rewards`` is C_R, that of Π_R."""
        return Factors(self.pmle(rewards).error, self.bound)

    def strong_base(self, rewards: float, base: float) -> Factors:
        """Theorem 14: 2φ(3B)γ⁻²·(C_R·8e^{2γB}, C_ν·2γ²B²); ``base`` is C_ν over pairs of members."""
        shared = 2 * phi(3 * self.bound) / self.gamma**2
        return Factors(shared * rewards * self._reward, shared * base * self._disagreement)
