"""Prior smoothing: RKL starts from a flatter prior than RLHF, so that actions which π_ref neglects keep more mass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import short, some

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Height of an equilateral triangle of side 1.
HEIGHT = 3**0.5 / 2


@dataclass(frozen=True)
class Config:
    """The paper's toy problem: no context, a fixed reference and a learned reward; γ = 1. All values are ours.

    Attributes:
        reference, reward: of the three actions of the simplex.
        alphas: of RKL's paths on the simplex, along β.
        betas: log₁₀ of the largest and of the least β of a path, and how many there are.
        vocab, decay: of the second policy: π_ref(k) ∝ decay^k, with rewards from N(0, 1) of seed 0.
        shown: (α, β) of the policies drawn.
        pairs: (α, β) at which RKL is compared with RLHF.
    """

    reference: tuple[float, ...] = (0.85, 0.1, 0.05)
    reward: tuple[float, ...] = (0.0, 2.0, 1.0)
    alphas: tuple[float, ...] = (0.5, 1.0, 4.0)
    betas: tuple[float, float, int] = (2.5, -2.5, 201)
    vocab: int = 10
    decay: float = 0.5
    shown: tuple[float, float] = (1.0, 0.5)
    pairs: tuple[tuple[float, float], ...] = ((0.25, 1.0), (1.0, 1.0), (1.0, 0.25))


def data(config: Config) -> pd.DataFrame:
    """Three kinds of rows (``part``), one an action, or one a policy on the simplex.

    ``simplex``: paths along β (columns ``x``, ``y``: the plane; p0, p1, p2: probabilities). ``policy``: one policy a
    curve. ``gain``: log π_RKL/π_RLHF (nats) at the same total temperature α + β, or with RLHF at the same β.
    """
    import pandas as pd

    return pd.DataFrame([*_simplex(config), *_policies(config), *_gains(config)])


def _simplex(config: Config) -> Iterator[dict[str, Any]]:
    import numpy as np

    from paper_checks.unified.dilemma import policies

    reference, reward = np.array(config.reference), np.array(config.reward)
    for beta in np.logspace(*config.betas).tolist():
        _, plain = policies(reference, reward, 1.0, beta, beta)
        yield _point("rlhf", 0.0, beta, plain)
        for alpha in config.alphas:
            smoothed, _ = policies(reference, reward, alpha, beta, beta)
            yield _point("rkl", alpha, beta, smoothed)


def _point(method: str, alpha: float, beta: float, policy: Any) -> dict[str, Any]:
    p0, p1, p2 = policy.tolist()
    place = {"x": p1 + p2 / 2, "y": p2 * HEIGHT}
    return {"part": "simplex", "curve": method, "alpha": alpha, "beta": beta, **place, "p0": p0, "p1": p1, "p2": p2}


def second(config: Config) -> tuple[Any, Any]:
    """Reference and reward of the second policy."""
    import numpy as np

    reference = config.decay ** np.arange(config.vocab)
    return reference / reference.sum(), np.random.default_rng(0).standard_normal(config.vocab)


def _policies(config: Config) -> Iterator[dict[str, Any]]:
    """RKL, RLHF at the same total temperature, and what each makes of a reward of 0: its prior."""
    from paper_checks.unified.dilemma import policies

    reference, reward = second(config)
    alpha, beta = config.shown
    smoothed, plain = policies(reference, reward, alpha, beta, alpha + beta)
    smoothed_prior, plain_prior = policies(reference, 0 * reward, alpha, beta, alpha + beta)
    curves = {"rlhf": plain, "rkl": smoothed, "rlhf prior": plain_prior, "rkl prior": smoothed_prior}
    for curve, policy in curves.items():
        for action, p in enumerate(policy.tolist()):
            shared = {"part": "policy", "curve": curve, "alpha": alpha, "beta": beta, "action": action + 1}
            yield {**shared, "reference": reference[action], "reward": reward[action], "probability": p}


def _gains(config: Config) -> Iterator[dict[str, Any]]:
    import numpy as np

    from paper_checks.unified.dilemma import follows_rarity, policies

    reference, reward = second(config)
    for alpha, beta in config.pairs:
        for curve, rlhf_beta in (("same α + β", alpha + beta), ("same β", beta)):
            smoothed, plain = policies(reference, reward, alpha, beta, rlhf_beta)
            rarer = follows_rarity(reference, smoothed, plain)
            for action, gain in enumerate(np.log(smoothed / plain).tolist()):
                shared = {"part": "gain", "curve": curve, "alpha": alpha, "beta": beta, "action": action + 1, "rarer": rarer}
                yield {**shared, "reference": reference[action], "gain": gain}


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """The simplex, the larger policy, and the gain of every action."""
    simplex, policy, gain = axes
    _draw_simplex(data[data["part"] == "simplex"], simplex)
    _draw_policies(data[data["part"] == "policy"], policy)
    _draw_gains(data[data["part"] == "gain"], gain)


def _draw_simplex(rows: pd.DataFrame, panel: Axes) -> None:
    from figures import style

    panel.fill([0, 1, 0.5], [0, 0, HEIGHT], facecolor="none", edgecolor=style.GREY, linewidth=0.8)
    for (curve, alpha), path in rows.groupby(["curve", "alpha"], sort=False):
        look = style.method(str(curve), markersize=3.5)
        panel.plot(path["x"], path["y"], **{**look, "marker": "", "label": f"{curve}, α = {alpha:g}"})
        end = path.iloc[-1]
        panel.plot([end["x"]], [end["y"]], **look)
        words, at = (f"α = {alpha:g}", (2, 4)) if alpha else ("RLHF", (4, -2))
        _write(panel, words, end, at, color=look["color"])
    start = rows.iloc[0]
    panel.plot([start["x"]], [start["y"]], marker="D", color="black", markersize=3.5)
    _write(panel, "π$_{ref}$", start, (-20, 1))
    for text, x, y, ha in (("action 1", 0, -0.03, "center"), ("action 2: highest reward", 1.08, -0.03, "right")):
        panel.text(x, y, text, fontsize=style.SMALL, color=style.GREY, ha=ha, va="top")
    panel.text(0.5, HEIGHT + 0.02, "action 3", fontsize=style.SMALL, color=style.GREY, ha="center", va="bottom")
    panel.text(0.36, 0.27, "RKL", fontsize=style.SMALL + 1, color=style.colour("rkl"), ha="center")
    panel.set(aspect="equal", xlim=(-0.1, 1.1), ylim=(-0.12, HEIGHT + 0.1), title="where β → 0 leads from π$_{ref}$")
    panel.axis("off")


def _write(panel: Axes, text: str, point: pd.Series, offset: tuple[float, float], **given: Any) -> None:
    from figures import style

    panel.annotate(text, (point["x"], point["y"]), offset, textcoords="offset points", **{"fontsize": style.SMALL, **given})


def _draw_policies(rows: pd.DataFrame, panel: Axes) -> None:
    from figures import style

    labels = []
    for curve, of_curve in rows.groupby("curve", sort=False):
        method, *prior = str(curve).split()
        given = {"linestyle": "--", "marker": "", "linewidth": 0.9} if prior else {}
        panel.plot(of_curve["action"], of_curve["probability"], **style.method(method, label=curve, **given))
        text = "its prior" if prior else method.upper()
        labels.append((of_curve["action"].iloc[-1], of_curve["probability"].iloc[-1], text, style.colour(method)))
    alpha, beta = rows[["alpha", "beta"]].iloc[0]
    panel.set(yscale="log", xlabel="action, the rarest under π$_{ref}$ last", ylabel="probability")
    panel.set(xticks=sorted(rows["action"].unique()), title=f"RKL(α = {alpha:g}, β = {beta:g}), RLHF(β = {alpha + beta:g})")
    style.label_ends(panel, labels)


def _draw_gains(rows: pd.DataFrame, panel: Axes) -> None:
    from figures import style

    labels = []
    for (alpha, beta, curve), of_curve in rows.groupby(["alpha", "beta", "curve"], sort=False):
        given = {"linestyle": ":", "color": style.GREY, "marker": "", "zorder": 1} if curve == "same β" else {}
        panel.plot(of_curve["reference"], of_curve["gain"], **style.method("rkl", label=f"{curve} {alpha:g} {beta:g}", **given))
        if not given:
            last = of_curve.iloc[-1]
            labels.append((last["reference"], last["gain"], f"{alpha:g}, {beta:g}", style.colour("rkl")))
    panel.axhline(0, color=style.GREY, linewidth=0.6)
    panel.set(xscale="log", xlabel="π$_{ref}$ of the action", ylabel="log π$_{RKL}$/π$_{RLHF}$ (nats)")
    panel.set(title="what RKL(α, β) gives to the rare")
    panel.invert_xaxis()
    style.note(panel, "blue: RLHF at α + β\ndotted: RLHF at β\nat the ends: α, β", (0.03, 0.96), va="top")
    style.label_ends(panel, labels)


def caption(data: pd.DataFrame) -> str:
    """What the rarest action gains, and when."""
    import numpy as np

    gains = data[data["part"] == "gain"]
    rarest = gains.loc[gains.groupby(["curve", "alpha", "beta"])["reference"].idxmin()]
    tempered, equal = (rarest[rarest["curve"] == curve] for curve in ("same α + β", "same β"))
    most = tempered.loc[tempered["gain"].idxmax()]
    return (
        f"At the same total temperature α + β, RKL's share of an action over RLHF's grows with its rarity under π_ref in "
        f"{_count(tempered)} settings, up to {short(np.exp(most['gain']))} times at π_ref = {short(most['reference'])}. "
        f"At the same β, where RKL is only a tempered copy of RLHF, that order holds in {_count(equal)}."
    )


def _count(settings: pd.DataFrame) -> str:
    return some(int(settings["rarer"].sum()), len(settings))


FIGURE = Figure(
    name="prior-smoothing",
    title="prior smoothing: RKL flattens the reference, RLHF does not",
    source="unified Appendix B",
    config=Config(),
    fast=Config(betas=(2.5, -2.5, 101)),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(columns=3, wide=True, height=2.3),
)
