"""Memory against the ZeRO paper's own numbers, TRL's constants and closed forms."""

from __future__ import annotations

import math

import pytest

from llm.plan import DEFAULTS
from llm.plan.memory import RESERVE, TILE_TOKENS, TILE_VOCABULARY, Load, activations, fused_head, memory, precision, whole_head
from llm.plan.shapes import shape_of

OPT = shape_of("facebook/opt-1.3b")
VALUES = {**DEFAULTS, "optim": "adamw_torch"}


def load(**changed) -> Load:
    given = {"shape": OPT, "trained": OPT.parameters, "whole": True, "reference": 0, "sequences": 4, "length": 512, "gpus": 1}
    return Load(**{**given, **changed})


@pytest.mark.parametrize(("stage", "gigabytes"), [(1, 31.4), (2, 16.6), (3, 1.9)])
def test_states_are_those_of_the_zero_paper(stage, gigabytes):
    """Rajbhandari et al. 2020, Figure 1: 7.5B parameters on 64 GPUs."""
    made = memory(load(trained=7_500_000_000, gpus=64), VALUES, stage)
    states = made.weights + made.gradients + made.optimizer
    assert states / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_without_sharing_stages_do_not_differ():
    stages = [memory(load(), VALUES, stage).total for stage in (1, 2, 3)]
    assert stages == [stages[0]] * 3


@pytest.mark.parametrize(
    ("changed", "stage", "bytes_each"),
    [
        ({}, 1, 16),  # 2 + 2 + 12 under DeepSpeed's bf16
        ({}, 0, 18),  # float32 weights, gradients and moments, and autocast's copies
        ({"bf16": False}, 0, 16),
        ({"dtype": "bfloat16"}, 0, 8),
        ({"optim": "paged_adamw_32bit"}, 2, 16),
        ({"optim": "adamw_8bit"}, 2, 10),
        ({"optim": "sgd"}, 2, 8),
    ],
)
def test_bytes_of_a_trained_parameter(changed, stage, bytes_each):
    size = precision({**VALUES, **changed}, stage)
    assert size.weight + size.gradient + size.optimizer == bytes_each


def test_optimiser_state_is_what_adamw_holds():
    import torch

    layer = torch.nn.Linear(64, 32, bias=False)
    optimiser = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 64)).sum().backward()
    optimiser.step()
    held = sum(t.numel() * t.element_size() for t in optimiser.state[layer.weight].values() if t.dim())
    assert held == layer.weight.numel() * precision({**VALUES, "bf16": False}, 0).optimizer


def test_lora_trains_its_adapters_alone():
    adapters = OPT.adapters(16, ["all-linear"])
    made = memory(load(trained=adapters, whole=False), {**VALUES, "dtype": "bfloat16"}, 0)
    assert made.weights == 2 * OPT.parameters + 4 * adapters
    assert made.gradients == 4 * adapters
    assert made.optimizer == 8 * adapters


def test_four_bits_are_those_of_qlora():
    """0.5 bits of constants a parameter, 0.127 with double quantisation (Dettmers et al. 2023, §3)."""
    rest = 2 * (OPT.parameters - OPT.linear_weights)
    for nested, bits in ((False, 4.5), (True, 4.127)):
        values = {**VALUES, "dtype": "bfloat16", "load_in_4bit": True, "use_bnb_nested_quant": nested}
        found = memory(load(trained=0, whole=False), values, 0).weights
        assert (found - rest) * 8 / OPT.linear_weights == pytest.approx(bits, abs=1e-3)


def test_activations_without_dropout_are_those_of_the_paper():
    """Korthikanti et al. 2022, eq. 2: s·b·h·(34 + 5·a·s/h), less dropout's masks and what fused attention recomputes."""
    pythia = shape_of("EleutherAI/pythia-2.8b-deduped")
    values = {**VALUES, "gradient_checkpointing": False}
    found = activations(load(shape=pythia), values, 2.0) / (4 * 512 * pythia.layers * pythia.hidden)
    # Masks of 2 bytes; parallel blocks share the norms' input, 2 bytes more.
    assert found == 34 - 2 - 2
    eager = activations(load(shape=pythia), {**values, "attn_implementation": "eager"}, 2.0)
    assert eager / (4 * 512 * pythia.layers * pythia.hidden) - found == pytest.approx(4 * pythia.heads * 512 / pythia.hidden)


def test_checkpointing_keeps_the_blocks_inputs():
    """2·s·b·h·L bytes (Korthikanti et al. 2022, §5) and one block whole."""
    kept = activations(load(), VALUES, 2.0)
    one_block = activations(load(), {**VALUES, "gradient_checkpointing": False}, 2.0) / OPT.layers
    assert kept - one_block == 2 * 4 * 512 * OPT.hidden * OPT.layers


def test_the_heads_tile_is_trls():
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    assert (TILE_TOKENS, TILE_VOCABULARY) == (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE)


def test_the_fused_head_does_not_grow_with_the_vocabulary_times_the_tokens():
    assert fused_head(OPT, 8192, 2.0, trained=False) - fused_head(OPT, 4096, 2.0, trained=False) == 4096 * 4 * OPT.embedding
    assert whole_head(OPT, 8192, 2.0) == 8192 * 50272 * 10


def test_a_reference_is_a_whole_copy_but_at_stage_3():
    """As TRL's prepare_deepspeed does: a stage of its own only for 3."""
    held = [memory(load(reference=OPT.parameters, gpus=8), VALUES, stage).reference / OPT.parameters for stage in (0, 1, 2, 3)]
    assert held == [4, 2, 2, 0.25]


def test_the_total_is_the_sum():
    made = memory(load(), VALUES, 2)
    assert made.total == math.fsum(vars(made).values())
    assert made.reserve == RESERVE
