"""Instances as files: exact round trips, whole files only, and every bad file refused in one line."""

import contextlib
import pickle

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import Instance, load_instance, random_instance, save_instance, save_npz

GOOD = {"target": np.array([[0.2, 0.8]]), "reference": np.array([[0.5, 0.5]]), "gamma": 1.0}


def _assert_same(a: Instance, b: Instance) -> None:
    for name in ("target", "reference", "data_policy", "context_weights", "features", "gamma"):
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None)
        if x is not None:
            np.testing.assert_array_equal(x, y)


def test_round_trip_is_exact(tmp_path):
    plain = random_instance(3, vocab=7, contexts=4, gamma=0.1 + 0.2)
    rng = np.random.default_rng(0)
    full = Instance(
        plain.target,
        plain.reference,
        rng.dirichlet(np.ones(7), 4),
        rng.dirichlet(np.ones(4)),
        1 / 3,
        rng.standard_normal((4, 7, 3)),
    )
    for name, instance in (("plain", plain), ("full", full)):
        path = tmp_path / f"{name}.npz"
        save_instance(instance, path)
        loaded = load_instance(path)
        _assert_same(instance, loaded)
        assert loaded.name == str(path)


def test_the_same_file_by_string_and_by_path(tmp_path):
    path = tmp_path / "a.npz"
    save_instance(random_instance(0), str(path))
    _assert_same(load_instance(path), load_instance(str(path)))


def test_a_minimal_file_of_another_program(tmp_path):
    np.savez(tmp_path / "minimal.npz", **GOOD, comment=np.array("ignored"))
    loaded = load_instance(tmp_path / "minimal.npz")
    np.testing.assert_array_equal(loaded.data_policy, loaded.reference)
    np.savez_compressed(tmp_path / "compressed.npz", **GOOD)
    _assert_same(loaded, load_instance(tmp_path / "compressed.npz"))


def _refused(path) -> str:
    with pytest.raises(UserError) as caught:
        load_instance(path)
    assert "--instance" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("missing", ["target", "reference", "gamma"])
def test_a_missing_array(tmp_path, missing):
    np.savez(tmp_path / "a.npz", **{k: v for k, v in GOOD.items() if k != missing})
    message = _refused(tmp_path / "a.npz")
    assert f"has no array {missing}" in message
    assert "it needs target, reference and gamma" in message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"target": np.array([[0.2, 0.9]])}, ("target[0]", "sums to 1.1", "sum to 1")),
        ({"target": np.array([[0.0, 1.0]])}, ("target[0, 0]", "0.0", "positive and finite")),
        ({"target": np.array([[np.nan, 1.0]])}, ("target[0, 0]", "nan", "positive and finite")),
        ({"reference": np.array([[0.5, 0.25, 0.25]])}, ("reference", "(1, 3)", "must have shape (1, 2)")),
        ({"gamma": np.array(0.0)}, ("gamma", "0.0", "positive")),
        ({"gamma": np.array([1.0, 2.0])}, ("gamma", "[1. 2.]", "must be one number")),
        ({"gamma": np.array("one")}, ("gamma", "one", "must be one number")),
        ({"features": np.ones((1, 2, 2))}, ("features", "(1, 2, 2)", "d < V")),
        ({"features": np.full((1, 2, 1), "x")}, ("features", "numbers")),
        ({"target": np.array([["a", "b"]])}, ("target", "array of numbers")),
        ({"context_weights": np.array([0.5])}, ("context_weights", "sums to 0.5")),
    ],
)
def test_bad_contents(tmp_path, changes, parts):
    np.savez(tmp_path / "a.npz", **{**GOOD, **changes})
    message = _refused(tmp_path / "a.npz")
    for part in parts:
        assert part in message


def test_a_pickled_array_is_refused_and_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    objects = np.empty((1, 2), dtype=object)
    objects[:] = Bomb()
    np.savez(tmp_path / "a.npz", **{**GOOD, "target": objects})
    assert "not a readable .npz file of numbers" in _refused(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Bomb()))
    assert "not a readable .npz file of numbers" in _refused(tmp_path / "b.npz")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_npz(tmp_path):
    assert "No such file" in _refused(tmp_path / "absent.npz")
    assert "irectory" in _refused(tmp_path)
    for name, content in (("text", b"target: 1\n"), ("empty", b""), ("zip", b"PK\x03\x04 truncated")):
        path = tmp_path / name
        path.write_bytes(content)
        assert "not a readable .npz" in _refused(path)
    np.save(tmp_path / "array.npy", GOOD["target"])
    assert "not a readable .npz" in _refused(tmp_path / "array.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_files(tmp_path, save):
    instance = random_instance(0)
    save(tmp_path / "a.npz", target=instance.target, reference=instance.reference, gamma=1.0)
    content = bytearray((tmp_path / "a.npz").read_bytes())
    (tmp_path / "short.npz").write_bytes(content[: len(content) // 2])
    assert "not a readable .npz" in _refused(tmp_path / "short.npz")
    rng = np.random.default_rng(0)
    for _ in range(300):  # damage at random either goes unnoticed or is refused in one line
        damaged = content.copy()
        for position in rng.integers(len(content), size=4):
            damaged[position] = rng.integers(256)
        (tmp_path / "broken.npz").write_bytes(damaged)
        with contextlib.suppress(UserError):
            load_instance(tmp_path / "broken.npz")


def test_saving_leaves_the_whole_file_or_nothing(tmp_path):
    path = tmp_path / "a.npz"
    save_instance(random_instance(0), path)
    before = path.read_bytes()

    class Fails:
        def __array__(self, *_, **__):
            raise RuntimeError("no array")

    with pytest.raises(RuntimeError, match="no array"):
        save_npz(path, {"target": Fails()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"--out .*absent/a.npz: cannot be written: No such file"):
        save_instance(random_instance(0), tmp_path / "absent" / "a.npz")
