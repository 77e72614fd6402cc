"""A fit to comparisons as a JSON object, as tables for people, and as a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from theory.cli import options
from theory.cli.console import number, print_table
from theory.errors import UserError

if TYPE_CHECKING:
    from theory.fitting import FittedData

# Contexts shown to people; --json and --policy-out have them all.
CONTEXTS_SHOWN = 5
# Names are stored in an .npz at a fixed width, four bytes a character.
LARGEST_NAMES = 2 << 30

RULES = {
    "validation": "chosen on held-out preferences",
    "fixed": "given",
    "default": "default: too few repeated comparisons to hold any out",
}


def write_policy(path: Path, fitted: FittedData) -> None:
    """Write the policy whole or not at all.

    Arrays: ``context`` (X,) and ``response`` (N,) names; responses of context x are offsets[x] …
    offsets[x+1] − 1; ``logp`` (nats), ``probability``, and its bounds ``low`` and ``high``, NaN
    where withheld.

    Raises:
        UserError: there is no finite policy, the names are too long, or the file cannot be written.
    """
    import numpy as np

    from theory.instances import save_npz

    if not fitted.bounded:
        raise UserError("--policy-out", path, "there is no finite policy to write: use --ridge above 0 for a bounded estimate")
    names = {"context": fitted.comparisons.contexts.to_pylist(), "response": fitted.comparisons.responses.to_pylist()}
    for name, values in names.items():
        if 4 * len(values) * max(map(len, values)) > LARGEST_NAMES:
            raise UserError("--policy-out", path, f"the {name}s are too long to store: name them by shorter keys in --data")
    arrays: dict[str, object] = {
        **{name: np.array(values, dtype=np.str_) for name, values in names.items()},
        "offsets": fitted.comparisons.offsets,
        "logp": fitted.logp,
        "probability": np.exp(fitted.logp),
        "low": fitted.intervals.low,
        "high": fitted.intervals.high,
    }
    save_npz(path, arrays, "--policy-out")


def record(fitted: FittedData, rule: str, data: Path, seconds: float) -> dict[str, Any]:
    """The object that ``--json`` prints; log-likelihoods in nats, ``low`` and ``high`` bound the probability."""
    from theory import __version__

    objective, settings, comparisons = fitted.settings.objective, fitted.settings, fitted.comparisons
    structure, intervals = fitted.degeneracy, fitted.intervals
    covered = fitted.reference.covered
    return {
        "method": objective.name,
        "data": str(data),
        "n": int(comparisons.n),
        "contexts": len(comparisons.contexts),
        "responses": len(comparisons.keys),
        "beta": fitted.hyper[objective.tuned.name] if objective.tuned else None,
        "beta_rule": rule,
        "tuned": objective.tuned.name if objective.tuned else None,
        "hyperparameters": fitted.hyper,
        "gamma": fitted.gamma,
        "ridge": settings.options.ridge,
        "reward_head": settings.options.reward_head,
        "seed": settings.options.seed,
        "reference": fitted.reference.source,
        "reference_covered": None if covered is None else {"least": covered[0], "mean": covered[1]},
        "log_likelihood": fitted.log_likelihood,
        "log_likelihood_per_comparison": fitted.log_likelihood / comparisons.n,
        "coin_flip_log_likelihood": fitted.coin_flip,
        "bradley_terry_log_likelihood": fitted.saturated,
        "finite": structure.finite,
        "vanishing": [list(comparisons.name(node)) for node in structure.vanishing.nonzero()[0].tolist()],
        "disconnected": [comparisons.contexts[x].as_py() for x in structure.disconnected.nonzero()[0].tolist()],
        "pairs": structure.pairs,
        "unanimous_share": structure.unanimous / structure.pairs,
        "gradient_norm": fitted.gradient_norm,
        "iterations": fitted.iterations,
        "certificate": fitted.chosen.kind,
        "starts": fitted.chosen.starts,
        "agreeing_starts": int(fitted.chosen.agreeing[0]),
        "intervals": {
            "confidence": intervals.confidence,
            "method": "sandwich" if sum(intervals.withheld.values()) < len(comparisons.contexts) else None,
            "reason": "; ".join(intervals.withheld) or None,
            "withheld_contexts": intervals.withheld,
            "of": "probability",
            "note": _interval_note(fitted),
        },
        "policy": _policy(fitted),
        "seconds": seconds,
        "version": __version__,
    }


def _interval_note(fitted: FittedData) -> str:
    ridge = fitted.settings.options.ridge
    estimate = f"{fitted.settings.objective.name} at these hyperparameters" + (f" and --ridge {ridge:g}" if ridge else "")
    return f"for what {estimate} would give on more such data; delta method on the log-odds, many comparisons in a context"


def _policy(fitted: FittedData) -> list[dict[str, Any]]:
    import numpy as np

    data = fitted.comparisons
    contexts = data.contexts.to_pylist()
    columns = (fitted.logp, np.exp(fitted.logp), fitted.intervals.low, fitted.intervals.high)
    rows = zip(data.context_of.tolist(), data.responses.to_pylist(), *(c.tolist() for c in columns), strict=True)
    return [
        {"context": contexts[x], "response": y, "probability": p, "logp": logp, "low": low, "high": high}
        for x, y, logp, p, low, high in rows
    ]


def print_fit(fitted: FittedData, rule: str, data: Path, seconds: float, top: int, policy_out: Path | None) -> None:
    """The fit as tables for people: what was fitted, how good it is, and the first contexts' top responses."""
    comparisons, n = fitted.comparisons, fitted.comparisons.n
    size = f"{n:,.0f} comparisons, {len(comparisons.contexts):,} contexts, {len(comparisons.keys):,} responses in them"
    rows = [
        ("data", f"{data}: {size}"),
        ("reference", _reference(fitted)),
        (fitted.settings.objective.tuned.name if fitted.settings.objective.tuned else "hyperparameters", _hyper(fitted, rule)),
        ("γ, ridge", f"{fitted.gamma:g}, {fitted.settings.options.ridge:g}"),
        ("log-likelihood", _likelihood(fitted.log_likelihood, n)),
        ("  of a fair coin", _likelihood(fitted.coin_flip, n)),
        ("  at most (Bradley–Terry)", _likelihood(fitted.saturated, n)),
        ("finite minimiser without the ridge", _finite(fitted)),
        ("pairs labelled one way only", _unanimous(fitted)),
        ("contexts not connected", _disconnected(fitted)),
        ("certificate", _certificate(fitted)),
        (f"{100 * fitted.intervals.confidence:g} % intervals", _intervals(fitted)),
        ("seconds", number(seconds, 2)),
    ]
    print_table(f"{fitted.settings.objective.name} fitted to comparisons", ("", ""), rows)
    _print_policy(fitted, top)
    if policy_out is not None:
        typer.echo(f"policy written to {policy_out}")


