"""A finite language against sums by hand: probabilities, the table, files, and the draws."""

import dataclasses
import itertools
import math

import numpy as np
import pytest

from theory.errors import UserError
from theory.instances import Language, load_instance, load_language, random_language, save_instance, save_language
from theory.instances.language import END

SHAPES = [(1, False), (1, True), (2, False), (2, True)]


def _softmax(logits):
    weights = [math.exp(z) for z in logits]
    return [w / sum(weights) for w in weights]


def _by_hand(language: Language, logits: np.ndarray, x: int) -> dict[tuple[int, ...], float]:
    """Every response's probability, by walking through all strings one token at a time."""
    T, found = language.tokens, {}

    def walk(y, probability):
        if len(y) == language.length:
            found[y] = probability
            return
        digits = [0] * language.order + [1 + token for token in y]
        state = sum(digit * (T + 1) ** place for place, digit in enumerate(reversed(digits[-language.order :])))
        row = list(logits[x, state])
        if language.eos and not y:
            row = row[:-1]  # no empty response
        p = _softmax(row)
        if language.eos and y:
            found[y] = probability * p[T]
        for token in range(T):
            walk((*y, token), probability * p[token])

    walk((), 1.0)
    return found


def _key(row) -> tuple[int, ...]:
    return tuple(int(token) for token in row if token != END)


@pytest.mark.parametrize(("order", "eos"), SHAPES)
def test_probabilities_are_those_of_a_walk_through_all_strings(order, eos):
    language = random_language(1, tokens=3, length=3, prompts=2, order=order, eos=eos)
    for which in ("target", "reference"):
        table = language.log_probs(which)
        for x in range(2):
            expected = _by_hand(language, getattr(language, which), x)
            assert len(expected) == language.vocab == (3 + 9 + 27 if eos else 27)
            assert sum(expected.values()) == pytest.approx(1, abs=1e-12)
            got = {_key(y): p for y, p in zip(language.responses(), np.exp(table[x]), strict=True)}
            assert got.keys() == expected.keys()
            for y, p in expected.items():
                assert got[y] == pytest.approx(p, rel=1e-12)
                assert language.log_prob(which, x, y) == pytest.approx(math.log(p), rel=1e-12)


def test_responses_are_in_order_short_ones_first():
    language = random_language(tokens=2, length=2, eos=True)
    expected = [[0, END], [1, END], *([a, b] for a, b in itertools.product(range(2), repeat=2))]
    assert language.responses().tolist() == expected
    fixed = random_language(tokens=3, length=2).responses()
    assert fixed.tolist() == sorted(fixed.tolist())
    assert not fixed.flags.writeable


def test_order_one_forgets_and_order_two_remembers():
    for order, same in ((1, True), (2, False)):
        language = random_language(0, tokens=3, length=3, prompts=1, order=order)
        given = [language.log_prob("target", 0, [a, 1, 2]) - language.log_prob("target", 0, [a, 1, 0]) for a in (0, 2)]
        assert (abs(given[0] - given[1]) < 1e-12) == same


def test_it_is_a_tabular_instance():
    language = random_language(2, tokens=3, length=2, prompts=3, gamma=1.5)
    instance = language.instance()
    assert (instance.contexts, instance.vocab, instance.gamma) == (3, 9, 1.5)
    np.testing.assert_allclose(instance.target, np.exp(language.log_probs("target")), rtol=1e-12)
    np.testing.assert_allclose(instance.reference, np.exp(language.log_probs("reference")), rtol=1e-12)
    np.testing.assert_array_equal(instance.data_policy, instance.reference)


def test_the_recipe_is_frozen():
    """Published results name a language by its seed, so these numbers may never change."""
    language = random_language(0)
    assert (language.prompts, language.tokens, language.length, language.order, language.vocab) == (4, 6, 3, 1, 216)
    np.testing.assert_allclose(language.log_probs("target")[0, :2], [-8.546469842735075, -6.435466904427653], rtol=1e-12)
    np.testing.assert_allclose(language.log_probs("reference")[3, -1], -9.361321650089252, rtol=1e-12)


def test_logits_are_standard_normal_and_the_reference_is_off_by_tau():
    """10⁵ draws: each variance has standard error 0.45 %, so 3 % is more than six of them."""
    language = random_language(3, tokens=40, prompts=61, ref_noise=0.7)
    noise = language.reference - language.target
    assert np.var(language.target) == pytest.approx(1, rel=0.03)
    assert np.var(noise) == pytest.approx(0.49, rel=0.03)
    assert abs((language.target * noise).mean()) < 0.02


def test_the_fingerprint_is_of_what_decides_the_world():
    language = random_language(0)
    assert language.fingerprint == random_language(0).fingerprint
    assert dataclasses.replace(language, name="other").fingerprint == language.fingerprint
    changed = [random_language(1), random_language(0, gamma=2.0), random_language(0, length=4), random_language(0, ref_noise=0.4)]
    assert len({language.fingerprint, *(other.fingerprint for other in changed)}) == 5


