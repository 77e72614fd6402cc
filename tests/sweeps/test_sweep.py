from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from theory.cli.main import run
from theory.errors import UserError
from theory.instances import random_instance
from theory.objectives import get
from theory.simulation import Settings, draw_data, make_task, solve
from theory.sweeps.store import Store

SMALL = ("--methods", "rkl,dpo", "--n", "1e3:1e5:3", "--seeds", "4", "--vocab", "4", "--contexts", "3", "--jobs", "1")


def sweep(out: Path, *extra: object, small: tuple[str, ...] = SMALL) -> int:
    return run(["sweep", "--out", str(out), *small, *(str(e) for e in extra)])


def table(out: Path) -> pd.DataFrame:
    rows = pd.concat([pd.read_parquet(path) for path in sorted((out / "parts").glob("*.parquet"))])
    return rows.sort_values(["method", "n", "seed"]).reset_index(drop=True)


def numbers(out: Path) -> pd.DataFrame:
    return table(out)[["method", "n", "seed", "beta", "forward_kl", "reverse_kl", "gradient_norm"]]


def test_rows_are_what_simulate_gives(tmp_path):
    assert sweep(tmp_path / "s") == 0
    rows = table(tmp_path / "s")
    assert len(rows) == 2 * (3 * 4 + 1)
    world = random_instance(0, vocab=4, contexts=3)
    settings = Settings(get("rkl"))
    for replicate in range(4):
        data = draw_data(world, 1e4, 0, range(replicate, replicate + 1))
        expected = solve(world, make_task(world, data, settings), settings)
        row = rows.query("method == 'rkl' and n == 1e4 and seed == @replicate").iloc[0]
        assert row.forward_kl == pytest.approx(expected.forward_kl[0], rel=1e-9)
        assert row.beta == pytest.approx(expected.hyper["beta"][0], rel=1e-6)
    for column in ("version", "instance", "root_seed", "ridge", "hyperparameters", "certificate", "beta_rule"):
        assert rows[column].notna().all()


def test_the_same_numbers_on_any_number_of_workers(tmp_path):
    sweep(tmp_path / "one")
    sweep(tmp_path / "two", "--jobs", "2")
    pd.testing.assert_frame_equal(numbers(tmp_path / "one"), numbers(tmp_path / "two"), rtol=1e-9)


def test_a_second_start_computes_only_what_is_missing(tmp_path, capsys):
    sweep(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "parts").iterdir()}
    capsys.readouterr()
    sweep(tmp_path)
    assert "8 of 8 chunks were there already" in capsys.readouterr().err
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "parts").iterdir()} == before
    (tmp_path / "parts" / next(iter(before))).unlink()
    sweep(tmp_path)
    assert "7 of 8" in capsys.readouterr().err
    small = ("--methods", "rkl,dpo,rlhf", "--n", "1e3,1e4,1e5,1e6", *SMALL[4:])
    sweep(tmp_path, small=small)
    assert "8 of 15" in capsys.readouterr().err


def test_the_table_at_the_end(tmp_path, capsys):
    sweep(tmp_path, "--json")
    import json

    record = json.loads(capsys.readouterr().out)
    rkl, dpo = record["methods"]
    assert rkl["floor"] < 1e-12 < dpo["floor"]
    assert rkl["slope"]["low"] <= -0.9
    assert abs(dpo["slope"]["value"]) < 0.2
    sweep(tmp_path)
    out = capsys.readouterr().out
    assert "slope" in out
    assert "efficiency" in out


