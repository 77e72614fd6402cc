import logging

import pytest
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from llm.data.tokens import TOKENS, dropped, tokenise
from tests.llm.models import tiny
from theory.errors import UserError

TEXTS = {
    "id": ["one", "two", "three"],
    "prompt": ["a b ", "c d e f g h ", "i "],
    "chosen": ["j k", "l", "m n o p q r s t"],
    "rejected": ["u", "v w x </s>", "y"],
    "confidence": [9.0, None, 1.0],
}


def turns(role, text):
    return [{"role": role, "content": text.strip()}]


def texts() -> Dataset:
    return Dataset.from_dict(TEXTS)


def conversations() -> Dataset:
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    return Dataset.from_dict({n: [turns(roles[n], text) for text in v] if n in roles else v for n, v in TEXTS.items()})


def ids_of(text):
    return tiny.tokenizer()(text)["input_ids"]


def test_tokens_of_text():
    made = tokenise(texts(), tiny.tokenizer(), 64)
    eos = [1]
    assert made["prompt_ids"][:] == [ids_of(text) for text in TEXTS["prompt"]]
    assert made["chosen_ids"][:] == [ids_of(text) + eos for text in TEXTS["chosen"]]
    assert made["rejected_ids"][:] == [ids_of("u") + eos, ids_of("v w x") + eos, ids_of("y") + eos]  # one EOS, never two


def test_tokens_of_conversations_follow_the_template():
    made = tokenise(conversations(), tiny.tokenizer(), 64)
    assert made["prompt_ids"][0] == ids_of("user: a b assistant:")
    assert made["chosen_ids"][0] == [*ids_of("j k"), 1]


@pytest.mark.parametrize("data", [texts, conversations])
@pytest.mark.parametrize("max_length", [5, 64])
@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL uses what transformers deprecates
def test_the_trainer_of_trl_sees_the_same_tokens(data, max_length, tmp_path):
    args = DPOConfig(
        str(tmp_path),
        max_length=max_length,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
    )
    tokenizer = tiny.tokenizer()
    trainer = DPOTrainer(tiny.model(), tiny.model(), args, train_dataset=data(), processing_class=tokenizer)
    ours = tokenise(data(), tokenizer, max_length)
    for name in TOKENS:
        assert ours[name][:] == trainer.train_dataset[name][:]


@pytest.mark.parametrize("data", [texts, conversations])
def test_every_other_column_stays(data):
    made = tokenise(data(), tiny.tokenizer(), 64)
    assert made.column_names == [*TEXTS, *TOKENS]
    assert made.select_columns(list(TEXTS)).to_list() == data().to_list()  # TRL's EOS is in no text


def test_prompts_that_fill_the_limit_are_dropped_and_counted(caplog):
    with caplog.at_level(logging.WARNING):
        made = tokenise(texts(), tiny.tokenizer(), 6)
    assert made["id"][:] == ["one", "three"]
    assert made["confidence"][:] == [9.0, 1.0]
    assert dropped(texts(), made) == ["two"]
    assert "1 of 3 rows dropped: prompt longer than the limit of 6 tokens (first: two)" in caplog.text
    assert len(tokenise(texts(), tiny.tokenizer(), 7)) == 3  # six tokens and one to learn from
    assert len(tokenise(texts(), tiny.tokenizer(), None)) == 3


def refusal(*arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        tokenise(*arguments, **options)
    return str(caught.value)


def test_refusals():
    strict = refusal(texts(), tiny.tokenizer(), 6, strict=True)
    assert "--max-length 6: prompt longer than the limit in row two" in strict
    wordy = texts().select([1])
    assert "every prompt is longer" in refusal(wordy, tiny.tokenizer(), 6)
    assert "at least 2" in refusal(texts(), tiny.tokenizer(), 1)
    assert "no rows" in refusal(texts().select([]), tiny.tokenizer(), 8)
    assert "no chat template: use an instruct model's, or --chat-template plain" in refusal(
        conversations(), tiny.tokenizer(template=None), 8
    )
    assert "no EOS token" in refusal(texts(), tiny.tokenizer(eos=None), 8)
