from __future__ import annotations

import gzip
import json
import time

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from theory.errors import UserError
from theory.sampling import comparisons as module
from theory.sampling.comparisons import read_comparisons, read_reference, uniform_reference
from theory.sampling.counts import WinCounts
from theory.sampling.edges import Edges

ROWS = [("q", "a", "b", 3), ("q", "b", "a", 1), ("q", "b", "c", 2), ("r", "x", "a", 5)]


def write(path, rows=ROWS, names=("context", "chosen", "rejected", "count")):
    """The same rows in the format that the extension asks for."""
    names = names[: len(rows[0])]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    records = [dict(zip(names, row, strict=False)) for row in rows]
    if path.suffix == ".parquet":
        parquet.write_table(pa.table(columns), path)
        return path
    if ".csv" in path.suffixes:
        text = "\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n"
    elif path.suffix == ".json":
        text = json.dumps(records, indent=1)
    else:
        text = "".join(json.dumps(r) + "\n" for r in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def counted(data):
    """The comparisons as {(context, chosen, rejected): count}, whatever their order."""
    return {(*data.name(w), data.name(r)[1]): c for w, r, c in zip(data.chosen, data.rejected, data.count, strict=True)}


def refusal(path, read=read_comparisons):
    with pytest.raises(UserError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["d.csv", "d.csv.gz", "d.jsonl", "d.jsonl.gz", "d.ndjson", "d.json", "d.parquet"])
def test_every_format_gives_the_same_comparisons(tmp_path, name):
    data = read_comparisons(write(tmp_path / name))
    assert counted(data) == {row[:3]: row[3] for row in ROWS}
    assert data.n == 11
    assert data.totals.tolist() == [6, 5]
    assert data.contexts.to_pylist() == ["q", "r"]
    assert data.sizes.tolist() == [3, 2]


def test_rows_without_a_count_are_one_comparison_each_and_repeats_add_up(tmp_path):
    rows = [("q", "a", "b"), ("q", "a", "b"), ("q", "b", "a")]
    data = read_comparisons(write(tmp_path / "d.csv", rows))
    assert counted(data) == {("q", "a", "b"): 2, ("q", "b", "a"): 1}


def test_the_integer_3_and_the_text_3_are_the_same_in_every_format(tmp_path):
    (tmp_path / "d.jsonl").write_text(
        '{"context": 3, "chosen": "1", "rejected": 2}\n{"context": "3", "chosen": 2, "rejected": "1"}\n'
    )
    table = pa.table({"context": pa.array([3, 3], pa.int16()), "chosen": ["1", "2"], "rejected": pa.array([2, 1])})
    parquet.write_table(table, tmp_path / "d.parquet")
    write(tmp_path / "d.csv", [(3, 1, 2), (3, 2, 1)])
    for name in ("d.jsonl", "d.parquet", "d.csv"):
        assert counted(read_comparisons(tmp_path / name)) == {("3", "1", "2"): 1, ("3", "2", "1"): 1}


def test_the_same_response_text_in_two_contexts_is_two_responses(tmp_path):
    data = read_comparisons(write(tmp_path / "d.csv"))
    assert [data.name(node) for node in range(5)] == [("q", "a"), ("q", "b"), ("q", "c"), ("r", "a"), ("r", "x")]
    assert data.responses.to_pylist() == ["a", "b", "c", "a", "x"]


def test_text_with_commas_newlines_and_the_letters_na(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text('\ufeffid,context,chosen,rejected\n7,"say, what\nnow",NA,null\n', encoding="utf-8")
    assert counted(read_comparisons(path)) == {("say, what\nnow", "NA", "null"): 1}


def test_text_that_looks_like_a_date_stays_text(tmp_path):
    path = tmp_path / "d.jsonl"
    path.write_text('{"context": "2020-01-01", "chosen": "2021-01-01", "rejected": "b"}\n')
    assert counted(read_comparisons(path)) == {("2020-01-01", "2021-01-01", "b"): 1}


def test_dictionary_columns_of_parquet_are_read(tmp_path):
    path = tmp_path / "d.parquet"
    columns = {name: pa.array(values).dictionary_encode() for name, values in zip(module.COLUMNS, "xab", strict=True)}
    parquet.write_table(pa.table(columns), path)
    assert counted(read_comparisons(path)) == {("x", "a", "b"): 1}


HEAD = "context,chosen,rejected"
BAD = {
    "missing.csv": ("context,chosen\nx,a\n", "no column rejected"),
    "semicolon.csv": ("context;chosen;rejected\nx;a;b\n", "it has 'context;chosen;rejected'"),
    "double.csv": (f"{HEAD},chosen\nx,a,b,c\n", "2 columns called chosen"),
    "empty.csv": ("", "is empty"),
    "empty.jsonl": ("", "is empty"),
    "empty.parquet": ("", "is empty"),
    "blank.jsonl": ("  \n\n", "no rows"),
    "header.csv": (f"{HEAD}\n", "no rows below its header"),
    "newlines.csv": ("\n\n", "no header"),
    "self.csv": (f"{HEAD}\nx,a,b\nx,a,a\n", "row 2: chosen and rejected 'a': a response cannot be compared with itself"),
    "zero.csv": (f"{HEAD},count\nx,a,b,0\n", "row 1: count '0': must be a whole number, 1 or more"),
    "negative.csv": (f"{HEAD},count\nx,a,b,2\nx,a,b,-3\n", "row 2: count '-3': must be a whole number"),
    "half.csv": (f"{HEAD},count\nx,a,b,1.5\n", "row 1: count '1.5': must be a whole number"),
    "nan.csv": (f"{HEAD},count\nx,a,b,nan\n", "row 1: count 'nan': must be a whole number"),
    "infinite.csv": (f"{HEAD},count\nx,a,b,inf\n", "row 1: count 'inf': must be a whole number"),
    "word.csv": (f"{HEAD},count\nx,a,b,1\nx,a,b,many\n", "row 2: count 'many': must be a number"),
    "huge.csv": (f"{HEAD},count\nx,a,b,1e16\n", "1e+15 is the most"),
    "nocount.csv": (f"{HEAD},count\nx,a,b,\n", "row 1: the value of count is missing"),
    "hole.csv": (f"{HEAD}\nx,a,b\nx,,b\n", "row 2: the value of chosen is missing"),
    "ragged.csv": (f"{HEAD}\nx,a,b\nx,a\n", "row 2: 3 values expected, 2 found"),
    "unclosed.csv": (f'{HEAD}\nx,"a,b\n', "row 1: 3 values expected"),
    "broken.jsonl": ('{"context":1,"chosen":"a","rejected":"b"}\n{"context":\n', "row 2: '{\"context\":' is not valid JSON"),
    "null.jsonl": ('{"context":1,"chosen":"a","rejected":null}\n', "row 1: the value of rejected is missing"),
    "keyless.jsonl": ('{"context":1,"chosen":"a","rejected":"b"}\n{"context":1,"chosen":"a"}\n', "row 2: the value of rejected"),
    "other.jsonl": ('{"prompt":1,"chosen":"a","rejected":"b"}\n', "no column context (it has 'prompt', 'chosen', 'rejected')"),
    "list.json": ("[[1, 2]]", "row 1: '[1, 2]' is not an object"),
    "half.json": ("[{", "is not valid JSON"),
    "true.jsonl": ('{"context":1,"chosen":true,"rejected":"b"}\n', "row 1: chosen 'true': must be text or an integer"),
    "float.jsonl": ('{"context":1.5,"chosen":"a","rejected":"b"}\n', "column context has type double"),
    "count.jsonl": ('{"context":1,"chosen":"a","rejected":"b","count":"two"}\n', "row 1: count 'two': must be a number"),
    "junk.parquet": ("junk", "not a readable Parquet file"),
    "junk.csv.gz": ("junk", "cannot be read"),
    "notes.txt": ("hello", "unknown extension"),
    "table.parquet.gz": ("hello", "unknown extension"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line_that_names_the_row(tmp_path, name):
    path = tmp_path / name
    path.write_text(BAD[name][0])
    assert BAD[name][1] in refusal(path)


@pytest.mark.parametrize("name", ["d.csv", "d.jsonl"])
def test_text_that_is_not_utf_8_is_refused(tmp_path, name):
    path = tmp_path / name
    row = b"x,\xff,b\n" if name == "d.csv" else b'{"context":1,"chosen":"\xff","rejected":"b"}\n'
    path.write_bytes((HEAD.encode() + b"\n") * (name == "d.csv") + row)
    assert "is not UTF-8 text" in refusal(path)


def test_absent_files_and_folders_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "directory" in refusal(tmp_path / "folder.csv")


def test_parquet_refusals(tmp_path):
    path = tmp_path / "d.parquet"
    parquet.write_table(pa.table({"context": [1.0], "chosen": ["a"], "rejected": ["b"]}), path)
    assert "column context has type double" in refusal(path)
    parquet.write_table(pa.table({"context": ["x", None], "chosen": ["a", "a"], "rejected": ["b", "b"]}), path)
    assert "row 2: the value of context is missing" in refusal(path)
    parquet.write_table(pa.table({"context": ["x"], "chosen": ["a"]}), path)
    assert "no column rejected" in refusal(path)
    parquet.write_table(pa.table({"context": ["x"], "chosen": ["a"], "rejected": ["b"], "count": [-2]}), path)
    assert "row 1: count '-2'" in refusal(path)


def test_long_values_are_cut_in_messages(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"{HEAD}\nx,{'a' * 5000},{'a' * 5000}\n")
    assert len(refusal(path)) < 400


rows_of = st.lists(
    st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(1, 4), st.integers(1, 9)).map(
        lambda t: (f"x{t[0]}", f"y{t[1]}", f"y{(t[1] + t[2]) % 5}", t[3])
    ),
    min_size=1,
    max_size=40,
)


@given(rows=rows_of, dense=st.booleans())
def test_groups_hold_every_comparison_once(tmp_path_factory, rows, dense):
    data = read_comparisons(write(tmp_path_factory.mktemp("d") / "d.csv", rows))
    expected: dict = {}
    for x, w, r, c in rows:
        expected[x, w, r] = expected.get((x, w, r), 0) + c
    assert counted(data) == expected
    found: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        if not dense:
            patch.setattr(module, "LARGEST_DENSE_CELLS", 0)
        groups = data.groups()
    for group in groups:
        assert isinstance(group.data, WinCounts if dense else Edges)
        size = group.nodes.shape[1]
        if isinstance(group.data, WinCounts):
            x, i, j = np.nonzero(group.data.wins[0])
            assert group.data.wins.shape == (1, len(group.contexts), size, size)
            entries, totals = zip(x, i, j, group.data.wins[0, x, i, j], strict=True), group.data.totals[0]
        else:
            d = group.data
            entries, totals = zip(d.context, d.chosen, d.rejected, d.count, strict=True), d.totals
        for x, i, j, c in entries:
            found[(*data.name(group.nodes[x, i]), data.name(group.nodes[x, j])[1])] = c
        assert totals.tolist() == data.totals[group.contexts].tolist()
        assert group.data.n == totals.sum()
        assert (data.context_of[group.nodes] == group.contexts[:, None]).all()
    assert found == expected
    assert sum(group.data.n for group in groups) == data.n
    assert sorted(np.concatenate([group.contexts for group in groups])) == list(range(len(data.contexts)))


def test_dense_tables_share_one_budget(tmp_path, monkeypatch):
    rows = [("q", "a", "b", 1), ("r", "a", "b", 1), ("r", "b", "c", 1)]
    data = read_comparisons(write(tmp_path / "d.csv", rows))
    monkeypatch.setattr(module, "LARGEST_DENSE_CELLS", 12)  # 4 for q, 9 more for r
    assert [type(group.data) for group in data.groups()] == [WinCounts, Edges]


def test_a_million_rows_take_seconds(tmp_path):
    rng = np.random.default_rng(0)
    n = 1_000_000
    chosen = rng.integers(0, 6, n)
    columns = {"context": rng.integers(0, 20_000, n), "chosen": chosen, "rejected": (chosen + rng.integers(1, 6, n)) % 6}
    pa.csv.write_csv(pa.table(columns), tmp_path / "d.csv")
    start = time.process_time()
    data = read_comparisons(tmp_path / "d.csv")
    groups = data.groups()
    assert time.process_time() - start < 10  # 1 s on an idle core
    assert data.n == n == sum(group.data.n for group in groups)
    # NumPy's own count of the same rows.
    index = np.argsort(np.array(data.contexts.to_pylist(), dtype=np.int64))
    assert (data.totals[index] == np.bincount(columns["context"], minlength=20_000)).all()


def test_uniform_reference(tmp_path):
    data = read_comparisons(write(tmp_path / "d.csv"))
    assert np.exp(uniform_reference(data).logp) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2])


REFERENCE = [("q", "a", 0.1), ("q", "b", 0.3), ("q", "c", 0.4), ("q", "never compared", 0.2), ("r", "a", 0.5), ("r", "x", 0.5)]


@pytest.mark.parametrize("column", ["probability", "logprob"])
@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet"])
def test_reference_is_matched_by_name_and_renormalised(tmp_path, name, column):
    data = read_comparisons(write(tmp_path / "d.csv"))
    rows = [(x, y, p if column == "probability" else float(np.log(p))) for x, y, p in reversed(REFERENCE)]
    rows.append(("unknown context", "a", rows[0][2]))
    reference = read_reference(write(tmp_path / name, rows, ("context", "response", column)), data)
    assert np.exp(reference.logp) == pytest.approx([0.125, 0.375, 0.5, 0.5, 0.5])
    assert reference.covered == pytest.approx((0.8, 0.9))


def test_log_probabilities_of_language_models_do_not_underflow(tmp_path):
    data = read_comparisons(write(tmp_path / "d.csv", [("q", "a", "b", 1)]))
    rows = [("q", "a", -1000.0), ("q", "b", -1001.0)]
    reference = read_reference(write(tmp_path / "r.csv", rows, ("context", "response", "logprob")), data)
    assert reference.logp == pytest.approx([-np.log1p(np.exp(-1)), -1 - np.log1p(np.exp(-1))])


PROBABILITY, LOGPROB = ("context", "response", "probability"), ("context", "response", "logprob")


@pytest.mark.parametrize(
    ("rows", "names", "words"),
    [
        (REFERENCE[1:], PROBABILITY, "context 'q', response 'a': zero probability on a response that"),
        (
            [("q", "a", 0.0), *REFERENCE[1:]],
            PROBABILITY,
            "zero probability on a response that appears",
        ),
        (
            [("q", "a", "-inf"), *((x, y, -1) for x, y, _ in REFERENCE[1:])],
            LOGPROB,
            "zero probability",
        ),
        ([*REFERENCE, REFERENCE[1]], PROBABILITY, "row 7: response 'b': is named twice"),
        ([("q", "a", 1.5)], PROBABILITY, "row 1: probability '1.5': must lie in [0, 1]"),
        ([("q", "a", -0.5)], PROBABILITY, "row 1: probability '-0.5': must lie in [0, 1]"),
        ([("q", "a", 0.5)], LOGPROB, "row 1: logprob '0.5': must be zero or negative"),
        ([("q", "a", "nan")], LOGPROB, "row 1: logprob 'nan'"),
        ([("q", "a")], ("context", "response"), "needs a column probability or a column logprob"),
        ([("q", "a", 1, 0)], ("context", "response", "probability", "logprob"), "one of the two"),
        ([("q", 1)], ("context", "probability"), "no column response"),
    ],
)
def test_bad_references_are_refused(tmp_path, rows, names, words):
    data = read_comparisons(write(tmp_path / "d.csv"))
    path = write(tmp_path / "r.csv", rows, names)
    message = refusal(path, lambda file: read_reference(file, data))
    assert words in message
    assert message.startswith("--reference")