@pytest.mark.parametrize(("order", "eos"), SHAPES)
def test_samples_have_the_stated_probabilities(order, eos):
    """Each cell's count within 5 standard deviations of a binomial's mean."""
    language = random_language(4, tokens=3, length=2, prompts=2, order=order, eos=eos)
    n = 40_000
    for which in ("target", "reference"):
        drawn = language.sample(which, np.arange(n) % 2, np.random.default_rng(0))
        for x in range(2):
            keys = [_key(y) for y in drawn[x::2]]
            for y, p in _by_hand(language, getattr(language, which), x).items():
                assert abs(keys.count(y) - n / 2 * p) < 5 * math.sqrt(n / 2 * p * (1 - p)) + 1


def test_files_hold_the_language_and_its_table(tmp_path):
    language = random_language(5, tokens=3, length=2, prompts=2, order=2, eos=True, gamma=0.1 + 0.2)
    path = tmp_path / "w.npz"
    save_language(language, path)
    loaded, instance = load_language(path), load_instance(path)
    assert loaded.fingerprint == language.fingerprint
    assert loaded.eos is True
    np.testing.assert_array_equal(loaded.log_probs("target"), language.log_probs("target"))
    np.testing.assert_array_equal(instance.target, language.instance().target)
    assert instance.gamma == language.gamma


def test_a_language_too_large_for_a_table(tmp_path):
    language = random_language(tokens=10, length=6)
    assert language.vocab == 10**6
    assert not language.enumerable
    for refused in (language.responses, language.instance, lambda: language.log_probs("target")):
        with pytest.raises(UserError, match=r"V = 1e\+06, X = 4: at most 100000 responses"):
            refused()
    assert np.isfinite(language.log_prob("target", 0, [1, 2, 3, 4, 5, 6]))
    save_language(language, tmp_path / "w.npz")
    assert load_language(tmp_path / "w.npz").fingerprint == language.fingerprint
    with pytest.raises(UserError, match="has no array target"):
        load_instance(tmp_path / "w.npz")


def test_bad_files(tmp_path):
    path = tmp_path / "w.npz"
    language = random_language(tokens=3, length=2, prompts=2)

    def refused() -> str:
        with pytest.raises(UserError) as caught:
            load_language(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "No such file" in refused()
    path.write_bytes(b"PK\x03\x04")
    assert "not a readable .npz" in refused()
    save_instance(language.instance(), path)
    assert "holds no language (no array language_target)" in refused()
    save_language(language, path)
    stored = dict(np.load(path))
    for changes, words in (
        ({"target": stored["target"][:, ::-1]}, "target: is not the table of the language"),
        ({"language_order": np.array(3)}, "order 3: must be 1 or 2"),
        ({"language_length": np.array([2, 2])}, "must each be one number"),
        ({"language_target": np.full_like(stored["language_target"], np.nan)}, "every logit must be finite"),
        ({"language_reference": stored["language_reference"][:1]}, "must have the target's"),
        ({"gamma": np.array(-1.0)}, "gamma -1.0: must be positive"),
    ):
        np.savez(path, **{**stored, **changes})
        assert words in refused()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tokens": 1}, "--tokens 1: must be a whole number, at least 2"),
        ({"length": 0}, "--length 0"),
        ({"prompts": 0}, "--prompts 0"),
        ({"order": 3}, "--order 3: must be 1 or 2"),
        ({"order": 0}, "--order 0"),
        ({"gamma": 0.0}, "--gamma 0.0"),
        ({"ref_noise": -1.0}, "--ref-noise -1.0"),
        ({"ref_noise": math.nan}, "--ref-noise nan"),
        ({"seed": -1}, "--seed -1"),
        ({"tokens": 2.5}, "--tokens 2.5"),
        ({"tokens": 3000, "order": 2}, "--tokens 3000: 4 chains of order 2 need more"),
    ],
)
def test_bad_sizes(arguments, words):
    with pytest.raises(UserError, match="^" + words.replace("+", r"\+")):
        random_language(**arguments)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.zeros((2, 4)), "must have shape"),
        (np.zeros((2, 5, 3)), r"\(X, \(T \+ 1\)\^order, T\)"),
        (np.full((2, 4, 3), np.inf), "finite"),
        ([["a"]], "array of numbers"),
    ],
)
def test_bad_logits(target, words):
    with pytest.raises(UserError, match=words):
        Language(target, np.zeros((2, 4, 3)), length=2)


@pytest.mark.parametrize(
    ("prompt", "tokens", "words"),
    [
        (4, [0, 1, 2], "prompt 4: must be from 0 to 3"),
        (-1, [0, 1, 2], "prompt -1"),
        (0, [0, 1, 6], "tokens 6: must be from 0 to 5"),
        (0, [0, -2, 1], "tokens -2"),
        (0, [0, 1], "has 3 tokens"),
        (0, [0, 1, 2, 3], "has 3 tokens"),
        (0, [0, 1, END], "has 3 tokens"),
        (0, [], "has 3 tokens"),
    ],
)
def test_what_is_no_response(prompt, tokens, words):
    with pytest.raises(UserError, match=words):
        random_language().log_prob("target", prompt, tokens)


def test_what_is_no_response_with_an_early_end():
    language = random_language(eos=True)
    assert language.log_prob("target", 0, [2]) == language.log_prob("target", 0, [2, END, END])
    for tokens in ([END, END, END], [0, END, 1]):
        with pytest.raises(UserError, match="has 1 to 3 tokens"):
            language.log_prob("target", 0, tokens)
