import pytest
import torch
from trl.trainer.dpo_trainer import DataCollatorForPreference
from trl.trainer.utils import add_fused_lm_head

from llm.models.logps import sequence_logps, sequence_rewards
from llm.models.reward_head import add_reward_head
from tests.llm.models import tiny


def fused(family="llama", dtype=torch.float32, reward_head=False):
    model = tiny.model(family, dtype=dtype)
    if reward_head:
        add_reward_head(model)
    add_fused_lm_head(model)
    return model


def by_hand(family, batch):
    """Σ_t log softmax(logits_{t−1})[y_t] in float64, one token after the other."""
    model = tiny.model(family, dtype=torch.float64)
    totals = []
    for ids, mask, completion in zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True):
        row = ids[mask.bool()]
        logits = model(row[None]).logits[0]
        total = torch.zeros((), dtype=torch.float64)
        for t in range(1, len(row)):
            if completion[t]:
                total = total + torch.log_softmax(logits[t - 1], -1)[row[t]]
        totals.append(total)
    return torch.stack(totals), model


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_value_and_gradient_are_those_of_a_plain_log_softmax(family):
    batch = tiny.batch()
    expected, plain = by_hand(family, batch)
    model = fused(family)
    logps, lengths, rewards, _ = sequence_logps(model, batch)
    assert rewards is None
    assert lengths.tolist() == batch["completion_mask"].sum(1).tolist()
    torch.testing.assert_close(logps.double(), expected, rtol=2e-5, atol=2e-5)
    weights = torch.linspace(-1, 1, 6)
    (logps * weights).sum().backward()
    (expected * weights.double()).sum().backward()
    for (name, one), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-3, atol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_company_in_a_batch_changes_nothing(family):
    model, examples = fused(family, reward_head=True), tiny.examples(5, seed=1)
    collate = DataCollatorForPreference(pad_token_id=0)
    logps, lengths, rewards, _ = sequence_logps(model, collate(examples))
    for i, example in enumerate(examples):
        alone = sequence_logps(model, collate([example]))
        both = torch.tensor([i, i + len(examples)])
        torch.testing.assert_close(alone[0], logps[both], rtol=1e-5, atol=1e-5)
        assert torch.equal(alone[1], lengths[both])
        torch.testing.assert_close(alone[2], rewards[both], rtol=1e-5, atol=1e-5)


def test_what_pads_changes_nothing():
    model, examples = fused(reward_head=True), tiny.examples(4, seed=2)
    results = [
        sequence_logps(model, DataCollatorForPreference(pad_token_id=pad, pad_to_multiple_of=multiple)(examples))
        for pad, multiple in ((0, None), (1, None), (9, 32))
    ]
    for other in results[1:]:
        for one, two in zip(results[0][:3], other[:3], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_left_padding_changes_nothing():
    batch = tiny.batch()
    moved = {
        name: torch.stack([row.roll(int((m == 0).sum())) for row, m in zip(value, batch["attention_mask"], strict=True)])
        for name, value in batch.items()
    }
    assert not torch.equal(moved["input_ids"], batch["input_ids"])
    for family in tiny.FAMILIES:
        model = fused(family, reward_head=True)
        for one, two in zip(sequence_logps(model, batch)[:3], sequence_logps(model, moved)[:3], strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_truncation_scores_the_tokens_that_are_left():
    model, examples = fused(reward_head=True), tiny.examples(4, seed=3, longest=20)
    limit = 8
    cut = [{**e, **{side: e[side][: limit - len(e["prompt_ids"])] for side in ("chosen_ids", "rejected_ids")}} for e in examples]
    assert cut != examples
    by_collator = sequence_logps(model, DataCollatorForPreference(0, max_length=limit)(examples))
    by_hand = sequence_logps(model, DataCollatorForPreference(0)(cut))
    for one, two in zip(by_collator[:3], by_hand[:3], strict=True):
        assert torch.equal(one, two)


def test_reference_columns_of_a_batch_never_reach_the_model():
    model, batch = fused(), tiny.batch()
    more = {**batch, "ref_chosen_logps": torch.zeros(3), "ref_rejected_logps": torch.zeros(3)}
    assert torch.equal(sequence_logps(model, batch)[0], sequence_logps(model, more)[0])


def test_rewards_of_a_classifier_with_one_label():
    from transformers import AutoModelForSequenceClassification

    config = tiny.CONFIGS["llama"]
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(type(config)(**{**config.to_dict(), "num_labels": 1})).double().eval()
    batch = tiny.batch()
    hidden = model.model(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    last = batch["attention_mask"].sum(1) - 1
    expected = (hidden @ model.score.weight[0])[torch.arange(6), last]
    torch.testing.assert_close(sequence_rewards(model, batch), expected)
