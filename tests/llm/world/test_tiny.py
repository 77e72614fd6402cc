"""Tiny models: every family runs, seeds decide the weights, bad sizes are refused."""

import pytest
import torch

from llm.world.tiny import FAMILIES, tiny_model
from llm.world.tokenizer import make_tokenizer
from theory.errors import UserError
from theory.instances import random_language

TOKENIZER = make_tokenizer(random_language())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_a_causal_model_of_the_vocabulary(family):
    model = tiny_model(TOKENIZER, family=family, layers=1, width=16, heads=2).eval()
    ids = torch.tensor([[4, 3, 8, 9, 10, 1]])
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        other = model(input_ids=ids[:, :4]).logits
    assert model.config.model_type == family
    assert logits.shape == (1, 6, len(TOKENIZER))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits[:, :4], other)  # no look ahead
    assert (model.config.eos_token_id, model.config.pad_token_id) == (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id)


@pytest.mark.parametrize("family", FAMILIES)
def test_training_has_no_dropout(family):
    model = tiny_model(TOKENIZER, family=family, layers=1, width=16, heads=2).train()
    ids = torch.tensor([[4, 3, 8, 9, 10, 1]])
    torch.testing.assert_close(model(input_ids=ids).logits, model(input_ids=ids).logits, rtol=0, atol=0)


def test_the_seed_decides_the_weights_and_nothing_else():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (tiny_model(TOKENIZER, layers=1, width=16, heads=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [model.state_dict()["lm_head.weight"] for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"family": "lama"}, "--family lama: did you mean llama?"),
        ({"layers": 0}, "--layers 0"),
        ({"width": 18}, r"--width 18: must be a multiple of 2 × 4 heads"),
        ({"heads": 0}, "--heads 0"),
    ],
)
def test_bad_sizes(sizes, words):
    with pytest.raises(UserError, match=words):
        tiny_model(TOKENIZER, **sizes)
