"""Following every run of a study, each stored as soon as it is done."""

from __future__ import annotations

import hashlib
import json
from functools import partial

from llm.consistency import run as running
from llm.consistency.run import Job
from llm.consistency.study import Cell, Study
from llm.curves.follow import TEMPERATURES, follow
from theory.errors import UserError

RESULTS = "curves.parquet"
# Raised when what is measured changes, so that parts of an older version are not taken for its own.
RECIPE = 1


def check(study: Study, points: int) -> None:
    """Raise `UserError` for curves that cannot be made, before anything is."""
    running.check(study)
    if len(study.sizes) > 1:
        raise UserError("--n", ", ".join(f"{n:g}" for n in study.sizes), "must be one size: curves are of one data set each")
    if points < 1:
        raise UserError("--points", points, "must be at least 1")


def job(points: int) -> Job:
    """What `llm.consistency.run.run_study` makes of each cell."""
    return Job(partial(follow, points=points), partial(_name, points=points), RESULTS)


def _name(cell: Cell, points: int) -> str:
    """A file name as `Cell.name`, of the curve."""
    measured = hashlib.sha256(json.dumps([RECIPE, points, TEMPERATURES]).encode()).hexdigest()[:6]
    return f"curve-{measured}-{cell.name}"
