"""The exact evaluation against loops over all responses, against the theory package, and against the table itself."""

import math

import numpy as np
import pytest
import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from llm.data.tokens import tokenise
from llm.models.logps import sequence_logps
from llm.world.exact import all_logps, estimate, evaluate, floor, forward_kl, report, response_logps
from llm.world.texts import preference_dataset
from llm.world.tiny import FAMILIES, tiny_model
from llm.world.tokenizer import make_tokenizer
from tests.llm.world.table_model import TableModel
from theory import objectives, simulation
from theory.errors import UserError
from theory.instances import random_language
from theory.sampling.responses import draw_labelled
from theory.solvers.options import Options
from theory.statistics.coverage import coverage_finite


def _language(eos: bool = False, **changes):
    return random_language(2, **{"tokens": 3, "length": 2, "prompts": 2, "eos": eos, **changes})


def _random_model(tokenizer, family: str = "llama", seed: int = 0):
    """Far from uniform, so that mistakes show."""
    model = tiny_model(tokenizer, family=family, layers=1, width=16, heads=2, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model


def _by_hand(model, tokenizer, language) -> np.ndarray:
    """log π(y, end | x) of every response, one text and one token at a time, without padding."""
    table = []
    for x in range(language.prompts):
        for y in language.responses():
            text = "".join(" " + "abc"[token] for token in y if token >= 0)
            ids = tokenizer(f"p{x} :{text}<eos>")["input_ids"]
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids])).logits[0].double()
            total = 0.0
            for position in range(2, len(ids)):
                row = logits[position - 1]
                total += float(row[ids[position]]) - math.log(sum(math.exp(z) for z in row.tolist()))
            table.append(total)
    return np.array(table).reshape(language.prompts, -1)


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_one_text_at_a_time(family, eos):
    language = _language(eos)
    tokenizer = make_tokenizer(language)
    model = _random_model(tokenizer, family)
    expected = _by_hand(model, tokenizer, language)
    np.testing.assert_allclose(all_logps(model, tokenizer, language), expected, atol=1e-5)
    np.testing.assert_allclose(all_logps(model, tokenizer, language, batch_size=5), expected, atol=1e-5)


@pytest.mark.parametrize("eos", [False, True])
def test_the_numbers_are_sums_by_hand(eos):
    """π has mass off the language here, so every number is checked for how it treats it."""
    language = _language(eos)
    tokenizer = make_tokenizer(language)
    model = _random_model(tokenizer)
    found, logp = evaluate(model, tokenizer, language), _by_hand(model, tokenizer, language)
    target, reference = (np.exp(language.log_probs(which)) for which in ("target", "reference"))
    policy = np.exp(logp)
    off = 1 - policy.sum(1).mean()
    assert 0.01 < off < 1
    inside = policy / policy.sum(1, keepdims=True)
    expected = {
        "forward_kl": (target * np.log(target / policy)).sum() / 2,
        "reverse_kl": (inside * np.log(inside / target)).sum() / 2,
        "total_variation": (np.abs(target - policy).sum() / 2 + off) / 2,
        "entropy": -(inside * np.log(inside)).sum() / 2,
        "off_language_mass": off,
        "kl_to_reference": (inside * np.log(inside / reference)).sum() / 2,
        "kl_from_reference": (reference * np.log(reference / policy)).sum() / 2,
        "coverage": coverage_finite(language.instance(), inside[None]),
        "prompts": 2,
        "responses": language.vocab,
    }
    assert vars(found).keys() == expected.keys()
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-4), name


def test_coverage_is_a_ratio_of_second_moments():
    language = _language()
    logp = language.log_probs("reference")
    target, data = (np.exp(language.log_probs(which)) for which in ("target", "reference"))
    f = logp - np.log(target)
    centred = f - (data * f).sum(1, keepdims=True)
    ratio = (target * centred**2).sum() / (data * centred**2).sum()
    assert report(language, logp).coverage == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize(("order", "eos"), [(1, False), (2, True)])
def test_the_table_as_a_model_is_the_target(order, eos):
    language = _language(eos, order=order)
    tokenizer = make_tokenizer(language)
    found = evaluate(TableModel(language, tokenizer, "target"), tokenizer, language)
    assert found.forward_kl == pytest.approx(0, abs=1e-6)
    assert found.reverse_kl == pytest.approx(0, abs=1e-10)
    assert found.total_variation == pytest.approx(0, abs=1e-6)
    assert found.off_language_mass < 1e-6
    reference = evaluate(TableModel(language, tokenizer, "reference"), tokenizer, language)
    assert reference.kl_to_reference == pytest.approx(0, abs=1e-10)
    exact = report(language, language.log_probs("reference"))
    assert exact.off_language_mass == pytest.approx(0, abs=1e-12)
    for name, value in vars(exact).items():
        if "reference" not in name:
            assert getattr(reference, name) == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_the_table_itself_has_distance_zero_in_double_precision():
    language = random_language(0)
    found = report(language, language.log_probs("target"))
    for name in ("forward_kl", "reverse_kl", "total_variation", "off_language_mass"):
        assert getattr(found, name) == pytest.approx(0, abs=1e-12)
    assert math.isnan(found.coverage)
    instance = language.instance()
    at_reference = report(language, language.log_probs("reference"))
    assert at_reference.forward_kl == pytest.approx(
        (instance.target * np.log(instance.target / instance.reference)).sum() / 4, rel=1e-10
    )


