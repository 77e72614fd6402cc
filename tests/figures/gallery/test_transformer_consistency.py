"""Transformers against n: the table behind the figure, what is drawn and said."""

import json

import pandas as pd
import pytest

from figures.build import render
from figures.figure import FromResults
from figures.gallery.transformer_consistency import COLUMNS, FIGURE

SIZES, SEEDS, START = (1000, 100_000), (0, 1, 2), 0.35
FLOORS = {"pmle": 0.0, "dpo": 0.2, "drdo": 0.02}
HYPER = {"pmle": {"beta": 0.0}, "dpo": {"beta": 1.0}, "drdo": {"alpha": 0.1, "gamma_f": 2.0}}
FACTORS = {1000: 2.0, 100_000: 1.5}


def _runs() -> pd.DataFrame:
    rows = []
    for method, floor in FLOORS.items():
        for n in SIZES:
            for seed in SEEDS:
                table = floor + (100 + seed) / n
                run = {"method": method, "n": n, "seed": seed, "table_forward_kl": table, "floor": floor}
                run |= {"forward_kl": FACTORS[n] * table, "forward_kl_before": START, "off_language_mass": 1e-4}
                rows.append(run | {"hyperparameters": json.dumps(HYPER[method])})
    return pd.DataFrame(rows)


@pytest.fixture
def data(tmp_path):
    _runs().to_parquet(tmp_path / "consistency.parquet")
    return FIGURE.data(FromResults(str(tmp_path)))


def test_one_row_a_run_as_it_was_written(data):
    pd.testing.assert_frame_equal(data[COLUMNS], _runs()[COLUMNS])
    assert data.groupby("method")["label"].first().to_dict() == {"pmle": "pmle, β = 0", "dpo": "dpo, β = 1", "drdo": "drdo"}


def test_what_is_drawn(data):
    (axes,) = render(FIGURE, data).axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    tables = {line.get_gid().removeprefix("table "): line for line in axes.lines if line.get_gid()}
    for container, (method, floor) in zip(axes.containers, FLOORS.items(), strict=True):
        points, _, (bars,) = container
        means = [floor + 101 / n for n in SIZES]
        assert tables[method].get_xydata() == pytest.approx(pd.DataFrame({"n": SIZES, "kl": means}).to_numpy())
        assert points.get_ydata() == pytest.approx([FACTORS[n] * mean for n, mean in zip(SIZES, means, strict=True)])
        ends = [[FACTORS[n] * (floor + (100 + seed) / n) for seed in (0, 2)] for n in SIZES]
        assert [segment[:, 1].tolist() for segment in bars.get_segments()] == [pytest.approx(pair) for pair in ends]
        assert points.get_color() == tables[method].get_color()
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == [FLOORS["dpo"], FLOORS["drdo"]]
    (start,) = [line for line in axes.lines if line.get_linestyle() == "-."]
    assert start.get_ydata()[0] == START
    assert {text.get_text() for text in axes.texts} >= {"pmle, β = 0", "dpo, β = 1", "drdo"}


def test_what_is_said_follows_the_numbers(data):
    said = FIGURE.caption(data)
    assert said.count(". ") == 1
    for words in (
        "PMLE falls from 0.20 to 0.0015 nats",
        "DPO ends at 0.30 nats and DRDO ends at 0.032 nats by n = 1e5.",
        "51% from DPO's exact floor of 0.20 and 58% from DRDO's exact floor of 0.020 nats.",
    ):
        assert words in said, said


def test_a_study_of_consistent_methods_only(data):
    said = FIGURE.caption(data[data["method"] == "pmle"])
    assert (
        said
        == "In the forward KL of transformers PMLE falls from 0.20 to 0.0015 nats by n = 1e5. None of these methods has a floor."
    )
    worse = data.assign(forward_kl=data["forward_kl"].where(data["n"] < data["n"].max(), 1.0))
    assert "PMLE rises from 0.20 to 1.0 nats" in FIGURE.caption(worse)
