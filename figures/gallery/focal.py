"""Loss and pull of DRDO's focal log-odds-unlikelihood beside DPO's, and what is left of it at sequence scale."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import short

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from torch import Tensor

# What the parts of the table are called.
CURVE, SCALE, FORMAT, ZERO, LENGTH = "curve", "scale", "format", "zero", "length"
LEVEL = "$-\\log\\,π(y_l)$ (nats)"


@dataclass(frozen=True)
class Config:
    """What is evaluated.

    Attributes:
        exponents: γf, as the paper's figure has them.
        mass: π(y_w) + π(y_l) along the curves (ours: a loss of two probabilities needs a path; at 1 the term is 0).
        beta: of DPO (ours), whose reference is equal on the pair.
        margin: the largest |log π(y_w) − log π(y_l)|, nats.
        points: of each curve.
        levels: the first and the last −log π(y_l) of the panels at sequence scale, nats.
    """

    exponents: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0)
    mass: float = 0.5
    beta: float = 1.0
    margin: float = 6.0
    points: int = 241
    levels: tuple[float, float] = (0.8, 300.0)


def data(config: Config) -> pd.DataFrame:
    """One row a point; ``part`` says of what.

    Parts: ``curve`` (loss and pull along margins at a fixed mass of the pair), ``scale`` (the same at margin 0 as the
    probabilities fall), ``format`` (what log(1 − π_l) changes in the log-odds in a floating-point format), ``zero`` (the
    level beyond which that is exactly 0) and ``length`` (−log π of responses in use). ``pull`` is −d loss/d margin at
    that mass, by automatic differentiation; levels, margins and losses in nats.
    """
    import numpy as np
    import pandas as pd

    from paper_checks.drdo.sequence_scale import DTYPES, NATS, TOKENS, ULTRAFEEDBACK_TOKENS, absorbed, vanishes_below

    margins = np.linspace(-config.margin, config.margin, config.points)
    lengths = {
        f"{TOKENS} tokens at {NATS:g} nats": TOKENS * NATS,
        f"{ULTRAFEEDBACK_TOKENS} tokens at 1 nat": ULTRAFEEDBACK_TOKENS,
    }
    levels = np.union1d(np.geomspace(*config.levels, config.points), list(lengths.values()))
    tables = []
    for term, exponent, loss in _terms(config):
        named = {"term": term, "gamma_f": exponent}
        tables.append(_curve(loss, margins, np.full_like(margins, np.log(config.mass))).assign(part=CURVE, **named))
        tables.append(_curve(loss, np.zeros_like(levels), np.log(2) - levels).assign(part=SCALE, **named))
    for name, dtype in DTYPES.items():
        change = [absorbed(-level, dtype) for level in levels]
        tables.append(pd.DataFrame({"level": levels, "change": change}).assign(part=FORMAT, term=name))
        last = -vanishes_below(partial(absorbed, dtype=dtype))
        tables.append(pd.DataFrame({"level": [last]}).assign(part=ZERO, term=name))
    tables.append(pd.DataFrame({"term": list(lengths), "level": list(lengths.values())}).assign(part=LENGTH))
    return pd.concat(tables, ignore_index=True)


def _terms(config: Config) -> list[tuple[str, float, Callable[[Any], Tensor]]]:
    """Name, γf and per-pair loss of each curve."""
    import torch

    from theory import objectives
    from theory.objectives.drdo import focal_log_odds

    def dpo(pair: Any) -> Tensor:
        level = torch.zeros_like(pair.logp_chosen)
        loss = objectives.get("dpo").terms(pair.replace(ref_logp_chosen=level, ref_logp_rejected=level), beta=config.beta).loss
        assert loss is not None
        return loss

    focal = [("drdo", exponent, partial(focal_log_odds, gamma_f=exponent)) for exponent in config.exponents]
    return [("dpo", float("nan"), dpo), *focal]


def _curve(loss: Callable[[Any], Tensor], margins: Any, log_mass: Any) -> pd.DataFrame:
    """Loss and pull at margins, with log(π_w + π_l) given."""
    import pandas as pd
    import torch
    from torch.nn.functional import logsigmoid

    from theory.objectives import Pair

    margin = torch.from_numpy(margins).requires_grad_()
    chosen, rejected = torch.from_numpy(log_mass) + logsigmoid(margin), torch.from_numpy(log_mass) + logsigmoid(-margin)
    value = loss(Pair(logp_chosen=chosen, logp_rejected=rejected))
    (slope,) = torch.autograd.grad(value.sum(), margin)
    columns = {"margin": margin, "p_w": margin.sigmoid(), "level": -rejected, "loss": value, "pull": -slope}
    return pd.DataFrame({name: column.detach().numpy() for name, column in columns.items()})


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """Loss above, pull below; against the margin, p_w, and at sequence scale."""
    from figures import style

    curves = data[data["part"] == CURVE]
    margin = "margin $\\log\\,π(y_w)/π(y_l)$ (nats)"
    for column, (x, middle, label) in enumerate((("margin", 0.0, margin), ("p_w", 0.5, "$p_w = σ$(margin)"))):
        for row, y in enumerate(("loss", "pull")):
            panel = axes[column + 3 * row]
            _lines(panel, curves, x, y)
            panel.axvline(middle, color=style.GREY, linewidth=0.6, linestyle=":", zorder=1)
            panel.set(xlabel=label)
    axes[0].set(title="along the margin", ylabel="loss (nats)")
    axes[1].set(title="the same against $p_w$", ylim=(-0.1, 3.2))
    axes[3].set(ylabel="pull, −d loss/d margin")
    axes[4].legend(loc="upper right")
    for panel in (axes[0], axes[3]):
        panel.set(xticks=[-6, -3, 0, 3, 6])
    ours = "ours: $π(y_w) + π(y_l) = ½$;\nDPO at $β = 1$, $π_{ref}$ equal;\nthe focal term without its $α$"
    style.note(axes[0], ours, (1.0, 0.97), ha="right", va="top")
    _formats(axes[2], data)
    _at_scale(axes[5], data)


def _shade(exponent: float, exponents: Sequence[float]) -> str:
    """DRDO's colour, from light to dark as γf grows."""
    from matplotlib.colors import to_hex, to_rgb

    from figures import style

    place = 1.2 * sorted(exponents).index(exponent) / max(1, len(exponents) - 1) - 0.4
    toward, share = (0.0, place) if place > 0 else (1.0, -place)
    red, green, blue = ((1 - share) * part + share * toward for part in to_rgb(style.colour("drdo")))
    return to_hex((red, green, blue))


