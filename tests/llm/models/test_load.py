import importlib.util
import json
import logging
from pathlib import Path

import pytest
import torch

from llm.models import load
from llm.models.load import load_policy, load_reward_model, load_tokenizer, peft_config, quantization_config
from llm.models.reward_head import add_reward_head
from tests.llm.models import tiny
from theory.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refusal(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 300
    return text


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_saved_and_loaded(folder):
    ids = tiny.batch()["input_ids"]
    assert torch.equal(load_policy(str(folder))(ids).logits, tiny.model()(ids).logits)
    assert load_policy(str(folder), dtype="bfloat16").dtype == torch.bfloat16
    assert load_tokenizer(str(folder)).pad_token == "<pad>"


def test_tokenizer_without_pad_pads_with_eos_and_says_so(tmp_path, caplog):
    tiny.tokenizer(pad=None).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 1
    assert "no pad token; EOS (</s>) pads instead" in caplog.text


def test_tokenizer_with_neither_pad_nor_eos(tmp_path):
    tiny.tokenizer(pad=None, eos=None).save_pretrained(tmp_path)
    assert "neither a pad nor an EOS token" in refusal(lambda: load_tokenizer(str(tmp_path)))


@pytest.mark.parametrize(("bos", "first"), [(None, ""), ("<s>", "<s>")])
def test_the_plain_template(bos, first, tmp_path):
    """A prompt is the beginning of what it begins, and no space hangs at its end: tokens do not merge across it."""
    tiny.tokenizer(template=None).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path), chat_template="plain")
    tokenizer.bos_token = bos
    turns = [{"role": role, "content": text} for role, text in (("system", "s"), ("user", "a b"), ("assistant", "c"))]
    whole = f"{first}System: s\n\nUser: a b\n\nAssistant: c</s>"
    assert tokenizer.apply_chat_template(turns, tokenize=False) == whole
    assert tokenizer.apply_chat_template(turns[:2], tokenize=False, add_generation_prompt=True) == whole.removesuffix(" c</s>")


def test_a_template_of_the_users_own(folder, tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}<{{ m['content'] }}>{% endfor %}")
    tokenizer = load_tokenizer(str(folder), chat_template=str(file))
    assert tokenizer.apply_chat_template([{"role": "user", "content": "a"}], tokenize=False) == "<a>"
    assert load_tokenizer(str(folder)).chat_template == tiny.TEMPLATE
    file.write_text("{% for m in messages %}")
    for name, words in (
        (str(file), "cannot be used: "),
        ("plian", "is no file; did you mean plain?"),
        (str(tmp_path), "cannot be used: "),
    ):
        said = refusal(lambda name=name: load_tokenizer(str(folder), chat_template=name))
        assert said.startswith(f"--chat-template {name}: {words}"), said


@pytest.mark.parametrize(("reading", "reward_head"), [(load_policy, False), (load_policy, True), (load_reward_model, None)])
def test_remote_code_runs_only_if_asked_for(reading, reward_head, tmp_path, monkeypatch):
    options = {} if reward_head is None else {"reward_head": reward_head}
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "odd"
    tiny.model().save_pretrained(place)
    ran = tmp_path / "ran"
    edit(place / "config.json", model_type="odd", auto_map={"AutoConfig": "odd.Config", "AutoModelForCausalLM": "odd.Model"})
    (place / "odd.py").write_text(
        f"import pathlib\npathlib.Path({str(ran)!r}).touch()\nfrom transformers import LlamaConfig, LlamaForCausalLM\n"
        "class Config(LlamaConfig):\n    model_type = 'odd'\nclass Model(LlamaForCausalLM):\n    config_class = Config\n"
    )
    assert "--trust-remote-code" in refusal(lambda: reading(str(place), **options))
    assert not ran.exists()
    if reading is load_policy:
        model = reading(str(place), trust_remote_code=True, **options)
        assert ran.exists()
        assert type(model).__name__ == "Model"
        assert hasattr(model, "reward_head") == bool(reward_head)


def test_code_beside_a_model_that_transformers_knows_stays_unread(folder):
    # As Phi-3-mini: its repository brings code that newer transformers do not need.
    edit(folder / "config.json", auto_map={"AutoModelForCausalLM": "nowhere.Model"})
    assert type(load_policy(str(folder))).__name__ == "LlamaForCausalLM"


def test_names_that_lead_nowhere(tmp_path, folder):
    assert "hub cannot be reached" in refusal(lambda: load_policy("someone/some-model"))
    assert "hub cannot be reached" in refusal(lambda: load_tokenizer("someone/some-model"))
    for name in (str(tmp_path / "nothing"), "./nothing", "a/b/c", ""):
        assert "no such folder" in refusal(lambda name=name: load_policy(name))
    assert "give the model's folder" in refusal(lambda: load_policy(str(folder / "config.json")))
    (tmp_path / "empty").mkdir()
    assert "holds no model" in refusal(lambda: load_policy(str(tmp_path / "empty")))
    assert "holds no tokenizer" in refusal(lambda: load_tokenizer(str(tmp_path / "empty")))


