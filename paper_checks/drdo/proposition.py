"""Proposition 1: what a fair pair says about rewards."""

from __future__ import annotations

import sympy as sp

from paper_checks.claims import Finding, Verdict, claim


@claim(
    "drdo-prop-1",
    statement="Proposition 1",
    says="A pair preferred with probability ½ has equal rewards under the Bradley–Terry model.",
    assumes="Bradley–Terry preferences, P(y ≻ y') = σ(r − r').",
    predicts="σ(Δr) = ½ has the one real solution Δr = 0.",
    tested="solved symbolically; σ is strictly increasing, so that there is no other",
    expects="holds",
)
def fair_pair_has_equal_rewards() -> Finding:
    """σ(Δr) = ½ ⇔ Δr = 0."""
    margin = sp.Symbol("m", real=True)
    sigmoid = 1 / (1 + sp.exp(-margin))
    solutions = sp.solveset(sp.Eq(sigmoid, sp.Rational(1, 2)), margin, sp.S.Reals)
    increasing = sp.diff(sigmoid, margin).is_positive
    holds = solutions == sp.FiniteSet(0) and increasing
    evidence = {"solutions": [str(s) for s in solutions], "strictly_increasing": bool(increasing)}
    return Finding(Verdict.HOLDS if holds else Verdict.FAILS, evidence, counterexample=None if holds else evidence)