def _leaving(model, tokenizer, language, ids: list[int], depth: int) -> float:
    """The probability that what follows ``ids`` is no rest of a response: summed over the whole vocabulary, step by step."""
    with torch.no_grad():
        p = model(input_ids=torch.tensor([ids])).logits[0, -1].double().softmax(-1)
    letters = tokenizer.convert_tokens_to_ids(list("abc"))
    going_on = letters if depth < language.length else []
    may_end = depth == language.length or (language.eos and depth > 0)
    allowed = [*going_on, *([tokenizer.eos_token_id] if may_end else [])]
    left = 1 - float(p[allowed].sum())
    return left + sum(float(p[i]) * _leaving(model, tokenizer, language, [*ids, i], depth + 1) for i in going_on)


@pytest.mark.parametrize("eos", [False, True])
def test_probabilities_in_and_off_the_language_sum_to_one(eos):
    language = _language(eos)
    tokenizer = make_tokenizer(language)
    model = _random_model(tokenizer).eval()
    logp = all_logps(model, tokenizer, language)
    left = [_leaving(model, tokenizer, language, tokenizer(f"p{x} :")["input_ids"], 0) for x in range(2)]
    np.testing.assert_allclose(np.exp(logp).sum(1) + left, 1, atol=1e-6)
    assert report(language, logp).off_language_mass == pytest.approx(np.mean(left), abs=1e-6)


def test_it_is_what_the_trainers_compute():
    language = _language(eos=True)
    tokenizer = make_tokenizer(language)
    model = _random_model(tokenizer).eval()
    data = draw_labelled(language, 40, 0)
    ours = [response_logps(model, tokenizer, language, data.prompt, side) for side in (data.chosen, data.rejected)]
    prepared = tokenise(preference_dataset(language, 40, 0), tokenizer, max_length=64)
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(list(prepared))
    add_fused_lm_head(model)
    with torch.no_grad():
        trained = sequence_logps(model, batch)[0]
    np.testing.assert_allclose(np.concatenate(ours), trained.numpy(), atol=1e-5)
    # With the head already there, the numbers are the same and the head stays.
    again = response_logps(model, tokenizer, language, data.prompt, data.chosen)
    np.testing.assert_allclose(again, ours[0], atol=1e-6)
    assert "forward" in vars(model)


def test_the_model_is_left_as_it_was():
    language = _language()
    tokenizer = make_tokenizer(language)
    for training in (True, False):
        model = _random_model(tokenizer).train(training)
        evaluate(model, tokenizer, language)
        assert model.training is training
        assert "forward" not in vars(model)
        assert all(p.grad is None for p in model.parameters())


def test_beyond_enumeration_the_estimate_takes_over():
    language = _language()
    tokenizer = make_tokenizer(language)
    model = _random_model(tokenizer)
    exact, found = forward_kl(model, tokenizer, language), estimate(model, tokenizer, language, samples=3000)
    assert exact.low == exact.value == exact.high == evaluate(model, tokenizer, language).forward_kl
    assert found.low < exact.value < found.high
    large = _language(tokens=3, length=12)
    tokenizer = make_tokenizer(large)
    with pytest.raises(UserError, match="at most 100000 responses"):
        evaluate(model, tokenizer, large)
    at_target = forward_kl(TableModel(large, tokenizer, "target"), tokenizer, large, samples=50)
    assert at_target.value == pytest.approx(0, abs=1e-5)
    from_reference = forward_kl(TableModel(large, tokenizer, "reference"), tokenizer, large, samples=50)
    assert from_reference.low > 0


def test_another_languages_tokenizer_is_refused():
    language = _language(tokens=5)
    tokenizer = make_tokenizer(_language())
    with pytest.raises(UserError, match="has no token for 'd'"):
        evaluate(_random_model(tokenizer), tokenizer, language)


@pytest.mark.parametrize(
    ("name", "values"), [("dpo", {"beta": 0.5}), ("pmle", {"beta": 0.1}), ("ipo", {"tau": 0.5}), ("drdo", {})]
)
def test_floors_are_those_of_the_simulator(name, values):
    language = _language()
    objective = objectives.get(name)
    settings = simulation.Settings(objective, values, "fixed")
    assert floor(language, objective, values) == simulation.floor(language.instance(), settings)
    if name == "drdo":
        tied = floor(language, objective, values, options=Options(reward_head="tied"))
        assert tied < floor(language, objective, values)


def test_dpos_floor_in_closed_form():
    """The limit is π_ref·(π*)^{γ/β}/Z (math of DPO's population limit)."""
    language = _language(gamma=1.5)
    instance = language.instance()
    limit = instance.reference * instance.target ** (1.5 / 0.5)
    limit /= limit.sum(1, keepdims=True)
    expected = (instance.target * np.log(instance.target / limit)).sum() / 2
    assert floor(language, objectives.get("dpo"), {"beta": 0.5}) == pytest.approx(expected, rel=1e-9)


def test_a_mean_over_three_tokens_is_a_third_of_the_temperature():
    """Responses of L = 2 tokens and the end: β·mean = (β/3)·sum, for the log-ratio's losses and SimPO's own division."""
    language = _language()
    dpo, simpo = objectives.get("dpo"), objectives.get("simpo")
    mean, third = floor(language, dpo, {"beta": 1.5}, logp="mean"), floor(language, dpo, {"beta": 0.5})
    assert mean == pytest.approx(third, rel=1e-6)
    own = floor(language, simpo, {"beta": 3.0, "target_margin": 0.0})
    assert own == pytest.approx(0, abs=1e-9)  # at β/3 = γ and no margin SimPO is PMLE
    with_margin = floor(language, simpo, {"beta": 3.0})
    table = simulation.floor(language.instance(), simulation.Settings(simpo, {"beta": 1.0}, "fixed"))
    assert with_margin == pytest.approx(table, rel=1e-9)
    assert math.isnan(floor(_language(eos=True), simpo))
    assert math.isnan(floor(_language(eos=True), dpo, logp="mean"))
