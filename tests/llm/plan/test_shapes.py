"""Shapes against transformers and PEFT, built whole on the meta device."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFT_TARGETS

from llm.plan.shapes import FACTS, FAMILIES, LORA_TARGETS, shape_of
from tests.llm.plan.meta import SMALL, build
from theory.errors import UserError

# As published: the Pythia suite's README, the models' cards.
PUBLISHED = {
    "EleutherAI/pythia-2.8b-deduped": 2_775_208_960,
    "EleutherAI/pythia-6.9b-deduped": 6_857_302_016,
    "meta-llama/Meta-Llama-3-8B-Instruct": 8_030_261_248,
    "facebook/opt-125m": 125_239_296,
    "facebook/opt-350m": 331_196_416,
    "facebook/opt-1.3b": 1_315_758_080,
    "facebook/opt-2.7b": 2_651_596_800,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
}


def count(model) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", FACTS)
def test_parameters_are_those_of_the_model(name):
    assert shape_of(name).parameters == count(build(FACTS[name])) == PUBLISHED[name]


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path):
    """A local folder with a config.json of each family."""
    (tmp_path / "config.json").write_text(json.dumps(SMALL[request.param]))
    return tmp_path, SMALL[request.param]


def test_a_local_folder_is_read_by_its_configuration(folder):
    path, fact = folder
    model = build(fact)
    shape = shape_of(str(path))
    assert shape.parameters == count(model)
    linears = {name.split(".")[-1]: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    sizes = {name: (m.in_features, m.out_features, m.bias is not None) for name, m in linears.items() if name != "lm_head"}
    assert sizes == {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in shape.block}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers
@pytest.mark.parametrize("targets", [None, ["all-linear"]])
def test_adapters_are_those_of_peft(folder, targets):
    path, fact = folder
    chosen = "all-linear" if targets else LORA_TARGETS[fact["model_type"]]
    peft = get_peft_model(build(fact), LoraConfig(r=5, target_modules=chosen, task_type="CAUSAL_LM"))
    assert shape_of(str(path)).adapters(5, targets) == sum(p.numel() for p in peft.parameters() if p.requires_grad)


def test_default_targets_are_those_of_peft():
    assert {family: names for family, names in LORA_TARGETS.items() if family != "phi3"} == {
        family: list(PEFT_TARGETS[family]) for family in ("gpt_neox", "opt", "llama")
    }
    assert "phi3" not in PEFT_TARGETS


def test_opt_350m_projects_its_embedding():
    shape = shape_of("facebook/opt-350m")
    assert [linear.name for linear in shape.outer] == ["project_in", "project_out"]
    assert shape.embedding == 512


def test_what_a_block_keeps_is_what_autograd_saves(folder):
    """Bytes of a second block's saved tensors in bf16; the CPU's attention copies one more h where q, k and v are fused."""
    path, fact = folder
    shape = shape_of(str(path))
    kept = (saved_bytes(fact, layers=2) - saved_bytes(fact, layers=1)) / (2 * ROWS * LENGTH)
    fused = fact["model_type"] in ("gpt_neox", "phi3")
    statistics = 6 * shape.hidden / 64 + 4  # of norms and of attention: a few numbers per token
    assert shape.kept <= kept <= shape.kept + fused * shape.hidden + 2 * statistics


ROWS, LENGTH = 2, 32


def saved_bytes(fact, layers: int) -> int:
    model = build(fact, device="cpu", num_hidden_layers=layers, attn_implementation="sdpa", dropout=0.0).bfloat16().train()
    own = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor is held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.base_model(torch.zeros(ROWS, LENGTH, dtype=torch.long))
    return sum(size for size, _ in storages.values())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"model_type": "mamba"}', "of family mamba"),
        ('{"model_type": "llama", "hidden_size": 8}', "lacks 'intermediate_size'"),
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
    ],
)
def test_a_folder_of_no_use_is_refused(tmp_path, text, says):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=says):
        shape_of(str(tmp_path))


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UserError, match=r"did you mean facebook/opt-1\.3b"):
        shape_of("facebook/opt-1.3B")


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="lora_target_modules q_proj: is no linear layer of gpt_neox"):
        shape_of("EleutherAI/pythia-2.8b-deduped").adapters(8, ["q_proj"])
