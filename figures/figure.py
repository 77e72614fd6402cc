"""What a figure is: data apart from drawing, and a caption that takes its numbers from the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

# Tables of `llm`'s runs that are committed here, and the commands that make them.
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Layout:
    """Panels of a figure at print size.

    Attributes:
        rows, columns: of panels.
        wide: two columns of a page wide, else one.
        height: inches.
    """

    rows: int = 1
    columns: int = 1
    wide: bool = False
    height: float = 2.6


@dataclass(frozen=True)
class Results:
    """A table of language-model runs that a figure reads.

    Attributes:
        file: its name in the folder of results.
        command: what makes it again.
    """

    file: str
    command: str


@dataclass(frozen=True)
class FromResults:
    """The configuration of a figure that is drawn from `Results` and computes nothing else.

    Attributes:
        results: the folder of the table.
    """

    results: str = str(RESULTS)


@dataclass(frozen=True)
class Figure:
    """A figure of the papers, or one that they lack.

    Attributes:
        name: of the command line; the module's, with hyphens.
        title: one line.
        source: the paper and figure it reproduces or answers.
        config: everything the data depend on but the code: a frozen dataclass; decides the cache's key.
        fast: the same with less work, for ``--fast``.
        data: the tidy table of a configuration. It draws nothing.
        draw: draws a table on the panels, in reading order. It computes nothing.
        caption: the takeaway, two sentences with numbers of the table.
        layout: panels and size.
        results: what it reads of `llm`'s; the field ``results`` of ``config`` is then their folder.
        reads: other files that ``data`` reads, as patterns from the project's root (``paper_checks/records/*.json``): the
            cached data are those of their bytes.
    """

    name: str
    title: str
    source: str
    config: Any
    fast: Any
    data: Callable[[Any], pd.DataFrame]
    draw: Callable[[pd.DataFrame, Sequence[Axes]], None]
    caption: Callable[[pd.DataFrame], str]
    layout: Layout = field(default_factory=Layout)
    results: Results | None = None
    reads: tuple[str, ...] = ()
