"""Outputs are whole or not there, say how they were made, and are read back as they were."""

from __future__ import annotations

import os

import pytest

from llm.data import write
from llm.data.load import load, load_preferences
from llm.data.write import provenance_of, write_file, write_folder
from tests.llm.data.sources import FIXTURES
from tests.llm.data.synthetic import preferences
from theory import __version__
from theory.errors import UserError


@pytest.mark.parametrize("name", ["summarize_from_feedback", "ultrafeedback_argilla"])
def test_a_file_is_read_back_exactly(tmp_path, name):
    loaded = load(FIXTURES / name)
    write_file(loaded.dataset, tmp_path / "prefs.parquet", loaded.provenance)
    again = load(tmp_path / "prefs.parquet")
    assert again.adapter.name == "trl"
    assert again.dataset.to_list() == loaded.dataset.to_list()
    assert again.dataset.features == loaded.dataset.features
    expected = {"source": str(FIXTURES / name), "adapter": loaded.adapter.name, "source_split": "train"}
    assert provenance_of(tmp_path / "prefs.parquet") == expected | {"dropped": {"equal": 1, "empty": 1}, "version": __version__}
    assert [file.name for file in tmp_path.iterdir()] == ["prefs.parquet"]


def test_selected_rows_only_are_written(tmp_path):
    data = preferences(10)
    write_folder({"part": {"train": data.select([7, 2]), "validation": data.select([1])}}, tmp_path / "out", {"seed": 3})
    assert load_preferences(tmp_path / "out" / "part")["id"][:] == ["row-7", "row-2"]
    assert load_preferences(tmp_path / "out" / "part", split="validation")["id"][:] == ["row-1"]
    record = provenance_of(tmp_path / "out" / "part" / "train.parquet")
    assert record == {"seed": 3, "part": "part", "split": "train", "version": __version__}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["part", "report.json"]


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "run.json").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "full"):
        with pytest.raises(UserError, match=f"--out {path}: exists already and is not overwritten"):
            write_file(preferences(2), path, {})
        with pytest.raises(UserError, match="is not overwritten"):
            write_folder({"a": {"train": preferences(2)}}, path, {})
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(UserError, match="its folder does not exist"):
        write_file(preferences(2), tmp_path / "no" / "file.parquet", {})
    (tmp_path / "empty").mkdir()
    write_folder({"a": {"train": preferences(2)}}, tmp_path / "empty", {})
    assert (tmp_path / "empty" / "a" / "train.parquet").exists()


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(write, "_parquet", fail)
    for call in (
        lambda: write_file(preferences(2), tmp_path / "a.parquet", {}),
        lambda: write_folder({"a": {"train": preferences(2)}}, tmp_path / "out", {}),
    ):
        with pytest.raises(UserError, match="cannot be written: No space left on device"):
            call()
    assert list(tmp_path.iterdir()) == []
