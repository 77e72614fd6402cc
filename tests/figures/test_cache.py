"""What is computed once stays, what decides it decides the key, and a broken file is noticed."""

from __future__ import annotations

import dataclasses
import resource
import shutil

import pandas as pd
import pytest

from figures import cache, registry
from figures.cache import data_key, fetch
from theory.errors import UserError


@pytest.fixture
def squares(gallery):
    return registry.get("squares")


@pytest.fixture
def texts(squares, tmp_path, monkeypatch):
    """The same figure, reading two files."""
    monkeypatch.setattr(cache, "ROOT", tmp_path)
    (tmp_path / "texts").mkdir()
    for name in ("a.json", "b.json"):
        (tmp_path / "texts" / name).write_text("1")
    return dataclasses.replace(squares, reads=("texts/*.json",))


def test_the_second_time_nothing_is_computed(squares, computed, tmp_path):
    first = fetch(squares, squares.config, tmp_path)
    second = fetch(squares, squares.config, tmp_path)
    assert (first.source, second.source) == ("computed", "cache")
    assert first.key == second.key
    pd.testing.assert_frame_equal(first.data, second.data)
    pd.testing.assert_frame_equal(first.data, squares.data(squares.config))
    assert len(computed) == 2  # the first time, and just now by hand


def test_the_configuration_is_part_of_the_key(squares):
    assert data_key(squares, squares.config) == data_key(squares, type(squares.config)())
    keys = {data_key(squares, dataclasses.replace(squares.config, last=last, power=power)) for last in (3, 4) for power in (1, 2)}
    assert len(keys) == 4


@pytest.mark.parametrize("library", ["torch", "numpy", "scipy"])
def test_another_release_of_a_library_is_another_key(squares, monkeypatch, library):
    before = data_key(squares, squares.config)
    version = cache.version
    cache._libraries.cache_clear()
    monkeypatch.setattr(cache, "version", lambda name: "0" if name == library else version(name))
    other = data_key(squares, squares.config)
    cache._libraries.cache_clear()
    assert other != before


def test_the_files_that_are_read_are_part_of_the_key(texts, squares, tmp_path):
    keys = [data_key(squares, squares.config), data_key(texts, texts.config)]
    (tmp_path / "texts" / "a.json").write_text("2")
    keys.append(data_key(texts, texts.config))
    (tmp_path / "texts" / "c.json").write_text("1")
    keys.append(data_key(texts, texts.config))
    (tmp_path / "texts" / "c.json").rename(tmp_path / "texts" / "d.json")
    keys.append(data_key(texts, texts.config))
    assert len(set(keys)) == len(keys)
    (tmp_path / "texts" / "other.txt").write_text("not read")
    assert data_key(texts, texts.config) == keys[-1]


def test_a_pattern_without_files_is_a_mistake(texts, tmp_path):
    shutil.rmtree(tmp_path / "texts")
    with pytest.raises(LookupError, match=r"squares reads texts/\*\.json, which matches no file"):
        data_key(texts, texts.config)


def test_where_results_lie_decides_nothing_and_what_they_hold_does(gallery, runs, tmp_path):
    figure = registry.get("runs")
    here = dataclasses.replace(figure.config, results=str(runs))
    shutil.copytree(runs, tmp_path / "elsewhere")
    there = dataclasses.replace(figure.config, results=str(tmp_path / "elsewhere"))
    assert data_key(figure, here) == data_key(figure, there)
    assert data_key(figure, dataclasses.replace(here, rows=1)) != data_key(figure, here)
    pd.DataFrame({"step": [1], "loss": [0.1]}).to_parquet(tmp_path / "elsewhere" / "runs.parquet")
    assert data_key(figure, here) != data_key(figure, there)


def test_missing_and_broken_results_name_the_command(gallery, tmp_path):
    figure = registry.get("runs")
    config = dataclasses.replace(figure.config, results=str(tmp_path))
    with pytest.raises(UserError, match="is missing; make it with: llm consistency --out nowhere"):
        fetch(figure, config, tmp_path)
    (tmp_path / "runs.parquet").write_text("no table")
    with pytest.raises(UserError, match="cannot be read; make it again with: llm consistency --out nowhere"):
        fetch(figure, config, tmp_path)


def test_every_broken_byte_is_noticed(squares, tmp_path):
    whole = fetch(squares, squares.config, tmp_path)
    (path,) = (tmp_path / "figures").glob("*.parquet")
    intact = path.read_bytes()
    for place in range(0, len(intact), 97):
        path.write_bytes(intact[:place] + bytes([intact[place] ^ 1]) + intact[place + 1 :])
        found = fetch(squares, squares.config, tmp_path)
        assert found.source == "corrupted"
        pd.testing.assert_frame_equal(found.data, whole.data)
    assert fetch(squares, squares.config, tmp_path).source == "cache"


@pytest.mark.parametrize("broken", [b"", b"PAR1"])
def test_a_truncated_table_is_computed_again(squares, computed, tmp_path, broken):
    fetch(squares, squares.config, tmp_path)
    (path,) = (tmp_path / "figures").glob("*.parquet")
    path.write_bytes(broken)
    assert fetch(squares, squares.config, tmp_path).source == "corrupted"
    assert len(computed) == 2


def test_a_table_without_its_sum_is_computed_again(squares, tmp_path):
    fetch(squares, squares.config, tmp_path)
    (path,) = (tmp_path / "figures").glob("*.sha256")
    path.unlink()
    assert fetch(squares, squares.config, tmp_path).source == "corrupted"
    assert fetch(squares, squares.config, tmp_path).source == "cache"


def test_a_cache_that_takes_no_files_is_refused_before_any_work(squares, computed, tmp_path):
    (tmp_path / "figures").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"--cache .* cannot be written"):
        fetch(squares, squares.config, tmp_path)
    assert computed == []


def test_a_full_disk_is_one_line_and_leaves_nothing(squares, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, before[1]))  # the sum fits, the table does not
    try:
        with pytest.raises(UserError, match=r"--cache .* cannot be written: File too large"):
            fetch(squares, squares.config, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.suffix for path in (tmp_path / "figures").iterdir()] == [".sha256"]
    assert fetch(squares, squares.config, tmp_path).source == "computed"


def test_the_folder_is_the_variables_else_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "mine"))
    assert cache.default_folder() == tmp_path / "mine"
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.default_folder() == tmp_path / "xdg" / "prefproof"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_folder() == tmp_path / ".cache" / "prefproof"