def test_broken_checkpoints(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    assert "no complete safetensors" in refusal(lambda: load_policy(str(folder)))
    weights.write_bytes(whole)
    edit(folder / "config.json", hidden_size=32)
    assert "do not have the shapes" in refusal(lambda: load_policy(str(folder)))
    edit(folder / "config.json", hidden_size=16)
    weights.rename(folder / "pytorch_model.bin")  # pickles are not read, whatever they hold
    assert "no weights in safetensors" in refusal(lambda: load_policy(str(folder)))
    (folder / "config.json").write_text('{"model_type":')
    assert "not a valid JSON" in refusal(lambda: load_policy(str(folder)))


def test_a_classifier_is_no_policy_but_gives_rewards(tmp_path):
    from transformers import AutoModelForSequenceClassification

    config = tiny.CONFIGS["llama"].to_dict()
    for labels in (1, 2):
        made = AutoModelForSequenceClassification.from_config(type(tiny.CONFIGS["llama"])(**{**config, "num_labels": labels}))
        made.save_pretrained(tmp_path / str(labels))
    assert "lacks the weights lm_head.weight" in refusal(lambda: load_policy(str(tmp_path / "1")))
    assert type(load_reward_model(str(tmp_path / "1"))).__name__ == "LlamaForSequenceClassification"
    assert "has 2 labels" in refusal(lambda: load_reward_model(str(tmp_path / "2")))


def test_reward_models_have_a_trained_head(folder, tmp_path):
    assert "no reward head" in refusal(lambda: load_reward_model(str(folder)))
    model = tiny.model()
    add_reward_head(model, 4)
    model.save_pretrained(tmp_path / "oracle")
    assert torch.equal(load_reward_model(str(tmp_path / "oracle")).reward_head.weight, model.reward_head.weight)


def test_unused_weights_get_a_note_in_our_words(folder, tmp_path, caplog):
    edit(folder / "config.json", num_hidden_layers=1)
    with caplog.at_level(logging.WARNING):
        load_policy(str(folder))
    assert "9 weights of the checkpoint are not used (first: model.layers.1." in caplog.text
    assert "LOAD REPORT" not in caplog.text
    model = tiny.model()
    add_reward_head(model)
    model.save_pretrained(tmp_path / "oracle")
    caplog.clear()
    load_policy(str(tmp_path / "oracle"))  # the language model alone is meant
    assert caplog.text == ""


def test_words_for_types(folder):
    assert "did you mean float16?" in refusal(lambda: load_policy(str(folder), dtype="flot16"))
    assert "flash" in refusal(lambda: load_policy(str(folder), attn_implementation="flash_attention_2")).lower()


def test_lora_configuration():
    assert peft_config(reward_head=True).modules_to_save == ["reward_head"]
    assert peft_config(r=4, alpha=8, dropout=0.0).r == 4
    assert "--lora-r 0" in refusal(lambda: peft_config(r=0))
    assert "--lora-dropout 1" in refusal(lambda: peft_config(dropout=1))
    assert "cannot be adapted" in refusal(lambda: peft_config(target_modules=["q_proj", "lm_head"]))


def test_quantisation_says_what_it_lacks(monkeypatch, folder):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install bitsandbytes" in refusal(lambda: load_policy(str(folder), quantization="4bit"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "needs a GPU" in refusal(lambda: quantization_config("4bit"))
    assert "did you mean 4bit?" in refusal(lambda: quantization_config("4bits"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters(folder, tmp_path):
    from peft import get_peft_model

    adapted = get_peft_model(load_policy(str(folder)), peft_config(r=2, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    place = tmp_path / "adapter"
    adapted.save_pretrained(place)
    ids = tiny.batch()["input_ids"]
    torch.testing.assert_close(load_policy(str(place))(ids).logits, adapted.eval()(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(load_policy(str(place))(ids).logits, tiny.model()(ids).logits)
    assert load_policy(str(place), reward_head=True).reward_head.fresh
    assert "no reward head" in refusal(lambda: load_reward_model(str(place)))
    assert "is an adapter" in refusal(lambda: load_policy(str(place), quantization="4bit"))
    (place / "adapter_model.safetensors").unlink()
    assert "no adapter weights in safetensors" in refusal(lambda: load_policy(str(place)))
    edit(place / "adapter_config.json", base_model_name_or_path="/gone")
    (place / "adapter_model.safetensors").write_bytes(b"")
    assert "/gone" in refusal(lambda: load_policy(str(place)))


def test_every_remedy_is_for_one_kind_of_message():
    assert load._remedy(ValueError("")) == "cannot be loaded: ValueError"
    assert load._remedy(ValueError("first\nsecond")) == "cannot be loaded: first"
