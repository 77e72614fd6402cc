"""The fitted reference: close to the table, exact about how close, kept and found again."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from llm.models.load import load_policy, load_tokenizer
from llm.world.exact import evaluate
from llm.world.reference import Chain, Fitting, fit_reference
from llm.world.tiny import tiny_model
from llm.world.tokenizer import make_tokenizer
from tests.llm.world.table_model import TableModel
from theory.errors import UserError
from theory.instances import load_language, random_language

QUICK = Fitting(layers=1, width=16, heads=2, batch=8, steps=3, warmup=1)


def test_a_fit_reaches_its_tolerance_and_is_found_again(tmp_path):
    language = random_language(0, tokens=3, length=2, prompts=2)
    fitting = Fitting(layers=1, width=32, heads=2, batch=64, steps=400)
    seen = []
    made = fit_reference(language, tmp_path, fitting, progress=lambda *step: seen.append(step))
    assert made.reached
    assert made.exact
    assert made.kl <= 1e-3
    assert not made.reused
    assert [step for step, _, _ in seen] == list(range(1, made.steps + 1))
    assert seen[0][1] == 400
    model, tokenizer = load_policy(str(made.path)), load_tokenizer(str(made.path))
    found = evaluate(model, tokenizer, load_language(made.path / "language.npz"))
    assert found.kl_from_reference == pytest.approx(made.kl, abs=1e-6)
    assert found.kl_to_reference < 3e-3
    assert found.off_language_mass < 3e-3
    again = fit_reference(language, tmp_path, fitting, progress=lambda *_: pytest.fail("fitted again"))
    assert again == dataclasses.replace(made, reused=True)
    assert [path.name for path in tmp_path.iterdir()] == [made.path.name]


def test_the_divergence_along_responses_averages_to_the_exact_kl():
    """The chain rule with early ends and order 2, against `evaluate`, for a model that is far away."""
    for order, eos in ((1, False), (2, True)):
        language = random_language(3, tokens=3, length=3, prompts=2, order=order, eos=eos)
        tokenizer = make_tokenizer(language)
        model = tiny_model(tokenizer, layers=1, width=16, heads=2).eval()
        kl, exact = Chain(language, tokenizer).kl(model)
        assert exact
        assert kl == pytest.approx(evaluate(model, tokenizer, language).kl_from_reference, rel=1e-5)
        assert Chain(language, tokenizer).kl(TableModel(language, tokenizer, "reference"))[0] == pytest.approx(0, abs=1e-6)


def test_a_large_language_is_measured_on_samples():
    language = random_language(0, tokens=3, length=10, prompts=3)
    assert language.vocab * 3 > 20_000
    tokenizer = make_tokenizer(language)
    kl, exact = Chain(language, tokenizer).kl(tiny_model(tokenizer, layers=1, width=8, heads=1))
    assert not exact
    # Nearly uniform over the vocabulary at each of 11 positions.
    assert kl == pytest.approx(11 * math.log(len(tokenizer)) + float(_mean_log_prob(language)), rel=0.01)


def _mean_log_prob(language) -> np.floating:
    prompt = np.arange(3000) % 3
    tokens = language.sample("reference", prompt, np.random.default_rng(1))
    return language.log_prob("reference", prompt, tokens).mean()


def test_what_is_not_reached_is_said(tmp_path):
    language = random_language(0, tokens=3, length=2, prompts=20)  # more prompts than a batch
    made = fit_reference(language, tmp_path, QUICK)
    assert not made.reached
    assert made.steps == 3
    assert made.kl > 1e-3


def test_the_same_settings_give_the_same_weights(tmp_path):
    language = random_language(0, tokens=3, length=2, prompts=2)
    torch.manual_seed(1)
    first = fit_reference(language, tmp_path / "one", QUICK)
    torch.manual_seed(2)
    second = fit_reference(language, tmp_path / "two", QUICK)
    assert first.path.name == second.path.name
    weights = [(made.path / "model.safetensors").read_bytes() for made in (first, second)]
    assert weights[0] == weights[1]


def test_the_key_names_language_and_settings():
    language = random_language(0)
    keys = {QUICK.key(language), Fitting().key(language), Fitting(seed=1).key(language), Fitting().key(random_language(1))}
    assert len(keys) == 4
    assert Fitting().key(language) == Fitting().key(dataclasses.replace(language, name="other"))


def test_nothing_is_left_of_a_fit_that_is_interrupted(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_reference(random_language(tokens=2, length=1), tmp_path, QUICK, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_bad_requests(tmp_path):
    language = random_language(tokens=2, length=1)
    for changes, words in (
        ({"family": "lama"}, "--family lama"),
        ({"steps": 0}, "steps 0: must be at least 1"),
        ({"tolerance": 0.0}, "tolerance 0.0: must be positive"),
        ({"learning_rate": math.nan}, "learning_rate nan"),
    ):
        with pytest.raises(UserError, match=words):
            fit_reference(language, tmp_path, Fitting(**changes))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache .*file: cannot be written"):
        fit_reference(language, tmp_path / "file", QUICK)
    made = fit_reference(language, tmp_path, QUICK)
    record = made.path / "reference.json"
    assert json.loads(record.read_text())["fitting"]["steps"] == 3
    record.write_text("{")
    with pytest.raises(UserError, match=r"holds a damaged reference\.json"):
        fit_reference(language, tmp_path, QUICK)
