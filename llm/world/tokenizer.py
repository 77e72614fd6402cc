"""A tokenizer of a finite language: one token for each word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from llm.world.texts import COLON, prompt_texts, response_texts, words
from theory.errors import UserError
from theory.instances.language import END, Language, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


def make_tokenizer(language: Language) -> PreTrainedTokenizerBase:
    """A tokenizer whose tokens are the words of `texts`, split at spaces, and ``<pad>``, ``<eos>``, ``<unk>``.

    A prompt's tokens are always the first of prompt + response, and ``<eos>`` right behind a response (as TRL
    appends it to text) is a token of its own; so what TRL trains on is (prompt, y_1 … y_l, end). It adds no
    beginning-of-sequence token: a prompt is never empty.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [prompt.split()[0] for prompt in prompt_texts(language)]
    vocabulary = [PAD, EOS, UNKNOWN, COLON, *names, *words(language.tokens)]
    model = Tokenizer(models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token=UNKNOWN))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=model,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="right",
        clean_up_tokenization_spaces=False,
    )


def encode(
    tokenizer: PreTrainedTokenizerBase, language: Language, prompt: Tokens, tokens: Tokens
) -> dict[str, NDArray[np.int64]]:
    """(prompt, response, end) as token ids, padded on the right: what TRL makes of the same text.

    Args:
        tokenizer: of `make_tokenizer`, or any other that has one token for each of the language's words.
        language: gives the texts.
        prompt, tokens: x of shape (N,) and y of shape (N, L), END after the last token.

    Returns:
        ``input_ids``, ``attention_mask`` and ``completion_mask`` (1 on y and on the end), shape (N, longest prompt + L + 1).

    Raises:
        UserError: the tokenizer does not have the language's words, or has no end or padding token.
    """
    prompts, symbols = token_ids(tokenizer, language)
    before = np.array([len(ids) for ids in prompts])[prompt]
    after = (tokens != END).sum(1)
    columns = np.arange(max(map(len, prompts)) + language.length + 1)
    padded = np.full((len(prompts), len(columns)), tokenizer.pad_token_id)
    for row, ids in zip(padded, prompts, strict=True):
        row[: len(ids)] = ids
    input_ids = padded[prompt]
    responses = symbols[np.concatenate([tokens, np.full((len(tokens), 1), END)], axis=1)]
    for t in range(language.length + 1):
        here = np.flatnonzero(t <= after)
        input_ids[here, before[here] + t] = responses[here, t]
    attended = columns < (before + after + 1)[:, None]
    completion = attended & (columns >= before[:, None])
    return {"input_ids": input_ids, "attention_mask": attended.astype(np.int64), "completion_mask": completion.astype(np.int64)}


def token_ids(tokenizer: PreTrainedTokenizerBase, language: Language) -> tuple[list[list[int]], NDArray[np.int64]]:
    """Each prompt's ids, and the id of each token, the end's last (so that END = −1 finds it)."""
    for name in ("eos_token_id", "pad_token_id"):
        if getattr(tokenizer, name) is None:
            raise UserError("tokenizer", None, f"has no {name}")
    prompts = [list(tokenizer(text)["input_ids"]) for text in prompt_texts(language)]
    singles = response_texts(language, np.arange(language.tokens)[:, None])
    symbols = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in singles]
    for text, ids in zip([*prompt_texts(language), *singles], [*prompts, *symbols], strict=True):
        if tokenizer.unk_token_id in ids or (text in singles and len(ids) != 1):
            raise UserError("tokenizer", None, f"has no token for {text.strip()!r}: it is not this language's")
    return prompts, np.array([*(ids[0] for ids in symbols), tokenizer.eos_token_id])
