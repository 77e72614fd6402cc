"""What the trainer holds, what changes no loss, and what it trains."""

import copy
import gc

import pytest
import torch
from transformers import PreTrainedModel

from llm.models.load import load_policy, load_tokenizer, peft_config
from llm.trainers.collator import PairCollator
from llm.world.exact import all_logps
from llm.world.lookup import all_rewards
from tests.llm import small
from theory import objectives
from theory.errors import UserError

PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def made_for(name, tmp_path, reference, policy=None, **changes):
    """A trainer of a method with all the scores that it could ask for."""
    objective = objectives.get(name)
    members = objective.ensemble if objective.reads("reward") else 0
    dataset = small.data(reference=reference, members=members)
    policy = policy or small.model(reward_head=objective.reads("student_reward"))
    return small.trainer(name, tmp_path, dataset, policy, **changes), dataset


@pytest.mark.parametrize("name", ["dpo", "drdo", "sft", "e-dpo", "simpo"])
def test_padding_and_company_never_change_a_pairs_loss(name, tmp_path, reference):
    """The batch's loss is the mean of its pairs' own, whatever pads them; for an ensemble, the least member's."""
    made, dataset = made_for(name, tmp_path, reference)
    rows = dataset.select(range(6)).to_list()
    whole = made.compute_loss(made.model, small.batch(made, rows)).item()
    made.data_collator = PairCollator(0, 16, pad_to_multiple_of=16)
    assert made.compute_loss(made.model, small.batch(made, rows)).item() == pytest.approx(whole, rel=1e-5)
    turned = made.compute_loss(made.model, small.batch(made, rows[::-1])).item()
    assert turned == pytest.approx(whole, rel=1e-5)
    if objectives.get(name).ensemble == 1:
        alone = [made.compute_loss(made.model, small.batch(made, [row])).item() for row in rows]
        assert sum(alone) / 6 == pytest.approx(whole, rel=1e-5)


def test_a_completion_that_is_cut_is_scored_as_far_as_it_goes(tmp_path, reference):
    made, dataset = made_for("sft", tmp_path, reference, max_length=4)
    rows = dataset.to_list()
    longest = max(len(row["chosen_ids"]) for row in rows)
    assert longest > 2
    cut = [{**row, "chosen_ids": row["chosen_ids"][:2], "rejected_ids": row["rejected_ids"][:2]} for row in rows]
    found = made.compute_loss(made.model, small.batch(made, rows)).item()
    made.data_collator = PairCollator(0)
    assert made.compute_loss(made.model, small.batch(made, cut)).item() == pytest.approx(found, rel=1e-6)


def test_gradient_accumulation_is_one_large_batch(tmp_path, reference):
    curves = []
    for size, accumulated in ((8, 1), (2, 4)):
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulated, "max_steps": 3}
        made, _ = made_for("p-dpo", tmp_path, reference, learning_rate=1e-2, **settings)
        made.train()
        curves.append(small.losses(made))
    assert len(curves[0]) == 3
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)


def models_alive():
    """All models in memory; ``type``, since asking some objects for their class warns."""
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), PreTrainedModel)]


def test_drdo_holds_one_model_and_no_oracle(tmp_path, reference):
    """Nothing but the student is in memory: no model hangs on the trainer, and none is alive that it made."""
    before = {id(model) for model in models_alive()}
    made, _ = made_for("drdo", tmp_path, reference)
    whole = {id(model) for model in models_alive() if id(model) not in before and hasattr(model, "lm_head")}
    assert whole == {id(made.model)}
    assert made.ref_model is None
    assert made.treatment.online_kl is None
    others = [name for name, value in vars(made).items() if isinstance(value, PreTrainedModel) and value is not made.model]
    assert others == []


def test_a_missing_score_is_one_line(tmp_path):
    made = small.trainer("dpo", tmp_path, small.data(), small.model())
    with pytest.raises(UserError, match=r"--scores: the objective needs ref_logp_.*to dpo: compute it with llm score"):
        made.compute_loss(made.model, small.batch(made, small.data().select(range(2)).to_list()))


