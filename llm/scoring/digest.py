"""What a file of scores depends on, as SHA-256 in hexadecimal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from datasets import Dataset
from transformers import AutoConfig, PreTrainedTokenizerBase

from llm.data.schema import PREFERENCES, identity
from llm.models.load import ADAPTER, located, one_line
from theory.errors import UserError

# What a tokenizer's file says of how batches are shaped, which TRL sets to nothing.
_SHAPING = ("truncation", "padding")


def weights_digest(name: str, *, trust_remote_code: bool = False) -> str:
    """Of a model's weights: its safetensors files, with those of an adapter's base; of a hub model, its commit.

    Raises:
        UserError: a folder without safetensors, or a hub model that cannot be read.
    """
    folder = Path(located(name))
    if not folder.is_dir():
        with one_line("--model", name):
            commit = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)._commit_hash
        return _of_texts([name, str(commit)])
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError("--model", name, "has no weights in safetensors (other formats are not read)")
    parts = [of_file(file) for file in files]
    if (folder / ADAPTER).is_file():
        with one_line("--model", name):
            base = json.loads((folder / ADAPTER).read_text())["base_model_name_or_path"]
        parts.append(weights_digest(str(base), trust_remote_code=trust_remote_code))
    return _of_texts(parts)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Of all that decides which tokens a row becomes: vocabulary and rules, EOS and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = json.loads(backend.to_str()) if backend is not None else tokenizer.get_vocab()
    shown = {key: value for key, value in rules.items() if key not in _SHAPING}
    return _of_texts([json.dumps(shown, sort_keys=True), str(tokenizer.eos_token), json.dumps(tokenizer.chat_template)])


def contents(dataset: Dataset) -> list[str]:
    """Of the texts of every row: two rows of one id and other texts are told apart by it."""
    texts = dataset.select_columns(list(PREFERENCES.texts))
    return [identity(row, PREFERENCES) for row in texts]


def data_digest(ids: Iterable[str], content: Iterable[str]) -> str:
    """Of a data set: its rows' ids and contents, in order."""
    return _of_texts(text for row in zip(ids, content, strict=True) for text in row)


def of_file(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _of_texts(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        found.update(len(data).to_bytes(8, "big") + data)  # lengths, so that no two lists run together
    return found.hexdigest()
