"""The tokenizer under TRL's own preparation, and `encode` against it."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from llm.data.tokens import tokenise
from llm.world.texts import preference_dataset, prompt_texts, response_texts
from llm.world.tokenizer import encode, make_tokenizer
from theory.errors import UserError
from theory.instances import random_language
from theory.sampling.responses import draw_labelled


@pytest.mark.parametrize("eos", [False, True])
def test_what_trl_trains_on_is_what_is_evaluated(eos):
    language = random_language(1, tokens=28, length=3, prompts=12, eos=eos)
    tokenizer, data = make_tokenizer(language), draw_labelled(language, 50, 0)
    prepared = tokenise(preference_dataset(language, 50, 0), tokenizer, max_length=64)
    batch = DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id)(list(prepared))
    whole = encode(tokenizer, language, np.tile(data.prompt, 2), np.concatenate([data.chosen, data.rejected]))
    for name, ours in whole.items():
        width = batch[name].shape[1]  # TRL pads to the longest of the batch
        np.testing.assert_array_equal(batch[name].numpy(), ours[:, :width])
        assert (ours[:, width:] == (tokenizer.pad_token_id if name == "input_ids" else 0)).all()
    for row in prepared:
        assert len(row["prompt_ids"]) == 2
        assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == tokenizer.eos_token_id
        assert row["chosen_ids"].count(tokenizer.eos_token_id) == 1


def test_tokens_are_distinct_and_survive_saving(tmp_path):
    language = random_language(tokens=5, prompts=11)
    tokenizer = make_tokenizer(language)
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3
    assert len(tokenizer) == 3 + 1 + 11 + 5
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = prompt_texts(language)[10] + response_texts(language, np.array([[0, 4, 2]]))[0]
    assert again(text + "<eos>")["input_ids"] == tokenizer(text + "<eos>")["input_ids"]
    assert again.decode(again(text)["input_ids"]) == text
    assert (again.pad_token, again.eos_token, again.padding_side) == ("<pad>", "<eos>", "right")


def test_another_languages_tokenizer_is_refused():
    small, large = random_language(tokens=3, prompts=2), random_language(tokens=4, prompts=3)
    prompt, tokens = np.zeros(1, dtype=np.int64), np.zeros((1, 3), dtype=np.int64)
    with pytest.raises(UserError, match=r"has no token for 'p2 :'"):
        encode(make_tokenizer(small), large, prompt, tokens)
    with pytest.raises(UserError, match=r"has no token for 'd'"):
        encode(make_tokenizer(random_language(tokens=3, prompts=3)), large, prompt, tokens)
    assert encode(make_tokenizer(large), small, prompt, tokens)["input_ids"].shape == (1, 6)
    without = make_tokenizer(small)
    without.eos_token = None
    with pytest.raises(UserError, match="has no eos_token_id"):
        encode(without, small, prompt, tokens)


def test_encoded_arrays_become_tensors_of_integers():
    language = random_language()
    found = encode(make_tokenizer(language), language, np.array([3]), np.array([[0, 1, 2]]))
    assert {torch.from_numpy(array).dtype for array in found.values()} == {torch.int64}
    assert found["completion_mask"].tolist() == [[0, 0, 1, 1, 1, 1]]