def test_a_length_normalised_objective_refuses_means(tmp_path):
    with pytest.raises(UserError, match="--logp mean: simpo divides by the length itself: use sum"):
        small.trainer("simpo", tmp_path, small.data(), small.model(), treatment={"logp": "mean"})


def test_metrics_of_a_reward_model_are_its_heads(tmp_path, reference):
    made, dataset = made_for("oracle", tmp_path, reference)
    rows = dataset.select(range(5))
    table = small.table(small.double(made.model))
    pair = small.pair_of(rows, table)
    made.compute_loss(made.model, small.batch(made, rows.to_list()))
    found = {name: values[-1] for name, values in made._metrics["eval"].items()}
    margin = (pair.student_reward_chosen - pair.student_reward_rejected).detach()
    assert found["rewards/margins"] == pytest.approx(margin.mean().item(), abs=1e-5)
    assert found["rewards/accuracies"] == pytest.approx((margin > 0).double().mean().item())


def test_metrics_have_trls_names_and_the_monitors(tmp_path, reference):
    made, _ = made_for("dpo", tmp_path, reference, max_steps=1)
    made.train()
    trls = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"}
    ours = {"logps/chosen_change", "logps/rejected_change", "logps/margin_growth", "nondeterministic", "degenerate"}
    assert trls | ours | {"loss", "entropy", "num_tokens", "grad_norm"} <= set(made.state.log_history[0])


def test_held_out_pairs_have_metrics_of_their_own(tmp_path, reference):
    held_out = small.data(12, reference=reference, seed=9)
    rest = {"eval_dataset": held_out}
    made, _ = made_for("p-dpo", tmp_path, reference, rest=rest, per_device_eval_batch_size=len(held_out))
    found = made.evaluate()
    table = small.table(small.double(made.model))
    pair = small.pair_of(held_out, table, reference)
    terms = objectives.get("p-dpo").terms(pair)
    gap = torch.cat([pair.ref_logp_chosen - pair.logp_chosen, pair.ref_logp_rejected - pair.logp_rejected]).mean()
    assert found["eval_loss"] == pytest.approx((terms.loss.mean() + terms.forward_kl * gap).item(), rel=1e-5)
    assert "eval_rewards/margins" in found
    assert found["eval_forward_kl"] == pytest.approx(gap.item(), rel=1e-4)


USER = '''
import torch

def cautious(pair, *, beta: float = 0.5, floor: float = 0.1):
    """A user's own loss: a smoothed logistic loss of the log-ratios' margin."""
    margin = beta * pair.logratio_margin
    return (1 - floor) * torch.nn.functional.softplus(-margin) + floor * torch.nn.functional.softplus(margin)
'''


def test_a_users_own_loss_trains(tmp_path, reference):
    (tmp_path / "mine.py").write_text(USER)
    objective = objectives.load(f"{tmp_path / 'mine.py'}:cautious")
    dataset, policy = small.data(40, reference=reference), small.model()
    table = small.table(small.double(policy))
    made = small.trainer(objective, tmp_path, dataset, policy, values={"beta": 2.0}, max_steps=12, learning_rate=1e-2)
    rows = dataset.select(range(5))
    truth = objective.terms(small.pair_of(rows, table, reference), beta=2.0).loss.mean().item()
    assert made.compute_loss(made.model, small.batch(made, rows.to_list())).item() == pytest.approx(truth, rel=1e-5)
    made.train()
    assert sum(small.losses(made)[-3:]) < sum(small.losses(made)[:3]) - 0.1


