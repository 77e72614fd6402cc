"""Tokenizers and models from a folder or the hub, refused in one line where they cannot be had safely.

No code of a repository runs unless asked for, and weights are read from safetensors alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llm.models.reward_head import NAME, with_reward_head
from theory.errors import UserError, nearest

logger = logging.getLogger(__name__)

DTYPES = ("float32", "bfloat16", "float16", "float64", "auto")
QUANTIZATIONS = ("4bit", "8bit")
ADAPTER = "adapter_config.json"
TEMPLATES = Path(__file__).parent / "templates"


def load_tokenizer(name: str, *, chat_template: str | None = None, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder or on the hub, with a pad token: its own, else EOS, with a note.

    Padding is masked everywhere, so which token pads changes no number.

    Args:
        name: folder or hub id.
        chat_template: a jinja file, or the name of one of ours (``plain``), in place of its own.
        trust_remote_code: run the repository's own code, where it brings some.

    Raises:
        UserError: it cannot be read, needs code of its own, or has neither a pad nor an EOS token; or the
            template cannot be found or used.
    """
    with one_line("--model", name):
        tokenizer = AutoTokenizer.from_pretrained(located(name), trust_remote_code=trust_remote_code)
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError("--model", name, "its tokenizer has neither a pad nor an EOS token: add one and save it again")
        tokenizer.pad_token = tokenizer.eos_token
        logger.warning("%s: the tokenizer has no pad token; EOS (%s) pads instead", name, tokenizer.eos_token)
    if chat_template is not None:
        _use_template(tokenizer, chat_template)
    return tokenizer


def _use_template(tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Give a tokenizer a chat template, after a trial; raises `UserError`."""
    from jinja2 import TemplateError

    known = {path.stem: path for path in TEMPLATES.glob("*.jinja")}
    try:
        tokenizer.chat_template = known.get(name, Path(name)).read_text(encoding="utf-8")
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True)
    except FileNotFoundError:
        raise UserError("--chat-template", name, f"is no file; {nearest(name, known)}") from None
    except (OSError, UnicodeDecodeError, TemplateError) as error:
        raise UserError("--chat-template", name, "cannot be used: " + str(error).split("\n")[0]) from error


def load_policy(
    name: str,
    *,
    dtype: str = "float32",
    reward_head: bool = False,
    head_seed: int = 0,
    attn_implementation: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """The causal language model in a folder or on the hub; a LoRA adapter's folder gives the merged model.

    Args:
        name: folder or hub id.
        dtype: one of `DTYPES`.
        reward_head: with a reward head: the checkpoint's, or a fresh one where it has none
            (``model.reward_head.fresh`` says which).
        head_seed: of a fresh head.
        attn_implementation: as transformers names it; its own choice by default.
        quantization: one of `QUANTIZATIONS`, or None.
        trust_remote_code: run the repository's own code, where it brings some.

    Raises:
        UserError: it cannot be read, is incomplete, is no causal language model, or needs code of its own.
    """
    place = located(name)
    adapter = Path(place) / ADAPTER
    if adapter.is_file():
        if quantization is not None:
            raise UserError("--quantization", quantization, f"{name} is an adapter, which is merged: give its base model")
        settings = {"dtype": dtype, "attn_implementation": attn_implementation, "trust_remote_code": trust_remote_code}
        return _merged(place, reward_head=reward_head, head_seed=head_seed, **settings)
    options: dict[str, Any] = {"dtype": parse_dtype(dtype), "attn_implementation": attn_implementation}
    if quantization is not None:
        options["quantization_config"] = quantization_config(quantization, dtype)
    with one_line("--model", name):
        config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
        loader: Any = AutoModelForCausalLM
        if reward_head:
            with torch.device("meta"):  # which class it is, remote code or not
                base = type(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code))
            loader = with_reward_head(base, head_seed)
        model, missing = _load(loader, place, trust_remote_code=trust_remote_code, **options)
    head = {key for key in missing if key.startswith(f"{NAME}.")}
    _complete(name, missing - head)
    if reward_head:
        model.reward_head.fresh = bool(head)
    return model


def load_reward_model(name: str, *, dtype: str = "float32", trust_remote_code: bool = False) -> PreTrainedModel:
    """A model that gives one reward a sequence: a language model's reward head, or a classifier with one label.

    Raises:
        UserError: as `load_policy`, or the model has neither.
    """
    place = located(name)
    if not (Path(place) / ADAPTER).is_file():
        with one_line("--model", name):
            config = AutoConfig.from_pretrained(place, trust_remote_code=trust_remote_code)
            if any("SequenceClassification" in architecture for architecture in config.architectures or ()):
                if config.num_labels != 1:
                    raise UserError("--model", name, f"has {config.num_labels} labels; a reward model has one")
                loader = AutoModelForSequenceClassification
                model, missing = _load(loader, place, trust_remote_code=trust_remote_code, dtype=parse_dtype(dtype))
                _complete(name, missing)
                return model
    model = load_policy(name, dtype=dtype, reward_head=True, trust_remote_code=trust_remote_code)
    if model.reward_head.fresh:  # type: ignore[union-attr]
        raise UserError("--model", name, "has no reward head: train one with llm train oracle")
    return model


def parse_dtype(name: str) -> torch.dtype | str:
    """The torch type called ``name``, or ``auto`` (the checkpoint's own); raises `UserError`."""
    if name not in DTYPES:
        raise UserError("--dtype", name, nearest(name, DTYPES) + f" (choices: {', '.join(DTYPES)})")
    return name if name == "auto" else getattr(torch, name)


def peft_config(
    *,
    r: int = 16,
    alpha: float = 32,
    dropout: float = 0.05,
    target_modules: str | list[str] | None = None,
    reward_head: bool = False,
) -> Any:
    """PEFT's LoRA configuration; a reward head is trained in full and saved with the adapter.

    Args:
        r, alpha, dropout: rank, scale and dropout of the adapters.
        target_modules: names, ``all-linear``, or None for PEFT's choice for the model family.
        reward_head: whether the model has one.

    Raises:
        UserError: a value is out of range, or the LM head is among the targets: TRL's fused head would pass it by.
    """
    from peft import LoraConfig

    if r < 1:
        raise UserError("--lora-r", r, "must be at least 1")
    if not 0 <= dropout < 1:
        raise UserError("--lora-dropout", dropout, "must lie in [0, 1)")
    if "lm_head" in ([target_modules] if isinstance(target_modules, str) else target_modules or []):
        raise UserError("--lora-target-modules", "lm_head", "cannot be adapted: the fused LM head reads its weight alone")
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=r,
        lora_alpha=alpha,  # type: ignore[arg-type]
        lora_dropout=dropout,
        target_modules=target_modules,
        modules_to_save=[NAME] if reward_head else None,
    )


def quantization_config(name: str, dtype: str = "bfloat16") -> Any:
    """How bitsandbytes stores frozen weights: ``4bit`` as in QLoRA (NF4, doubly quantised), or ``8bit``.

    Raises:
        UserError: an unknown name, or bitsandbytes or a GPU is missing.

    Source: Dettmers et al. 2023, §3.
    """
    if name not in QUANTIZATIONS:
        raise UserError("--quantization", name, nearest(name, QUANTIZATIONS))
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--quantization", name, "needs bitsandbytes: pip install bitsandbytes")
    if not torch.cuda.is_available():
        raise UserError("--quantization", name, "needs a GPU: leave it out on this machine")
    from transformers import BitsAndBytesConfig

    if name == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = parse_dtype(dtype)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )


