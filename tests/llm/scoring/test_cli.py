import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer

from llm.cli import score
from llm.data.load import load_preferences
from llm.scoring.cache import join
from tests.llm.scoring import made
from theory.cli import program


@pytest.fixture
def llm(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    app: typer.Typer = program.program("llm", "")
    score.register(app)
    app.command("other")(lambda: None)

    def call(*arguments):
        capsys.readouterr()  # what making the models printed
        code = program.run(app, ["score", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = made.data().remove_columns("id").to_list()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_score_then_join(llm, data, tmp_path):
    oracles = [made.oracle(tmp_path / f"oracle{seed}", seed) for seed in range(2)]
    out = tmp_path / "rewards.parquet"
    arguments = (
        "--model",
        oracles[0],
        "--model",
        oracles[1],
        "--data",
        data,
        "--kind",
        "reward",
        "--max-length",
        64,
        "--out",
        out,
    )
    code, text, err = llm(*arguments, "--json")
    assert (code, err) == (0, "")
    record = json.loads(text)
    assert record["models"] == oracles
    assert (record["rows"], record["scored"], record["dropped"], record["resumed"]) == (7, 7, 0, 0)
    assert len(record["margin"]) == len(record["accuracy"]) == 2
    assert record["out"] == str(out)
    joined = join(load_preferences(data), out)
    assert joined["reward_chosen"][:] == pq.read_table(out)["reward_chosen"].to_pylist()
    code, text, _ = llm(*arguments)
    assert code == 0
    assert "7 of 7 pairs scored" in text
    assert "14 were there already" in text


def test_refusals_are_one_line(llm, data, tmp_path):
    ref = made.reference(tmp_path / "ref")
    good = {"--model": ref, "--data": data, "--kind": "reference", "--out": tmp_path / "s.parquet", "--max-length": 64}
    for changes, words in (
        ({"--model": tmp_path / "nothing"}, "no such folder"),
        ({"--model": "someone/model"}, "hub cannot be reached"),
        ({"--data": tmp_path / "nothing.jsonl"}, "does not exist"),
        ({"--kind": "references"}, "did you mean reference?"),
        ({"--kind": "reward"}, "no reward head"),
        ({"--out": tmp_path}, "is a directory"),
        ({"--out": tmp_path / "no" / "s.parquet"}, "its folder does not exist"),
        ({"--dtype": "half"}, "choices"),
        ({"--batch-size": 0}, "at least 1"),
    ):
        code, out, err = llm(*(part for pair in {**good, **changes}.items() for part in pair))
        assert (code, out) == (2, ""), changes
        assert len(err.splitlines()) == 1
        assert err.startswith("error: ")
        assert words in err
    assert not (tmp_path / "s.parquet").exists()
    assert not list(tmp_path.glob("*.parts"))
