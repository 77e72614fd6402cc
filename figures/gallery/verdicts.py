"""Every claim of the papers and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from figures.figure import Figure, Layout
from figures.words import listed, some

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLUMNS = 5
# Fill and mark of each verdict, in the order of the cells; the marks are for eyes that see no difference of colour.
LOOKS = {
    "fails": ("#F0A37E", "✗"),
    "holds-if": ("#FBE3A1", "(✓)"),
    "holds": ("#A9D3EE", "✓"),
    "not-checkable": ("#E4E4E4", "?"),
}
WORDS = {"fails": "fail", "holds-if": "need an assumption", "holds": "hold as stated", "not-checkable": "not checkable"}


@dataclass(frozen=True)
class Config:
    """What is shown: nothing can be chosen, all is in the committed records.

    Attributes:
        papers: short names, in the order of the picture.
    """

    papers: tuple[str, ...] = ("unified", "drdo", "distillation")


def data(config: Config) -> pd.DataFrame:
    """One row a claim: paper, id without the paper, statement, verdict, and the verdict expected before it was computed."""
    import pandas as pd

    from paper_checks import records
    from paper_checks.claims import claims

    rows = []
    for claim in claims().values():
        record = records.load(claim)
        if record is None:
            raise LookupError(f"{claim.id} has no record: run paper-checks run --record")
        name = claim.id.removeprefix(f"{claim.paper}-")
        rows.append((claim.paper, name, claim.statement, record["verdict"], str(claim.expects)))
    table = pd.DataFrame(rows, columns=["paper", "claim", "statement", "verdict", "expected"])
    return table[table["paper"].isin(config.papers)].reset_index(drop=True)


def draw(data: pd.DataFrame, axes: Sequence[Axes]) -> None:
    """A block of cells a paper, in the order of the verdicts, under a row of counts."""
    (panel,) = axes
    panel.set_axis_off()
    top = 0.0
    for paper, rows in data.groupby("paper", sort=False):
        panel.text(0, top + 0.45, f"{paper}: {len(rows)} claims", fontsize=7.5, fontweight="bold", va="center")
        counts = rows["verdict"].value_counts()
        for column, verdict in enumerate(LOOKS, start=1):
            _cell(panel, column, top, f"{counts.get(verdict, 0)} {WORDS[verdict]}", verdict, fontweight="bold")
        ordered = rows.sort_values("verdict", key=lambda column: column.map(list(LOOKS).index), kind="stable")
        for place, (claim, verdict) in enumerate(zip(ordered["claim"], ordered["verdict"], strict=True)):
            _cell(panel, place % COLUMNS, top + 1.2 + place // COLUMNS, claim, verdict)
        top += 1.75 + -(-len(rows) // COLUMNS)
    panel.set(xlim=(0, COLUMNS), ylim=(top - 0.6, 0))


def _cell(panel: Axes, column: float, row: float, words: str, verdict: str, **given: Any) -> None:
    from matplotlib.patches import Rectangle

    fill, mark = LOOKS[verdict]
    panel.add_patch(Rectangle((column, row), 0.98, 0.9, facecolor=fill, linewidth=0, gid=verdict))
    panel.text(column + 0.06, row + 0.45, mark, fontsize=5.8, va="center", ha="center", fontweight="bold")
    panel.text(column + 0.125, row + 0.45, words, fontsize=5.8, va="center", **given)


def caption(data: pd.DataFrame) -> str:
    """How many hold, and where those that fail are."""
    total, counts = len(data), data["verdict"].value_counts()
    count = {verdict: int(counts.get(verdict, 0)) for verdict in LOOKS}
    outcome = f"{count['holds-if']} need an assumption that the text lacks, {count['fails']} fail"
    failing = data.loc[data["verdict"] == "fails", "paper"].value_counts()
    where = listed([f"{number} in {paper}" for paper, number in failing.items()]) or "none"
    expected = int((data["verdict"] == data["expected"]).sum())
    return (
        f"Of {total} claims {count['holds']} hold as stated, {outcome} and {count['not-checkable']} cannot be checked. "
        f"By paper the failures are {where}, and {some(expected, total)} verdicts are as we had expected."
    )


FIGURE = Figure(
    name="verdicts",
    title="every claim of the papers and its verdict",
    source="all three papers",
    config=Config(),
    fast=Config(),
    data=data,
    draw=draw,
    caption=caption,
    layout=Layout(wide=True, height=4.9),
    reads=("paper_checks/records/*.json",),
)