def located(name: str) -> str:
    """A folder's path, or a hub id as it is.

    Raises:
        UserError: it is a file, or can only be a folder and is not there.
    """
    path = Path(name).expanduser()
    if name and path.is_dir():
        return str(path)
    if path.is_file():
        raise UserError("--model", name, "is a file: give the model's folder")
    if not name or name[0] in "./~" or name.count("/") > 1 or (os.sep != "/" and os.sep in name):
        raise UserError("--model", name, "there is no such folder")
    return name


@contextlib.contextmanager
def one_line(argument: str, name: str) -> Iterator[None]:
    """Whatever goes wrong while ``name`` is read becomes one line that says what to do."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(argument, name, _remedy(error)) from error


# What the libraries' messages contain, and what a user can do about it.
_REMEDIES = (
    ("trust_remote_code", "needs code of its own to run: read it, then ask for it with --trust-remote-code"),
    ("couldn't connect", "is no local folder or in the local cache, and the hub cannot be reached"),
    ("offline mode", "is no local folder or in the local cache, and the hub cannot be reached"),
    ("gated repo", "needs your consent on the hub, and a login: hf auth login"),
    ("is not a local folder and is not a valid model identifier", "is neither a local folder nor a model on the hub"),
    ("Repo id must", "is neither a local folder nor the name of a model on the hub"),
    ("no file named", "has no weights in safetensors (other formats are not read)"),
    ("backend tokenizer", "holds no tokenizer"),
    ("Unrecognized model", "holds no model: its config.json is missing or names no model type"),
    ("mismatched", "its weights do not have the shapes that its config.json says"),
    ("deserializing header", "its weights are no complete safetensors file"),
)


def _remedy(error: Exception) -> str:
    """What to say of a library's error: a known remedy, else the first line of its message."""
    text = str(error)
    known = (remedy for words, remedy in _REMEDIES if words.lower() in text.lower())
    return next(known, "cannot be loaded: " + (text.strip().splitlines() or [type(error).__name__])[0])


def _load(loader: Any, place: str, **options: Any) -> tuple[Any, set[str]]:
    """A model and the names of the weights that its checkpoint lacks; what it does not use gets a note."""
    theirs = logging.getLogger("transformers.modeling_utils")
    theirs.addFilter(_no_report)  # we say what matters of it
    try:
        model, info = loader.from_pretrained(place, use_safetensors=True, output_loading_info=True, **options)
    finally:
        theirs.removeFilter(_no_report)
    unused = sorted(key for key in info["unexpected_keys"] if not key.startswith(f"{NAME}."))
    if unused:
        logger.warning("%s: %d weights of the checkpoint are not used (first: %s)", place, len(unused), unused[0])
    return model, set(info["missing_keys"])


def _no_report(record: logging.LogRecord) -> bool:
    """Whether a log line is something other than transformers' table of missing and unused weights."""
    return "LOAD REPORT" not in record.getMessage()


def _complete(name: str, missing: set[str]) -> None:
    if missing:
        some = ", ".join(sorted(missing)[:2]) + (", …" if len(missing) > 2 else "")
        raise UserError("--model", name, f"lacks the weights {some}: it was saved from another kind of model")


def _merged(place: str, *, reward_head: bool, **options: Any) -> PreTrainedModel:
    """The base model of an adapter's folder with the adapter merged into it."""
    from peft import PeftConfig, PeftModel

    with one_line("--model", place):
        config = PeftConfig.from_pretrained(place)
        if not (Path(place) / "adapter_model.safetensors").is_file():
            raise UserError("--model", place, "has no adapter weights in safetensors (other formats are not read)")
        base = load_policy(str(config.base_model_name_or_path), reward_head=reward_head, **options)
        model = PeftModel.from_pretrained(base, place).merge_and_unload()
    if reward_head and NAME in (getattr(config, "modules_to_save", None) or ()):
        model.reward_head.fresh = False
    return model
