"""Which pairs the gradient weighs, where it fades, and whether it can lower the winner of a pair."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from theory.audit.differences import AGREES, agreement
from theory.audit.displacement import (
    Crowding,
    Example,
    TableSearch,
    crowding_example,
    descent_direction,
    search_table,
    shared_example,
)
from theory.audit.report import EXACT, NUMERICAL, Finding, Line, Panel, Section, Table, yes
from theory.audit.subject import Subject
from theory.audit.weights import VANISHED, has_weights, onset, typical_reward_margin, weights_at

# The pair of the margin scan sits at this level; the pair of the level scan is not ordered yet.
LEVEL, MARGIN = 1.0, 0.0
WIDEST = 20.0
DEEPEST = 1e4
# Margins far beyond the picture, for what happens as they go to ±∞.
FAR = 1e6
TABLE_MARGINS = (-20.0, -5.0, -1.0, 0.0, 1.0, 5.0, 20.0)
TABLE_LEVELS = (1.0, 10.0, 100.0, 1e3, 1e4)


def section(subject: Subject) -> Section:
    """Everything about the gradient."""
    title = "What does its gradient do to a pair?"
    if not has_weights(subject):
        return Section("gradient", title, [*(_absent(subject, *q) for q in (VANISHES, DISPLACEMENT)), _checks(subject)])
    found = displacement(subject)
    findings = [_vanishes(subject, fading(subject)), _displacement(subject, found), _checks(subject)]
    return Section("gradient", title, findings, [_weights_table(subject), _displacement_table(found)], _panels(subject))


VANISHES = ("gradient.vanishes", "Where do a pair's weights vanish?")
DISPLACEMENT = ("gradient.displacement", "Can a step that lowers a pair's loss lower its winner's probability?")


def _absent(subject: Subject, id: str, question: str) -> Finding:
    if subject.objective.has_loss:
        why = "it trains a reward head alone: no pair pulls on the policy"
    else:
        why = "it has no pair loss: its gradient in the logits is π ⊙ (u − E_π u), u = (α + β) log π − β log π_ref − a·r̂"
    return Finding(id, question, "does not apply", why, _family(subject), EXACT)


def _family(subject: Subject) -> str:
    values = "".join(f", {name.rstrip('_')} = {value:g}" for name, value in subject.defaults.items())
    return f"one pair, γ = {subject.instance.gamma:g}{values}"


def _neutral(subject: Subject) -> str:
    reward = f", Δr̂ = {typical_reward_margin(subject.instance):.3g}" if subject.objective.reads("reward") else ""
    reference = ", Δlog π_ref = 0" if subject.objective.reads("ref_logp") else ""
    return _family(subject) + reference + reward


# --- Where the weights vanish. ----------------------------------------------------------------------


@dataclass(frozen=True)
class Fading:
    """Where max(|∂ℓ/∂log π_w|, |∂ℓ/∂log π_l|) has vanished for good: below 1e-8 of its largest on that side.

    Each is the distance from which on it has, in nats; None where it does not, −∞ where it is 0 throughout.

    Attributes:
        ordered: margins above it (the pair is in the right order).
        inverted: margins below its negative (in the wrong order).
        winner_level, loser_level: levels −log π above it, for either weight at margin 0.
    """

    ordered: float | None
    inverted: float | None
    winner_level: float | None
    loser_level: float | None

    @property
    def pathological(self) -> bool:
        """Whether pairs in the wrong order stop being corrected."""
        return self.inverted is not None


def fading(subject: Subject) -> Fading:
    """Scan the margin at level 1 and the level at margin 0."""
    margins = np.concatenate([np.linspace(0, WIDEST, 401), np.geomspace(WIDEST, FAR, 201)[1:]])
    levels = np.geomspace(1, DEEPEST, 201)

    def along(sign: float) -> float | None:
        return onset(lambda m: weights_at(subject, sign * m, torch.full_like(m, LEVEL)).strength, margins)

    def down(side: str) -> float | None:
        return onset(lambda v: getattr(weights_at(subject, torch.full_like(v, MARGIN), v), side).abs(), levels)

    return Fading(along(1.0), along(-1.0), down("winner"), down("loser"))


def _beyond(value: float | None, what: str) -> str:
    if value is None:
        return f"{what}: they do not"
    return f"{what}: they are 0 throughout" if value == -np.inf else f"{what}: from {value:.3g} nats on"


def _vanishes(subject: Subject, found: Fading) -> Finding:
    if found.pathological:
        verdict = "wrongly ordered" if found.ordered is None else "both sides"
        comment = "pairs far in the wrong order are not corrected: a pathology"
    else:
        verdict = "nowhere" if found.ordered is None else "well-ordered"
        comment = "pairs in the wrong order keep their pull" if found.ordered is not None else "every pair keeps its pull"
    sides = [_beyond(found.ordered, "winner ahead"), _beyond(found.inverted, "loser ahead")]
    levels = [_level("winner", found.winner_level), _level("loser", found.loser_level)]
    answer = f"below {VANISHED:.0e} of their largest: {'; '.join(sides)}; {comment}. As −log π grows to 1e4: {', '.join(levels)}"
    numbers = {**{k: _plain(v) for k, v in asdict(found).items()}, "pathological": found.pathological, "share": VANISHED}
    return Finding(*VANISHES, verdict, answer, _neutral(subject), NUMERICAL, numbers)


def _level(name: str, value: float | None) -> str:
    if value is None:
        return f"the {name}'s does not vanish"
    return f"the {name}'s is 0 throughout" if value == -np.inf else f"the {name}'s vanishes at {value:.3g} nats"


def _plain(value: float | None) -> float | str | None:
    return "throughout" if value == -np.inf else value


def _weights_table(subject: Subject) -> Table:
    rows: list[tuple[float, ...]] = []
    for margin, level in [*((m, LEVEL) for m in TABLE_MARGINS), *((MARGIN, v) for v in TABLE_LEVELS[1:])]:
        found = weights_at(subject, *(torch.tensor([v], dtype=torch.float64) for v in (margin, level)))
        rows.append((margin, level, float(found.value), float(found.winner), float(found.loser)))
    columns = ("Δlog π", "level −log π", "ℓ", "∂ℓ/∂log π_w", "∂ℓ/∂log π_l")
    return Table("Weights of a pair", columns, rows)


def _panels(subject: Subject) -> list[Panel]:
    margins = torch.linspace(-WIDEST, WIDEST, 161, dtype=torch.float64)
    levels = torch.logspace(0, math.log10(DEEPEST), 81, dtype=torch.float64)
    by_margin = weights_at(subject, margins, torch.full_like(margins, LEVEL))
    by_level = weights_at(subject, torch.full_like(levels, MARGIN), levels)
    end = float(by_level.winner[-1]) / float(by_level.winner[0]) if float(by_level.winner[0]) else math.nan
    return [
        Panel(
            "Weights against the margin",
            "Δlog π (nats)",
            "∂ℓ/∂log π",
            _lines(margins, by_margin.winner, by_margin.loser),
            levels=[("", 0.0)],
            takeaway=f"on winner and loser: {float(by_margin.winner[80]):.3g} and {float(by_margin.loser[80]):.3g} at margin 0, "
            f"{float(by_margin.winner[0]):.3g} and {float(by_margin.loser[0]):.3g} at −20",
        ),
        Panel(
            "Weights against the level, at margin 0",
            "−log π (nats)",
            "∂ℓ/∂log π",
            _lines(levels, by_level.winner, by_level.loser),
            x_log=True,
            levels=[("", 0.0)],
            takeaway=f"from −log π = 1 to 1e4 the winner's weight changes by a factor of {end:.3g}",
        ),
    ]


def _lines(x: Tensor, winner: Tensor, loser: Tensor) -> list[Line]:
    return [Line(f"on {name}", x.tolist(), y.tolist()) for name, y in (("log π_w", winner), ("log π_l", loser))]


# --- Likelihood displacement. -----------------------------------------------------------------------


@dataclass(frozen=True)
class Displacement:
    """Whether a winner can fall while its loss falls, in four settings from the loosest to the most common.

    Attributes:
        asked: the margin of a neutral pair beyond which ∂ℓ/∂log π_w > 0: the loss itself asks for no more; None
            if there is none.
        direction: (log π_w, log π_l) at which some descent direction lowers both; None if there is none.
        table: gradient flow on a softmax table, one pair.
        shared: a log-linear policy on which a gradient step on one pair lowers its winner.
        crowding: two disjoint pairs on a table, the whole objective.
    """

    asked: float | None
    direction: tuple[float, float] | None
    table: TableSearch
    shared: Example | None
    crowding: Crowding | None

    @property
    def possible(self) -> bool:
        """Whether a gradient step on one pair can lower its winner in some model."""
        return self.shared is not None or self.table.example is not None

    @property
    def verdict(self) -> str:
        """Where it can."""
        if self.table.example is not None:
            return "on a table too"
        return "shared only" if self.shared is not None else "no"


def displacement(subject: Subject) -> Displacement:
    """Decide all four."""
    scan = torch.meshgrid(
        torch.linspace(-WIDEST, WIDEST, 81, dtype=torch.float64), torch.logspace(0, 3, 7, dtype=torch.float64), indexing="ij"
    )
    margin, level = (t.flatten() for t in scan)
    direction = descent_direction(margin, level, weights_at(subject, margin, level))
    return Displacement(
        asked_margin(subject), direction, search_table(subject), shared_example(subject), crowding_example(subject)
    )


def asked_margin(subject: Subject) -> float | None:
    """The margin of a pair at level 1 above which the loss pushes the winner down, to 1e-9 nats; None if there is none.

    −∞ if it does so from the widest wrong margin of the picture on.
    """

    def pushed(margins: Tensor) -> Tensor:
        return weights_at(subject, margins, torch.full_like(margins, LEVEL)).winner > 0

    scan = torch.from_numpy(np.concatenate([np.linspace(-WIDEST, WIDEST, 401), np.geomspace(WIDEST, FAR, 101)]))
    down = pushed(scan).nonzero()
    if not len(down) or int(down[0]) == 0:
        return -math.inf if len(down) else None
    low, high = float(scan[down[0] - 1]), float(scan[down[0]])
    while high - low > 1e-9 * max(1.0, abs(high)):
        middle = (low + high) / 2
        low, high = (low, middle) if bool(pushed(torch.tensor([middle], dtype=torch.float64))) else (middle, high)
    return high


def _displacement(subject: Subject, found: Displacement) -> Finding:
    margin_alone = _margin_alone(subject)
    parts = [
        _shared_words(found.shared, margin_alone),
        _table_words(found.table, found.asked, margin_alone),
        _crowding_words(found.crowding),
    ]
    numbers = {
        "direction": found.direction,
        "table": {
            "falls": found.table.example is not None,
            "largest_excess": found.table.largest,
            "excluded_by_sign": found.table.signed,
            "tables_tried": found.table.tried,
            "example": found.table.example and asdict(found.table.example),
        },
        "asked_margin": _plain(found.asked),
        "shared": found.shared and asdict(found.shared),
        "crowding": found.crowding and asdict(found.crowding),
    }
    basis = EXACT if found.possible else NUMERICAL
    family = f"{_neutral(subject)}; ℓ of one pair alone, and two pairs with every term of the objective"
    return Finding(*DISPLACEMENT, found.verdict, "; ".join(parts), family, basis, numbers)


def _fell(step: tuple[float, float]) -> str:
    return f"{step[0]:.6g} → {step[1]:.6g}"


def _margin_alone(subject: Subject) -> bool:
    """Whether the loss depends on the policy through Δlog π alone, so that its two weights are opposite."""
    objective = subject.objective
    tied = subject.options.tied and objective.reads("student_reward")
    return "logp" in objective.margins and (not tied or "student_reward" in objective.margins)


def _shared_words(example: Example | None, margin_alone: bool) -> str:
    if example is None:
        return "with shared parameters no: ∂_l = 0 wherever tried, and K_ww ≥ 0"
    (g_w, g_l), (k_ww, k_wl), step = example.weights, example.kernel, example.step
    condition = "exactly when K_wl > K_ww" if margin_alone else "exactly when ∂_l·K_wl > −∂_w·K_ww"
    values = "" if margin_alone else f", ∂_w = {g_w:.3g}, ∂_l = {g_l:.3g}"
    return (
        f"with shared parameters it can, {condition}, K_ij = ⟨∇log π_i, ∇log π_j⟩: with features {example.features} at "
        f"w = {example.parameters}, K_wl = {k_wl:.4g}, K_ww = {k_ww:.4g}{values}, a step of {step.size:.2g} takes "
        f"ℓ {_fell(step.loss)} and log π_w {_fell(step.winner)}"
    )


def _table_words(found: TableSearch, asked: float | None, margin_alone: bool) -> str:
    beyond = ""
    if asked is not None:
        side = "at every margin" if asked == -math.inf else f"beyond Δlog π = {asked:.3g}"
        beyond = f"; {side} the loss itself pushes the winner down"
    if found.example is not None:
        p, step = found.example.probabilities, found.example.step
        where = f"π_w = {p[0]:.3g}, π_l = {p[1]:.3g}, V = {len(p)}, log π_ref = {found.example.reference}"
        return f"on a table too, at {where}: a step takes ℓ {_fell(step.loss)} and log π_w {_fell(step.winner)}{beyond}"
    if margin_alone:
        return f"on a table never where ℓ' < 0, for one pair: d log π_w/dt = −ℓ'(Δ)·(1 − π_w + π_l){beyond}"
    reason = "0 ≤ ∂_l ≤ −∂_w wherever tried" if found.signed else f"{found.tried} tables searched"
    return f"on a table never for one pair ({reason}){beyond}"


def _crowding_words(found: Crowding | None) -> str:
    if found is None:
        return "no table with two disjoint pairs was found on which a response that never lost falls"
    return (
        f"with several pairs also on a table: y1 ≻ y2 once and y3 ≻ y4 {found.times}× from π = π_ref = "
        f"({', '.join(f'{p:.3g}' for p in found.start)}), a step lowers log π(y1), which never lost: {_fell(found.step.winner)}"
    )


def _displacement_table(found: Displacement) -> Table:
    def row(name: str, case: Example | Crowding | None) -> tuple[str, str, float | None, float | None, float | None]:
        if case is None:
            return name, "no", None, None, None
        step = case.step
        return name, "yes", step.loss[1] - step.loss[0], step.winner[1] - step.winner[0], step.loser[1] - step.loser[0]

    direction = ("some descent direction", yes(found.direction is not None), None, None, None)
    rows = [
        direction,
        row("gradient step, table, one pair", found.table.example),
        row("gradient step, shared parameters, one pair", found.shared),
        row("gradient step, table, two pairs", found.crowding),
    ]
    return Table(
        "Can the winner fall while the loss falls?", ("setting", "falls", "change of loss", "of log π_w", "of log π_l"), rows
    )


# --- Is the derivative the derivative of the value? --------------------------------------------------


def _checks(subject: Subject) -> Finding:
    found = agreement(subject)
    pairs = "" if found.pairs is None else f"{found.pairs:.0e} for ℓ at 256 random pairs, "
    return Finding(
        "gradient.checks",
        "Is its derivative the derivative of its value?",
        yes(found.largest <= AGREES),
        f"largest relative error of autograd against central differences: {pairs}{found.objective:.0e} for the whole objective "
        "at 8 random policies",
        f"{subject.describe(subject.instance)}, default hyperparameters",
        NUMERICAL,
        asdict(found),
    )
