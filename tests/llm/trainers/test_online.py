"""Fresh samples: their estimate against sums over all sequences, and what a large weight of it does."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from trl.trainer.utils import add_fused_lm_head

from llm.trainers.online import FreshKL
from llm.world.exact import all_logps
from tests.llm import small

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
NEW = 2


def fresh(reference):
    online = FreshKL(reference, None, small.TOKENIZER.eos_token_id, small.TOKENIZER.pad_token_id, NEW)
    plain = SimpleNamespace(accelerator=Accelerator(cpu=True), is_deepspeed_enabled=False, is_fsdp_enabled=False)
    online.join(plain)
    return online


def prompts_of(copies):
    """A collated batch whose prompts are the language's two, many times each; its completions do not matter."""
    rows = small.data(20).to_list()
    each = {row["prompt"]: row for row in rows}
    return small.PairCollator(0)([each[name] for name in sorted(each)] * copies), sorted(each)


def exact_kl(policy, reference, prompt):
    """KL over all continuations of at most two tokens, the end included, in float64."""
    ids = small.TOKENIZER(prompt)["input_ids"]
    models = [small.double(m) for m in (policy, reference)]
    total = 0.0
    first = [m(torch.tensor([ids])).logits[0, -1].log_softmax(-1) for m in models]
    for a in range(len(small.TOKENIZER)):
        gap, weight = first[0][a] - first[1][a], first[0][a].exp()
        total += weight * gap
        if a != small.TOKENIZER.eos_token_id:
            second = [m(torch.tensor([[*ids, a]])).logits[0, -1].log_softmax(-1) for m in models]
            total += weight * (second[0].exp() * (second[0] - second[1])).sum()
    return total.item()


def test_the_estimate_is_the_divergence_over_all_sequences():
    policy, reference = small.model(0), small.model(1)
    inputs, prompts = prompts_of(1500)
    truth = np.mean([exact_kl(policy, reference, prompt) for prompt in prompts])
    add_fused_lm_head(policy)
    torch.manual_seed(0)
    online = fresh(reference)
    found = [online(policy, inputs).item() for _ in range(4)]
    error = np.std(found, ddof=1) / 2
    assert error < 0.05 * truth
    assert np.mean(found) == pytest.approx(truth, abs=4 * error)


def test_samples_end_at_the_first_end_and_prompts_stay_whole():
    policy = small.model(0)
    add_fused_lm_head(policy)
    torch.manual_seed(1)
    inputs, _ = prompts_of(50)
    online = fresh(small.model(1))
    eos, pad = online.eos, online.pad
    starts = [row[:2] for row in inputs["input_ids"][:100]]
    batch = online._sampled(policy, starts)
    for row, attended, scored, prompt in zip(*batch.values(), starts, strict=True):
        assert row[:2].tolist() == prompt.tolist()
        assert scored[:2].tolist() == [0, 0]
        response = row[scored.bool()].tolist()
        assert 1 <= len(response) <= NEW
        assert eos not in response[:-1]
        assert len(response) == NEW or response[-1] == eos
        assert row[attended == 0].tolist() == [pad] * int((attended == 0).sum())
        assert int(attended.sum()) == 2 + len(response)


def test_a_models_own_sampling_habits_are_not_taken_over():
    """Checkpoints bring generation settings; the policy itself must be sampled."""
    inputs, _ = prompts_of(40)
    drawn = []
    for habits in ({}, {"repetition_penalty": 50.0, "temperature": 0.01, "top_k": 1, "min_p": 0.9, "do_sample": True}):
        policy = small.model(0)
        add_fused_lm_head(policy)
        for name, value in habits.items():
            setattr(policy.generation_config, name, value)
        torch.manual_seed(2)
        drawn.append(fresh(small.model(1))._sampled(policy, [row[:2] for row in inputs["input_ids"][:80]]))
    assert torch.equal(drawn[0]["input_ids"], drawn[1]["input_ids"])


def test_the_policy_keeps_its_mode_and_the_reference_learns_nothing():
    policy, reference = small.model(0), small.model(1)
    add_fused_lm_head(policy)
    online = fresh(reference)
    inputs, _ = prompts_of(2)
    for training in (True, False):
        policy.train(training)
        online(policy, inputs).backward()
        assert policy.training is training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in reference.parameters())
    assert any(parameter.grad is not None for parameter in policy.parameters())


def adapted():
    """A policy with adapters that change it, and dropout."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=0.3, target_modules="all-linear")
    reference = small.model(1)
    torch.manual_seed(5)
    policy = get_peft_model(reference, config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_()
    add_fused_lm_head(policy.get_base_model())
    return policy.train()


def test_adapters_switched_off_are_a_second_model():
    """The same KL and gradient, whether π_ref is held or is the policy without its adapters."""
    found = []
    for online in (fresh(small.model(1)), fresh(None)):
        policy, (inputs, _) = adapted(), prompts_of(20)
        torch.manual_seed(3)
        value = online(policy, inputs)
        value.backward()
        assert policy.training
        found.append((value.item(), {n: p.grad for n, p in policy.named_parameters() if p.requires_grad}))
    (one, own), (two, others) = found
    assert one == pytest.approx(two, abs=1e-6)
    assert abs(one) > 0.01
    assert list(own) == list(others)
    assert len(own) == sum("lora_" in name for name, _ in policy.named_parameters())
    for name, gradient in own.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-6, rtol=1e-5)
    assert any(gradient.abs().max() > 0 for gradient in own.values())


def test_a_reference_without_its_adapters_has_no_noise_and_no_gradient():
    policy, online = adapted(), fresh(None)
    inputs, _ = prompts_of(3)
    batch = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    plain = small.model(1)(**batch).logits
    with online._reference(policy) as reference:
        torch.testing.assert_close(reference(**batch).logits, plain)
    assert policy.training
    assert (policy(**batch).logits - plain).abs().max() > 0.1


@pytest.mark.parametrize(("name", "values"), [("pmle", {"beta": 100.0}), ("hypo", {"kl": 100.0})])
def test_a_large_weight_brings_the_policy_to_the_reference(name, values, tmp_path, reference):
    dataset, policy = small.data(60, reference=reference), small.model(0)
    online = FreshKL(small.model(1), None, small.TOKENIZER.eos_token_id, small.TOKENIZER.pad_token_id, 4)
    settings = {"max_steps": 40, "learning_rate": 2e-2, "per_device_train_batch_size": 32}
    made = small.trainer(name, tmp_path, dataset, policy, values=values, treatment={"online_kl": online}, **settings)
    online.join(made)

    def distance():
        """KL over the language's responses, the masses' difference counted as well: never negative."""
        logp, ref = torch.from_numpy(all_logps(policy, small.TOKENIZER, small.LANGUAGE)), reference.logp.detach()
        return float((logp.exp() * (logp - ref) - logp.exp() + ref.exp()).sum(1).mean())

    before = distance()
    made.train()
    assert before > 0.05
    assert distance() < 0.3 * before
    logged = [entry["kl"] for entry in made.state.log_history if "kl" in entry]
    assert len(logged) == 40
    assert np.mean(logged[-5:]) < 0.6 * np.mean(logged[:5])