def _reference(fitted: FittedData) -> str:
    reference = fitted.reference
    if reference.covered is None:
        return reference.source
    least, mean = reference.covered
    return f"{reference.source}, renormalised over the responses compared: {mean:.3g} of its mass, in one context {least:.3g}"


def _hyper(fitted: FittedData, rule: str) -> str:
    values, tuned = dict(fitted.hyper), fitted.settings.objective.tuned
    first = [f"{number(values.pop(tuned.name))} ({RULES[rule]})"] if tuned else []
    return "; ".join(first + [f"{name.rstrip('_')} = {number(value)}" for name, value in values.items()]) or "none"


def _likelihood(value: float, n: float) -> str:
    if math.isnan(value):
        return "–: there is no finite policy"
    return f"{number(value, 6)} nats, {number(value / n, 4)} a comparison"


def _finite(fitted: FittedData) -> str:
    structure, ridge = fitted.degeneracy, fitted.settings.options.ridge
    if structure.finite:
        return "yes"
    what = f"no: {structure.vanishing.sum():,} of {len(structure.vanishing):,} probabilities go to 0"
    if not ridge:
        return f"{what}; without a ridge there is no policy to report (--ridge {options.DEFAULT_RIDGE:g} bounds it)"
    return f"{what}; the estimate is bounded by --ridge {ridge:g}"


def _unanimous(fitted: FittedData) -> str:
    structure = fitted.degeneracy
    return f"{structure.unanimous:,} of {structure.pairs:,} ({structure.unanimous / structure.pairs:.0%})"


def _disconnected(fitted: FittedData) -> str:
    count = int(fitted.degeneracy.disconnected.sum())
    if not count:
        return "none"
    return f"{count:,}: the data say nothing about the share of one part of the responses against another"


def _certificate(fitted: FittedData) -> str:
    from theory.solvers.newton import CERTIFIED

    chosen = fitted.chosen
    grade = "≤" if fitted.gradient_norm <= CERTIFIED else "NOT CERTIFIED: above"
    starts = f", {int(chosen.agreeing[0])} of {chosen.starts} starts agree" if chosen.kind == "local" else ""
    return f"{chosen.kind}, gradient {fitted.gradient_norm:.1e} {grade} {CERTIFIED:g}, {fitted.iterations} steps{starts}"


def _intervals(fitted: FittedData) -> str:
    contexts, withheld = len(fitted.comparisons.contexts), fitted.intervals.withheld
    missing = [f"none in {count:,} of {contexts:,} contexts: {reason}" for reason, count in withheld.items()]
    return "\n".join(([_interval_note(fitted)] if sum(withheld.values()) < contexts else []) + missing)


def _print_policy(fitted: FittedData, top: int) -> None:
    import numpy as np

    from theory.sampling.columns import short

    data, rows = fitted.comparisons, []
    for x in range(min(CONTEXTS_SHOWN, len(data.contexts))):
        nodes = np.arange(data.offsets[x], data.offsets[x + 1])
        best = nodes[np.argsort(-fitted.logp[nodes], kind="stable")][:top]
        for node in best.tolist():
            context, response = (short(name, 40)[1:-1] for name in data.name(node))
            bounds = " – ".join(number(float(b[node]), 3) for b in (fitted.intervals.low, fitted.intervals.high))
            shown = bounds if np.isfinite(fitted.intervals.low[node]) else "–"
            rows.append((context, response, number(math.exp(fitted.logp[node]), 3), shown))
        if len(best) < len(nodes):
            rows.append(("", f"… {len(nodes) - len(best)} more (--top)", "", ""))
    print_table(None, ("context", "response", "π̂", f"{100 * fitted.intervals.confidence:g} % interval"), rows)
    if len(data.contexts) > CONTEXTS_SHOWN:
        typer.echo(f"{len(data.contexts) - CONTEXTS_SHOWN:,} more contexts: see --json or --policy-out")
