"""Tables and pictures of the robustness section; nothing is shown whose solutions are in doubt."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from theory.audit.classes import Misspecified
from theory.audit.coverage import Coverage, N
from theory.audit.noise import LabelNoise
from theory.audit.report import Line, Panel, Table
from theory.audit.subject import ZERO, Subject
from theory.audit.words import nats
from theory.instances.tabular import Array
from theory.statistics.efficiency import asymptotic_constant

# What this share of flipped labels does is compared with the statistical error of so many comparisons.
FLIPPED, COMPARISONS = 0.1, 10_000


def noise_table(noise: LabelNoise) -> list[Table]:
    """Distances at every noise rate."""
    columns = ("ε", "KL(π*‖π_ε)", "KL(π_0‖π_ε)", "q ε²")
    rows = np.stack([noise.rates, noise.to_target, noise.shift, noise.quadratic * noise.rates**2], 1).tolist()
    return [Table("Share ε of flipped labels (nats)", columns, rows)] if noise.settled else []


def coverage_table(subject: Subject, found: Coverage | None) -> list[Table]:
    """Limits, constants and errors at every C."""
    if found is None or not found.settled:
        return []
    columns = ["C", "floor", "c(C)", "Cramér–Rao c", "floor + c/n", f"error at n = {N:.0e}", "95% low", "95% high"]
    errors = [np.array([getattr(m, part) for m in found.means]) for part in ("value", "low", "high")]
    parts: list[Array] = [found.coefficients, found.floor, found.constant, found.efficient, found.predicted, *errors]
    if found.value is not None:
        columns, parts = [*columns, str(subject.settings.searched).rstrip("_")], [*parts, found.value]
    rows = [[float(v) if np.isfinite(v) else None for v in row] for row in np.stack(parts, 1)]
    return [Table("Coverage coefficient C of the data policy (nats)", tuple(columns), rows)]


def class_table(policy: Misspecified | None, reward: Misspecified | None) -> list[Table]:
    """Distances of the limits in small classes, and what to compare them with."""
    columns = ("log-linear", "KL(π*‖π_∞)", "best in class", "excess", "full class", "π_ref")
    rows = [
        ("policy and reward" if f.both else name, f.forward_kl, f.least, f.excess, f.full, f.reference)
        for name, f in (("policy", policy), ("reward", reward))
        if f is not None and f.settled
    ]
    return [Table("Classes without the target (nats)", columns, rows)] if rows else []


def noise_panel(subject: Subject, noise: LabelNoise) -> list[Panel]:
    """Distances against the noise rate, with the statistical error for scale."""
    heights = {
        "from the target, KL(π*‖π_ε)": noise.to_target[1:],
        "from the clean limit, KL(π_0‖π_ε)": noise.shift[1:],
        "q ε²": noise.quadratic * noise.rates[1:] ** 2,
    }
    lines = _lines(noise.rates[1:], heights.items())
    if not (lines and noise.settled):
        return []
    constant = asymptotic_constant(subject.instance)
    levels = [(f"Cramér–Rao error, n = {n:.0e}", constant / n) for n in (COMPARISONS, 10 * COMPARISONS)]
    takeaway = f"At ε = {FLIPPED:g} the limit has moved by {nats(noise.at(FLIPPED))} nats; "
    takeaway += f"{COMPARISONS:,} comparisons leave a statistical error of {constant / COMPARISONS:.2g}."
    axes = ("share ε of flipped labels", "forward KL (nats)")
    return [Panel("Flipped labels", *axes, lines, x_log=True, y_log=True, levels=levels, takeaway=takeaway)]


def coverage_panel(found: Coverage | None) -> list[Panel]:
    """Errors against C, with the statistical limit."""
    if found is None or not found.settled:
        return []
    x, means = found.coefficients.tolist(), found.means
    simulated = Line(f"simulated, n = {N:.0e}", x, [m.value for m in means], [m.low for m in means], [m.high for m in means])
    others = {"floor (n = ∞)": found.floor, "floor + c/n": found.predicted, "Cramér–Rao limit c/n": found.efficient / N}
    lines = [*([simulated] if min(simulated.y) > ZERO else []), *_lines(found.coefficients, others.items())]
    takeaway = f"From C = 1 to {x[-1]:,.0f} the error at n = {N:.0e} goes from {nats(means[0].value)} to {nats(means[-1].value)} "
    takeaway += f"nats; the Cramér–Rao limit from {found.efficient[0] / N:.2g} to {found.efficient[-1] / N:.2g}. "
    takeaway += "Bands: 95% of the mean."
    return [Panel("Coverage", "coverage coefficient C", "forward KL to π* (nats)", lines, True, True, takeaway=takeaway)]


def _lines(x: Array, heights: Iterable[tuple[str, Array]]) -> list[Line]:
    """Lines on a logarithmic axis: those that are there, and not zero to the precision of float64."""
    return [Line(label, x.tolist(), y.tolist()) for label, y in heights if np.isfinite(y).all() and y.min() > ZERO]
