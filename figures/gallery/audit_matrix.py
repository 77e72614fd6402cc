"""Every objective's properties at a glance, from its audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import short, some, written

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from theory.instances import Instance

# What a property is called above its column, for those of `theory.audit.run.MATRIX`.
HEADINGS = {
    "consistent": "consistent?",
    "floor": "floor\n(nats)",
    "efficiency": "efficiency",
    "separable": "finite on\nseparable\ndata?",
    "population": "finite in the\npopulation?",
    "noise": "flipped\nlabels",
    "coverage": "error's slope\nin coverage",
    "over-opt.": "over-\noptimises?",
    "displaces": "can lower\nthe winner?",
}
GOOD, MIXED, BAD, OPEN, NONE = "good", "mixed", "bad", "open", "none"
FILLS = {GOOD: "#A9D3EE", MIXED: "#FBE3A1", BAD: "#F0A37E", OPEN: "#E4E4E4", NONE: "white"}
MEANINGS = {GOOD: "good", MIXED: "in part", BAD: "bad", OPEN: "not decided", NONE: "a number alone, or does not apply"}
# The tone of every word that an audit fills a column with; numbers have tones of their own in `tone`.
TONES = {
    "consistent": {"yes": GOOD, "no": BAD},
    "separable": {"yes": GOOD, "no": BAD},
    "population": {"yes": GOOD, "no": BAD},
    "noise": {"immune": GOOD, "tolerant": GOOD, "sensitive": BAD, "collapses": BAD, "no minimiser": BAD},
    "coverage": {"no minimiser": BAD},
    "over-opt.": {"no": GOOD, "yes": BAD, "both fall": BAD, "gold falls": BAD, "no minimiser": BAD},
    "displaces": {"no": GOOD, "shared only": MIXED, "on a table too": BAD},
}


@dataclass(frozen=True)
class Config:
    """What is audited, on the instance that `theory audit` uses unasked.

    Attributes:
        methods: names; all registered ones without.
    """

    methods: tuple[str, ...] = ()


def data(config: Config) -> pd.DataFrame:
    """One row a method and property: the audit's words, their tone, and the method's floor (nats)."""
    import pandas as pd

    from theory import objectives
    from theory.audit.run import MATRIX, matrix

    rows = []
    for name in config.methods or objectives.names():
        record = _audited(name)
        (cells,) = matrix([record])
        for column, cell in zip(MATRIX, cells[1:], strict=True):
            rows.append((name, column, cell, tone(column, cell), record["floor"], record["instance"]))
    return pd.DataFrame(rows, columns=["method", "property", "cell", "tone", "floor", "instance"])


def _audited(name: str) -> dict[str, Any]:
    """The record of an audit without the questions that fill no column of the table."""
    from theory import objectives
    from theory.audit import equivalence
    from theory.audit.run import SECTIONS, Audit
    from theory.audit.subject import ZERO, Subject

    class Headline(Subject):
        """A subject whose companions are tried only if the instance does not already refute consistency."""

        @property
        def family(self) -> tuple[Instance, ...]:
            return super().family if self.limit.forward_kl <= ZERO else (self.instance,)

    subject = Headline(objectives.get(name))
    return Audit(subject, [section(subject) for section in SECTIONS if section is not equivalence.section], 0.0).record()


def tone(column: str, cell: str) -> str:
    """How a cell is coloured; raises `KeyError` for a word that is in no audit."""
    if cell == "–":
        return NONE
    if cell == "not decided":
        return OPEN
    if column == "floor":
        return GOOD if cell == "0" else BAD
    if column == "efficiency":
        return {"100%": GOOD, "0%": BAD}.get(cell, MIXED)
    if column == "coverage" and cell not in TONES[column]:
        return NONE  # a slope: steeper is worse only for a method that has no floor
    return TONES[column][cell]


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """A row a method, nearest to the target first, a column a property."""
    from matplotlib.patches import Rectangle

    from figures import style

    (panel,) = axes
    panel.set_axis_off()
    columns = list(dict.fromkeys(data["property"]))
    # Rounded, so that what rounding leaves of 0 does not decide who stands on top.
    ordered = data.assign(floor=data["floor"].round(6)).sort_values(["floor", "method"], kind="stable")
    methods = list(dict.fromkeys(ordered["method"]))
    for place, column in enumerate(columns):
        panel.text(
            place + 0.48,
            -0.12 - 0.012 * len(methods),
            HEADINGS[column],
            fontsize=6.5,
            ha="center",
            va="baseline",
            linespacing=1.05,
        )
    for row, method in enumerate(methods):
        panel.text(-0.1, row + 0.45, method, fontsize=7, ha="right", va="center", color=style.colour(method), fontweight="bold")
    for method, column, cell, tone_ in data[["method", "property", "cell", "tone"]].itertuples(index=False):
        x, y = columns.index(column), methods.index(method)
        panel.add_patch(Rectangle((x, y), 0.96, 0.9, facecolor=FILLS[tone_], linewidth=0, gid=f"{method} {column} {tone_}"))
        panel.text(x + 0.48, y + 0.45, cell, fontsize=6.2, ha="center", va="center")
    bottom = len(methods) + 0.35
    at = 0.0
    for key, meaning in MEANINGS.items():
        box = Rectangle((at, bottom), 0.3, 0.7, facecolor=FILLS[key], edgecolor=style.GREY, gid=f"key {key}")
        box.set_linewidth(0.4 if key == NONE else 0.0)
        panel.add_patch(box)
        panel.text(at + 0.38, bottom + 0.35, meaning, fontsize=6.5, va="center", color=style.GREY)
        at += 0.8 + 0.075 * len(meaning)
    panel.set(xlim=(-1.1, len(columns)), ylim=(bottom + 0.8, -0.2 - 0.1 * len(methods)))


def caption(data: pd.DataFrame) -> str:
    """Who is consistent, and what that costs."""
    table = data.pivot(index="method", columns="property", values="cell")
    floors = data.drop_duplicates("method").set_index("method")["floor"]
    consistent = sorted(table.index[table["consistent"] == "yes"])
    others = floors.drop(consistent).sort_values()
    harmed = set(table.index[table["noise"].map(TONES["noise"]) == BAD])
    shares = [
        (len(harmed & set(consistent)), consistent, "consistent objectives"),
        (len(harmed & set(others.index)), others, "others"),
    ]
    told = " and ".join(f"{some(count, len(of))} {what}" for count, of, what in shares if len(of))
    return f"Of {len(table)} objectives {_verb(consistent)}{_stopping(others)}. Flipped labels harm {told}."


def _verb(consistent: list[str]) -> str:
    return f"{written(*consistent) or 'none'} {'is' if len(consistent) < 2 else 'are'} consistent"


def _stopping(floors: pd.Series) -> str:
    """Between which distances from the target the others stop; floors in rising order."""
    ends = [f"{short(floors.iloc[k])} ({written(floors.index[k])})" for k in ((0, -1) if len(floors) > 1 else (0,) * len(floors))]
    verb = "stop" if len(floors) > 1 else "stops"
    return f", and the rest {verb} {' to '.join(ends)} nats from the target" if ends else ""


FIGURE = Figure(
    name="audit-matrix",
    title="method × property: what the audit found",
    source="in no paper",
    config=Config(),
    fast=Config(methods=("dpo", "drdo", "pmle", "rkl", "rlhf", "sft")),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(wide=True, height=3.6),
)