@pytest.mark.parametrize("family", ["llama", "gpt_neox", "opt", "phi3"])
@pytest.mark.parametrize(("name", "head"), [("dpo", False), ("drdo", True)])
def test_every_family_trains_saves_and_loads(family, name, head, tmp_path, reference):
    policy = small.model(family=family, reward_head=head)
    made, _ = made_for(name, tmp_path / "run", reference, policy, max_steps=2, learning_rate=1e-2)
    before = torch.from_numpy(all_logps(copy.deepcopy(policy), small.TOKENIZER, small.LANGUAGE))
    made.train()
    made.save_model()
    trained = torch.from_numpy(all_logps(policy, small.TOKENIZER, small.LANGUAGE))
    assert (trained - before).abs().max() > 1e-3
    folder = str(tmp_path / "run")
    tokenizer = load_tokenizer(folder)
    again = load_policy(folder, reward_head=head)
    assert torch.equal(torch.from_numpy(all_logps(again, tokenizer, small.LANGUAGE)), trained)
    if head:
        assert not again.reward_head.fresh
        one, two = (all_rewards(m, tokenizer, small.LANGUAGE) for m in (policy, again))
        assert (one == two).all()


@PEFT
@pytest.mark.parametrize(("name", "head"), [("dpo", False), ("oracle", True)])
def test_lora_trains_saves_and_loads(name, head, tmp_path, reference):
    base = small.save(small.model(), tmp_path / "base")
    policy = load_policy(str(base), reward_head=head)
    adapters = peft_config(r=4, dropout=0.0, target_modules="all-linear", reward_head=head)
    made, dataset = made_for(
        name, tmp_path / "run", reference, policy, max_steps=2, learning_rate=1e-1, rest={"peft_config": adapters}
    )
    trainable = {n for n, parameter in made.model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in n or "reward_head" in n for n in trainable)
    assert any("reward_head" in n for n in trainable) is head
    made.train()
    made.save_model()
    made.model.eval()
    rows = dataset.select(range(6))
    kept = small.batch(made, rows.to_list())
    with torch.no_grad():
        loss = made.compute_loss(made.model, kept).item()
    again = load_policy(str(tmp_path / "run"), reward_head=head)
    pair = small.pair_of(rows, small.table(small.double(again)), reference)
    assert objectives.get(name).terms(pair).loss.mean().item() == pytest.approx(loss, rel=1e-4)


def test_gradient_checkpointing_changes_no_loss(tmp_path, reference):
    curves = []
    for checkpointing in (False, True):
        made, _ = made_for("drdo", tmp_path, reference, activation_checkpointing=checkpointing, learning_rate=1e-2)
        made.train()
        curves.append(small.losses(made))
    assert curves[0] == pytest.approx(curves[1], abs=1e-6)


def test_bfloat16_is_near(tmp_path, reference):
    values = []
    for dtype in (torch.float32, torch.bfloat16):
        made, dataset = made_for("dpo", tmp_path, reference, small.model().to(dtype))
        values.append(made.compute_loss(made.model, small.batch(made, dataset.select(range(6)).to_list())).item())
    assert values[1] == pytest.approx(values[0], rel=2e-2)


def test_the_model_that_is_handed_over_is_the_one_that_learns(tmp_path, reference):
    policy = small.model()
    made, _ = made_for("dpo", tmp_path, reference, policy)
    assert made.accelerator.unwrap_model(made.model) is policy


def test_supervised_training_reads_no_rejected_response(tmp_path, reference):
    """Neither computes on them nor counts them, while evaluation still compares the two sides."""
    held_out = small.data(12, reference=reference, seed=9)
    made, _ = made_for("sft", tmp_path, reference, max_steps=1, rest={"eval_dataset": held_out})
    seen = []

    def note(_, args, inputs):
        seen.append((len(inputs["input_ids"]), int(inputs["attention_mask"].sum())))

    made.model.register_forward_pre_hook(note, with_kwargs=True)
    made.train()
    trained = made.state.log_history[0]
    assert seen == [(made.args.per_device_train_batch_size, trained["num_tokens"])]
    assert not [name for name in trained if "rejected" in name or "margin" in name]
    assert {"eval_logps/rejected", "eval_rewards/accuracies", "eval_logps/rejected_change"} <= set(made.evaluate())
