import copy
import functools
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from llm.models.load import load_policy, peft_config
from llm.models.logps import sequence_logps
from llm.models.reward_head import FRESH_SCALE, RewardHead, add_reward_head, has_reward_head, last_attended
from tests.llm.models import tiny
from theory.errors import UserError


def rewarded(family="llama", dtype=torch.float32, seed=3):
    model = tiny.model(family, dtype=dtype)
    add_reward_head(model, seed)
    add_fused_lm_head(model)
    return model


def rewards_of(model, batch):
    return sequence_logps(model, batch)[2]


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_reward_is_the_head_on_the_hidden_state_that_the_logits_come_from(family):
    model, batch = rewarded(family, torch.float64), tiny.batch()
    with torch.no_grad():
        found = rewards_of(model, batch)
        logits = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    # h is known from the logits alone: W h = z has more equations than unknowns.
    last = batch["attention_mask"].sum(1) - 1
    z = logits[torch.arange(len(last)), last]
    hidden = torch.linalg.lstsq(model.get_output_embeddings().weight, z.T).solution.T
    expected = hidden @ model.reward_head.weight[0]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


def rms_norm(module, hidden):
    return module.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + module.variance_epsilon)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradient_against_finite_differences(family):
    model, batch = rewarded(family, torch.float64), tiny.batch()
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):  # rounds to float32, which a small step would show
            module.forward = functools.partial(rms_norm, module)
    weights = torch.linspace(-1, 1, 6, dtype=torch.float64)

    def loss():
        return (weights * rewards_of(model, batch)).sum() + rewards_of(model, batch).square().sum()

    loss().backward()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:  # the LM head where it is not tied: no reward reads it
            assert "lm_head" in name or "embed_out" in name
            continue
        direction = torch.randn_like(parameter)
        step = 1e-6
        with torch.no_grad():
            parameter.add_(step * direction)
            up = loss()
            parameter.sub_(2 * step * direction)
            down = loss()
            parameter.add_(step * direction)
        torch.testing.assert_close((parameter.grad * direction).sum(), (up - down) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_padding_changes_no_reward(family):
    model, batch = rewarded(family, torch.float64), tiny.batch()
    alone = []
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        row = ids[mask.bool()][None]
        out = model(input_ids=row, labels=row, fused_lm_head=True)  # no mask: all attended
        alone.append(out.rewards)
    pad = torch.full((6, 4), 7)  # a token of the vocabulary, so that attending to it would show
    nothing = torch.zeros_like(pad)
    for sides in ((batch["input_ids"], pad), (pad, batch["input_ids"])):
        ids = torch.cat(sides, 1)
        mask = torch.cat([batch["attention_mask"] if side is not pad else nothing for side in sides], 1)
        out = model(ids, mask, labels=ids, fused_lm_head=True)  # by position too
        torch.testing.assert_close(out.rewards, torch.cat(alone), rtol=1e-6, atol=1e-8)


def test_last_attended_with_padding_on_either_side():
    hidden = torch.arange(12.0).view(2, 6, 1)
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 1]])
    assert last_attended(hidden, mask).flatten().tolist() == [2, 11]
    assert last_attended(hidden, None).flatten().tolist() == [5, 11]


def test_other_calls_are_as_they_were():
    plain, model, batch = tiny.model(), rewarded(), tiny.batch()
    ids = batch["input_ids"]
    assert torch.equal(plain(ids).logits, model(ids).logits)
    assert "rewards" not in model(ids, labels=ids)
    prompt = ids[:1, :3]
    kwargs = {"max_new_tokens": 4, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    assert torch.equal(plain.generate(prompt, **kwargs), model.generate(prompt, **kwargs))


def test_checkpointing_gives_the_same_gradient():
    batch, gradients = tiny.batch(), []
    for checkpointing in (False, True):
        model = rewarded().train()
        if checkpointing:
            model.activation_checkpointing_enable()
        logps, _, rewards, _ = sequence_logps(model, batch)
        (logps.sum() / 10 + rewards.square().sum()).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name])


def test_a_copy_has_rewards_of_its_own():
    model, batch = rewarded(), tiny.batch()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.reward_head.weight.mul_(2)
    assert torch.equal(rewards_of(other, batch), 2 * rewards_of(model, batch))


