"""What we use of TRL and transformers beyond their promises: a new version that changes it fails here first."""

import inspect
from contextlib import nullcontext
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from packaging.version import Version
from transformers import PreTrainedModel, initialization
from trl import DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import FusedCausalLMOutput, add_fused_lm_head

from llm.models.logps import sequence_logps
from tests.llm.models import tiny


def parameters(function):
    return list(inspect.signature(function).parameters)


def test_version():
    assert Version("1.16") <= Version(version("trl")) < Version("1.17")


def test_fused_head():
    assert parameters(add_fused_lm_head) == ["model", "temperature", "cast_lm_head_to_fp32", "outputs"]
    model, batch = tiny.model(), tiny.batch()
    before = inspect.signature(model.forward)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "mean_logits", "is_top1"))
    assert list(before.parameters) == [name for name in parameters(model.forward) if name != "self"]  # what `generate` checks
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    output = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True)
    assert isinstance(output, FusedCausalLMOutput)
    shape = (6, batch["input_ids"].shape[1] - 1)
    assert output.log_probs.shape == output.entropy.shape == output.is_top1.shape == shape
    assert (output.log_probs[labels[:, 1:] == -100] == 0).all()
    assert "hidden_states" not in output  # why the reward head listens to the backbone


def test_preparation_of_data():
    assert parameters(DPOTrainer._prepare_dataset) == ["self", "dataset", "processing_class", "args", "dataset_name"]
    source = inspect.getsource(DPOTrainer._prepare_dataset)
    assert source.count("self.") == source.count("self._tokenizer.")  # all that the stand-in has
    read = {part.split(maxsplit=1)[0].rstrip(",):") for part in source.split("args.")[1:]}
    assert {name for name in read if name.isidentifier()} <= {"dataset_num_proc", "max_length", "truncation_mode"}


def test_collator_puts_all_chosen_before_all_rejected_and_pads_right():
    batch = DataCollatorForPreference(pad_token_id=0)(
        [
            {"prompt_ids": [5], "chosen_ids": [6, 7], "rejected_ids": [8]},
            {"prompt_ids": [9], "chosen_ids": [10], "rejected_ids": [11]},
        ]
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [9, 10, 0], [5, 8, 0], [9, 11, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 1], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0]]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_trl_scores_a_reference_as_we_do():
    model, batch = tiny.model(), tiny.batch()
    add_fused_lm_head(model)
    accelerator = SimpleNamespace(device=torch.device("cpu"), autocast=nullcontext)
    args = SimpleNamespace(gradient_checkpointing_kwargs=None)
    trainer = SimpleNamespace(accelerator=accelerator, model=model, ref_model=model, args=args, ld_alpha=None)
    chosen, rejected = DPOTrainer.compute_ref_log_probs(trainer, model, batch)
    assert torch.equal(torch.cat([chosen, rejected]), sequence_logps(model, batch)[0])


def test_fresh_weights_pass_through_init_weights_and_keep_what_was_loaded():
    assert parameters(PreTrainedModel._init_weights) == ["self", "module"]
    weight = torch.nn.Parameter(torch.ones(2))
    weight._is_hf_initialized = True
    with torch.no_grad():
        initialization.copy_(weight, torch.zeros(2))
    assert weight.tolist() == [1, 1]
