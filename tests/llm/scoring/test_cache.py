import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.scoring.cache import join
from llm.scoring.job import Job
from llm.scoring.score import score
from tests.llm.models import tiny
from tests.llm.scoring import made
from theory.errors import UserError


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Scores of one data set: reference, two single oracles, an ensemble, and a reference with a low limit."""
    folder = tmp_path_factory.mktemp("scores")
    ref = made.reference(folder / "ref")
    oracles = tuple(made.oracle(folder / f"oracle{seed}", seed) for seed in range(2))
    jobs = {
        "reference": Job((ref,), "reference", 64),
        "one": Job(oracles[:1], "reward", 64),
        "two": Job(oracles[1:], "reward", 64),
        "ensemble": Job(oracles, "reward", 64),
        "short": Job((ref,), "reference", 8),
    }
    for name, job in jobs.items():
        score(made.data(), job, folder / f"{name}.parquet")
    return {name: folder / f"{name}.parquet" for name in jobs}


def column(path, name):
    table = pq.read_table(path)
    return dict(zip(table["id"].to_pylist(), table[name].to_pylist(), strict=True))


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        join(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_rows_meet_by_id_whatever_their_order_and_number(files):
    dataset = made.data().shuffle(seed=1).select(range(5))
    joined = join(dataset, files["reference"], files["one"])
    assert joined.column_names == [
        *dataset.column_names,
        "ref_chosen_logps",
        "ref_rejected_logps",
        "reward_chosen",
        "reward_rejected",
    ]
    assert joined["id"][:] == dataset["id"][:]
    for name, source in (("ref_rejected_logps", "reference"), ("reward_chosen", "one")):
        expected = column(files[source], name)
        assert joined[name][:] == [expected[row] for row in dataset["id"]]
    assert str(joined.features["ref_chosen_logps"]) == "Value('float64')"


def test_no_files_no_change():
    dataset = made.data()
    assert join(dataset) is dataset


def test_files_of_single_models_make_the_ensemble_of_both(files):
    apart = join(made.data(), files["one"], files["two"])
    together = join(made.data(), files["ensemble"])
    assert apart["reward_chosen"][:] == together["reward_chosen"][:]
    assert np.array(apart["reward_rejected"][:]).shape == (7, 2)


def test_rows_too_long_to_be_scored_are_left_out_with_a_note(files, caplog):
    with caplog.at_level(logging.WARNING):
        joined = join(made.data(), files["short"], files["one"])
    assert joined["id"][:] == made.data()["id"][:-1]
    assert "1 of 7 rows left out" in caplog.text
    assert "scored none of the rows" in refusal(made.data().select([6]), files["short"])


def test_rows_without_scores(files):
    more = made.data(9, seed=0)  # other prompts at the end
    text = refusal(more, files["one"])
    assert "has no score for" in text
    assert "of 9 rows" in text


def test_the_same_id_with_other_texts(files):
    changed = made.data().map(lambda row: {"chosen": row["chosen"] + " z"})
    assert f"other texts under the id {changed[0]['id']}" in refusal(changed, files["one"])


def test_a_reference_that_read_other_tokens(files):
    dataset = made.data()
    join(dataset, files["reference"], files["one"], tokenizer=tiny.tokenizer(), max_length=64)
    other = tiny.tokenizer(template="{{ messages[0]['content'] }}")
    assert "another tokenizer or chat template" in refusal(dataset, files["reference"], tokenizer=other)
    assert "with --max-length 64, not 32" in refusal(dataset, files["reference"], max_length=32)
    # An oracle may have a tokenizer and a limit of its own.
    join(dataset, files["one"], tokenizer=other, max_length=32)


def test_columns_that_are_there_already(files):
    assert "ref_chosen_logps, which is there already" in refusal(made.data(), files["reference"], files["reference"])
    joined = join(made.data(), files["one"])
    assert "reward_chosen, which is there already" in refusal(joined, files["two"])


def foreign(path: Path, **columns) -> Path:
    """A file made elsewhere: ids and scores, nothing else."""
    pq.write_table(pa.table({"id": made.data()["id"][:], **columns}), path)
    return path


GOOD = [0.5] * 7


def test_scores_made_elsewhere_join_by_id(tmp_path, files):
    path = foreign(tmp_path / "f.parquet", reward_chosen=[float(i) for i in range(7)], reward_rejected=GOOD)
    assert join(made.data().select([4, 2]), path)["reward_chosen"][:] == [4.0, 2.0]
    both = join(made.data(), path, files["ensemble"])  # a third member
    assert np.array(both["reward_chosen"][:])[:, 0].tolist() == list(range(7))
    assert np.array(both["reward_chosen"][:]).shape == (7, 3)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), None])
def test_scores_that_are_missing_or_not_finite(wrong, tmp_path):
    path = foreign(tmp_path / "f.parquet", reward_chosen=GOOD, reward_rejected=[0.5] * 3 + [wrong] + [0.5] * 3)
    text = refusal(made.data(), path)
    assert "reward_rejected is " + ("inf" if wrong == float("inf") else "nan") in text
    assert made.data()[3]["id"] in text


def test_ensembles_of_different_sizes(tmp_path):
    pairs, ragged = [[1.0, 2.0]] * 7, [[1.0, 2.0]] * 6 + [[1.0]]
    path = foreign(tmp_path / "f.parquet", reward_chosen=pairs, reward_rejected=ragged)
    assert "different sizes in reward_rejected: 1 and 2" in refusal(made.data(), path)
    path = foreign(tmp_path / "g.parquet", reward_chosen=pairs, reward_rejected=GOOD)
    assert "2 for chosen, 1 for rejected" in refusal(made.data(), path)


def test_files_that_are_no_scores(tmp_path):
    dataset = made.data()
    assert "there is no such file" in refusal(dataset, tmp_path / "nothing.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    assert "no complete Parquet file" in refusal(dataset, tmp_path / "text.parquet")
    assert "needs the columns id and either" in refusal(dataset, foreign(tmp_path / "f.parquet", reward_chosen=GOOD))
    words = foreign(tmp_path / "w.parquet", reward_chosen=["good"] * 7, reward_rejected=GOOD)
    assert "other than numbers" in refusal(dataset, words)
    twice = tmp_path / "twice.parquet"
    table = pq.read_table(foreign(tmp_path / "g.parquet", reward_chosen=GOOD, reward_rejected=GOOD))
    pq.write_table(pa.concat_tables([table, table]), twice)
    assert "has an id twice" in refusal(dataset, twice)