@pytest.mark.parametrize("broken", [b"", b"PAR1", b"PAR1" + b"\0" * 500])
def test_a_half_written_file_is_recomputed_and_plot_refuses_it(tmp_path, capsys, broken):
    sweep(tmp_path)
    whole = numbers(tmp_path)
    victim = sorted((tmp_path / "parts").glob("rkl-*.parquet"))[0]
    victim.write_bytes(broken)
    capsys.readouterr()
    assert run(["plot", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: DIR {victim}")
    assert "sweep again" in error
    assert len(error.splitlines()) == 1
    sweep(tmp_path)
    assert "1 results files were half-written" in capsys.readouterr().err
    pd.testing.assert_frame_equal(numbers(tmp_path), whole, rtol=1e-9)
    assert run(["plot", str(tmp_path)]) == 0
    assert (tmp_path / "forward_kl.png").stat().st_size > 10_000


def test_leftovers_of_a_killed_writer_are_ignored(tmp_path):
    sweep(tmp_path)
    (tmp_path / "parts" / ".left.tmp").write_bytes(b"half")
    rows = len(table(tmp_path))
    assert Store(tmp_path).read().num_rows == rows


def start(out: Path, *extra: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "theory", "sweep", "--out", str(out), *extra]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


LONGER = ("--methods", "pmle,pref-distill", "--n", "1e2:1e6:9", "--seeds", "100", "--jobs", "2", "--vocab", "6")


def test_kill_9_loses_at_most_the_chunks_in_flight(tmp_path):
    parts = tmp_path / "parts"
    process = start(tmp_path, *LONGER)
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.parquet"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    survivors = {p.name: p.read_bytes() for p in parts.glob("*.parquet")}
    assert 4 <= len(survivors) < 38, "the sweep ended before it could be killed"
    for path in parts.glob("*.parquet"):
        pd.read_parquet(path)
    resumed = start(tmp_path, *LONGER)
    _, error = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, error
    assert f"{len(survivors)} of 38 chunks were there already".encode() in error
    assert {name: (parts / name).read_bytes() for name in survivors} == survivors
    rows = table(tmp_path)
    assert len(rows) == 2 * (9 * 100 + 1)
    assert not rows.duplicated(["method", "n", "seed"]).any()


def test_two_at_once_do_not_corrupt_each_other(tmp_path):
    sweep(tmp_path / "alone")
    both = [start(tmp_path / "shared", *SMALL) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
    pd.testing.assert_frame_equal(numbers(tmp_path / "shared"), numbers(tmp_path / "alone"), rtol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_of_two_worker_processes_gives_the_same(tmp_path):
    from distributed import LocalCluster

    sweep(tmp_path / "here")
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert sweep(tmp_path / "there", "--backend", f"dask:{cluster.scheduler_address}") == 0
    pd.testing.assert_frame_equal(numbers(tmp_path / "there"), numbers(tmp_path / "here"), rtol=1e-9)


def test_a_users_own_objective_can_be_swept_on_two_workers(tmp_path):
    (tmp_path / "mine.py").write_text("def hinge(pair, *, beta=0.5):\n    return (1 - beta * pair.logratio_margin).relu() ** 2\n")
    small = ("--methods", "rkl", "--objective", f"{tmp_path}/mine.py:hinge", *SMALL[2:-1], "2")
    assert sweep(tmp_path / "s", small=small) == 0
    assert set(table(tmp_path / "s").method) == {"rkl", "hinge"}
    before = len(list((tmp_path / "s" / "parts").iterdir()))
    (tmp_path / "mine.py").write_text("def hinge(pair, *, beta=0.5):\n    return (2 - beta * pair.logratio_margin).relu() ** 2\n")
    sweep(tmp_path / "s", small=small)
    assert len(list((tmp_path / "s" / "parts").iterdir())) > before, "a changed source is another method"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("--n", "0:1e5:3"), "--n 0"),
        (("--n", "1e5:1e2:3"), "LOW ≤ HIGH"),
        (("--n", "1e2:1e5"), "LOW:HIGH:COUNT"),
        (("--n", "1e2:inf:3"), "LOW:HIGH:COUNT"),
        (("--n", "inf"), "at least one finite"),
        (("--methods", "rkl,dop"), "did you mean dpo?"),
        (("--methods", ","), "--methods"),
        (("--seeds", "0"), "--seeds 0"),
        (("--jobs", "0"), "--jobs 0"),
        (("--backend", "ray"), "--backend ray"),
        (("--backend", "dask:tcp://127.0.0.1:1"), "no scheduler"),
        (("--tau", "1"), "--tau"),
        (("--gamma", "0"), "--gamma 0"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_bad_input_is_one_line(tmp_path, capsys, extra, words):
    assert sweep(tmp_path / "s", *extra) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert len(error.splitlines()) == 1


def test_a_directory_of_another_world_is_refused(tmp_path, capsys):
    sweep(tmp_path)
    capsys.readouterr()
    assert sweep(tmp_path, "--instance-seed", "5") == 2
    assert "another instance" in capsys.readouterr().err
    assert sweep(tmp_path, "--seed", "5") == 2
    assert "another seed" in capsys.readouterr().err


def test_an_unwritable_directory_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert sweep(tmp_path / "file") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_plot_refuses_what_is_no_sweep(tmp_path, capsys):
    assert run(["plot", str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text("{half")
    assert run(["plot", str(tmp_path)]) == 2
    assert "not readable" in capsys.readouterr().err
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="no results yet"):
        Store(tmp_path).read()


def test_plot_draws_every_curve_its_floor_and_the_limit(tmp_path):
    from matplotlib.figure import Figure

    from theory.plotting import draw_curves
    from theory.sweeps.summary import curves

    sweep(tmp_path)
    store = Store(tmp_path)
    rows = store.read().to_pylist()
    axes = Figure().add_subplot()
    constant = store.manifest()["asymptotic_constant"]
    draw_curves(axes, curves(rows), constant)
    lines = {line.get_label(): line for line in axes.get_lines()}
    frame = table(tmp_path)
    for method in ("rkl", "dpo"):
        mean = frame[np.isfinite(frame.n) & (frame.method == method)].groupby("n").forward_kl.mean()
        np.testing.assert_allclose(lines[method].get_ydata(), mean.to_numpy())
    limit = lines["Cramér–Rao limit c/n"]
    np.testing.assert_allclose(limit.get_ydata() * limit.get_xdata(), constant)
    floor = frame[np.isinf(frame.n) & (frame.method == "dpo")].forward_kl.iloc[0]
    assert any(np.allclose(line.get_ydata(), floor) for line in axes.get_lines())
