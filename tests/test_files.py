"""A file is whole, or what was there before."""

import stat

import pytest

from theory.files import write_whole


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")
    seen = []

    def write(partial):
        partial.write_text("ne")
        seen.append((path.read_text(), partial.parent, partial.suffix))
        partial.write_text("new")

    write_whole(path, write)
    assert seen == [("old", tmp_path, ".tmp")]
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["table.txt"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("gone", [False, True])
def test_an_interrupted_write_leaves_what_was_there(error, gone, tmp_path):
    path = tmp_path / "table.txt"
    path.write_text("old")

    def write(partial):
        partial.write_text("ne")
        if gone:
            partial.unlink()
        raise error

    with pytest.raises(type(error)):
        write_whole(path, write)
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("table.txt", "old")]


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "no" / "table.txt", lambda partial: partial.write_text("new"))