def _lines(panel: Axes, rows: pd.DataFrame, x: str, y: str) -> list[tuple[float, float, str, str]]:
    """A line a term; gives what its end is labelled with."""
    from figures import style

    exponents, ends = rows["gamma_f"].dropna().unique(), []
    for (term, exponent), line in rows.groupby(["term", "gamma_f"], sort=False, dropna=False):
        focal = math.isfinite(exponent)  # NaN where a term has no exponent
        color = _shade(exponent, exponents) if focal else style.colour(term)
        label = f"$γ_f = {exponent:g}$" if focal else "DPO"
        panel.plot(line[x], line[y], color=color, label=label, linestyle="-" if focal else "--", linewidth=1.3)
        ends.append((line[x].iloc[-1], line[y].iloc[-1], label, color))
    return ends


def _formats(panel: Axes, data: pd.DataFrame) -> None:
    """What log(1 − π_l) changes, until it changes nothing."""
    from figures import style

    zeros = data[data["part"] == ZERO].set_index("term")["level"]
    for rank, (term, line) in enumerate(data[data["part"] == FORMAT].groupby("term", sort=False)):
        seen = line[line["change"] > 0]
        panel.plot(seen["level"], seen["change"], color="black", linewidth=0.9 + 0.5 * rank, alpha=0.5, label=term)
        end = zeros[term], seen["change"].iloc[-1]
        panel.plot(*end, color="black", marker="x", markersize=4, linestyle="none")
        place: dict[str, Any] = {"xytext": (-2, -4), "ha": "right", "va": "top"}
        panel.annotate(f"{term}:\n0 from\n{end[0]:.3g} nats", end, textcoords="offset points", fontsize=style.SMALL, **place)
    panel.set(xscale="log", yscale="log", title="at sequence scale, $π(y_w) = π(y_l)$")
    panel.set(ylim=(1e-20, 10), xlabel=LEVEL, ylabel="change by $\\log(1-π(y_l))$ (nats)")
    _lengths(panel, data, named=True)


def _at_scale(panel: Axes, data: pd.DataFrame) -> None:
    """The pull that is left."""
    from figures import style

    ends = _lines(panel, data[data["part"] == SCALE], "level", "pull")
    panel.set(xscale="log", yscale="log", xlabel=LEVEL, ylabel="pull, −d loss/d margin")
    _lengths(panel, data, named=False)
    style.label_ends(panel, ends)


def _lengths(panel: Axes, data: pd.DataFrame, *, named: bool) -> None:
    """Where responses in use lie."""
    from figures import style

    for rank, (term, level) in enumerate(data.loc[data["part"] == LENGTH, ["term", "level"]].itertuples(index=False)):
        panel.axvline(level, color=style.GREY, linewidth=0.6, linestyle=":", zorder=1)
        if named:
            place: dict[str, Any] = {"rotation": 90, "va": "top", "ha": "left" if rank else "right"}
            at = (level, 0.98)
            panel.text(*at, term, transform=panel.get_xaxis_transform(), fontsize=style.SMALL, color=style.GREY, **place)


def caption(data: pd.DataFrame) -> str:
    """How active each is on an ambiguous pair, and what is left of the unlikelihood at the length of a response."""
    curves, scale = data[data["part"] == CURVE], data[data["part"] == SCALE]
    middle = curves[curves["margin"].abs() < 1e-9].set_index("term")
    dpo, most = middle.loc["dpo", "pull"], _strongest(middle)
    zeros = data[data["part"] == ZERO].set_index("term")["level"]
    length = data.loc[data["part"] == LENGTH].iloc[0]
    left = scale[scale["level"] == length["level"]].set_index("term")
    gone = f"nothing even in {zeros.idxmax()}" if length["level"] > zeros.max() else "something still"
    every = "less than DPO at every γf" if most["pull"] < dpo else "more than DPO at some γf"
    return (
        f"On an ambiguous pair DRDO's focal term pulls {every}: at most {short(most['pull'])} against {short(dpo)}. "
        f"For {length['term']} its log(1 − π(y_l)) changes {gone}, and it pulls with up to "
        f"{short(_strongest(left)['pull'])} against DPO's {short(left.loc['dpo', 'pull'])}."
    )


def _strongest(rows: pd.DataFrame) -> pd.Series:
    return rows.loc[["drdo"]].nlargest(1, "pull").iloc[0]


FIGURE = Figure(
    name="focal",
    title="DRDO's focal log-odds-unlikelihood and DPO: loss and pull against margin and p_w, and at sequence scale",
    source="drdo Fig. 2",
    config=Config(),
    fast=Config(points=61),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(rows=2, columns=3, wide=True, height=4.2),
)