def test_half_precision_weights_give_full_precision_rewards():
    model = rewarded(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rewards = rewards_of(model, tiny.batch())
    assert rewards.dtype == torch.float32
    assert not torch.equal(rewards, rewards.bfloat16().float())


def test_fresh_head_is_small_seeded_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    head, same, other = RewardHead(4096, 1), RewardHead(4096, 1), RewardHead(4096, 2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(head.weight, same.weight)
    assert not torch.equal(head.weight, other.weight)
    hidden = torch.nn.functional.normalize(torch.randn(2000, 4096, generator=torch.Generator().manual_seed(0))) * 64  # √4096
    assert float(head(hidden).detach().std()) == pytest.approx(FRESH_SCALE, rel=0.1)


@pytest.mark.parametrize("shard", ["10KB", "1GB"])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_saved_and_loaded_numbers_are_identical(family, shard, tmp_path: Path):
    model, batch = rewarded(family), tiny.batch()
    model.save_pretrained(tmp_path, max_shard_size=shard)
    again = load_policy(str(tmp_path), reward_head=True).eval()
    assert not again.reward_head.fresh
    assert type(again).__name__ == type(model).__name__
    add_fused_lm_head(again)
    before, after = sequence_logps(model, batch), sequence_logps(again, batch)
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])


def test_everybody_can_load_the_language_model_part(tmp_path: Path):
    model, ids = rewarded(), tiny.batch()["input_ids"]
    model.save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not has_reward_head(plain)
    assert torch.equal(plain(ids).logits, model(ids).logits)
    assert plain.config.architectures == ["LlamaForCausalLM"]


def test_a_checkpoint_without_head_gets_a_fresh_one(tmp_path: Path):
    tiny.model().save_pretrained(tmp_path)
    model = load_policy(str(tmp_path), reward_head=True, head_seed=5)
    assert model.reward_head.fresh
    assert torch.equal(model.reward_head.weight, RewardHead(16, 5).weight)
    # ... and saved once, it is fresh no more.
    model.save_pretrained(tmp_path / "saved")
    assert not load_policy(str(tmp_path / "saved"), reward_head=True, head_seed=6).reward_head.fresh


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT asks transformers
def test_lora_trains_the_head_in_full_and_saves_it_with_the_adapter(tmp_path: Path):
    from peft import get_peft_model

    base = tiny.model()
    base.save_pretrained(tmp_path / "base")
    model = load_policy(str(tmp_path / "base"), reward_head=True)
    adapted = get_peft_model(model, peft_config(target_modules="all-linear", r=2, reward_head=True, dropout=0.0))
    add_fused_lm_head(adapted.get_base_model())
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if "lora" not in name} == {"base_model.model.reward_head.modules_to_save.default.weight"}
    assert not any("reward_head" in name and "lora" in name for name in trained)
    batch = tiny.batch()
    start = rewards_of(adapted, batch).detach()
    optimiser = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        logps, _, rewards, _ = sequence_logps(adapted, batch)
        (rewards.sum() + logps.sum() / 100).backward()
        optimiser.step()
    end = rewards_of(adapted, batch).detach()
    assert end.sum() < start.sum() - 1
    with adapted.disable_adapter():  # the reference: its old head too
        torch.testing.assert_close(rewards_of(adapted, batch), start)
    adapted.save_pretrained(tmp_path / "adapter")
    again = load_policy(str(tmp_path / "adapter"), reward_head=True).eval()
    assert not again.reward_head.fresh
    add_fused_lm_head(again)
    torch.testing.assert_close(rewards_of(again, batch), end, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sequence_logps(again, batch)[0], sequence_logps(adapted, batch)[0], rtol=1e-4, atol=1e-4)


@pytest.fixture
def process_group(tmp_path: Path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrappers_of_several_processes_see_the_head():
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    batch, gradients = tiny.batch(), []
    for wrap in (
        lambda m: m,
        DistributedDataParallel,
        lambda m: DistributedDataParallel(m, find_unused_parameters=True),
        _shard(fully_shard),
    ):
        model = wrap(rewarded())
        logps, _, rewards, _ = sequence_logps(model, batch)
        (rewards.square().sum() + logps.sum() / 10).backward()
        found = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
        gradients.append({name: g.full_tensor() if hasattr(g, "full_tensor") else g for name, g in found.items()})
    for others in gradients[1:]:
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(others[name], gradient)


def _shard(fully_shard):
    def wrap(model):
        mesh = torch.distributed.init_device_mesh("cpu", (1,))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        return fully_shard(model, mesh=mesh, reshard_after_forward=True)

    return wrap


def test_a_second_head_is_refused():
    model = rewarded()
    with pytest.raises(UserError, match="has a reward head already"):
        add_reward_head(model)
    with pytest.raises(UserError, match="no causal language model"):
        add_reward_head(tiny.model().model)
