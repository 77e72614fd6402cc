"""The trainer's loss against TRL's own, and against each objective on a table of log-probabilities."""

import copy
from types import SimpleNamespace

import pytest
import torch
from trl import DPOTrainer

from llm.trainers.preference import Treatment
from llm.trainers.schedule import Schedule
from llm.world.exact import all_logps
from tests.llm import small
from theory import objectives
from theory.errors import UserError

ROWS = 7
REFUSED = sorted(set(objectives.names()) - set(small.trainable()))


def rows(dataset):
    return dataset.select(range(ROWS)).to_list()


def expected(objective, pair, sums, hyper, online=None):
    """The general form on tables: the pair loss, and the functionals on the data of a reference that drew it."""
    terms = objective.terms(pair, gamma=1.3, **hyper)
    total = objective.reduce(terms.loss)
    if float(terms.kl) or float(terms.forward_kl):
        ratio = torch.cat([sums.logp_chosen - sums.ref_logp_chosen, sums.logp_rejected - sums.ref_logp_rejected])
        total = total + terms.forward_kl * -ratio.mean()
        total = total + terms.kl * ((ratio.exp() * ratio).mean() if online is None else online)
    return total


SAMPLED = [name for name in small.trainable() if float(objectives.get(name).coefficients().kl)]


@pytest.mark.parametrize(("name", "online"), [(n, None) for n in small.trainable()] + [(n, 0.37) for n in SAMPLED])
def test_loss_and_gradient_are_the_objective_on_the_table(name, online, tmp_path, reference):
    objective = objectives.get(name)
    members = objective.ensemble if objective.reads("reward") else 0
    dataset = small.data(reference=reference, members=members)
    policy = small.model(reward_head=objective.reads("student_reward"))
    exact = small.double(policy)
    treatment = {"gamma": 1.3, "online_kl": None if online is None else lambda model, inputs: torch.tensor(online)}
    made = small.trainer(name, tmp_path, dataset, policy, treatment=treatment)
    loss = made.compute_loss(made.model, small.batch(made, rows(dataset)))
    pair = small.pair_of(dataset.select(range(ROWS)), small.table(exact), reference, members)
    truth = expected(objective, pair, pair, {}, online)
    assert loss.item() == pytest.approx(truth.item(), rel=1e-5, abs=1e-5)
    loss.backward()
    truth.backward()
    for (where, one), other in zip(made.model.named_parameters(), exact.parameters(), strict=True):
        found = torch.zeros_like(one) if one.grad is None else one.grad
        right = torch.zeros_like(other) if other.grad is None else other.grad
        torch.testing.assert_close(found.double(), right, rtol=1e-3, atol=2e-4, msg=lambda m, where=where: f"{where}: {m}")


@pytest.mark.parametrize("name", ["ipo", "dpo", "drdo", "dp-dpo", "pmle"])
def test_mean_log_probabilities_enter_the_loss_and_sums_the_functionals(name, tmp_path, reference):
    objective = objectives.get(name)
    members = int(objective.reads("reward"))
    dataset = small.data(reference=reference, members=members)
    policy = small.model(reward_head=objective.reads("student_reward"))
    table = small.table(small.double(policy))
    made = small.trainer(name, tmp_path, dataset, policy, treatment={"gamma": 1.3, "logp": "mean"})
    loss = made.compute_loss(made.model, small.batch(made, rows(dataset)))
    part = dataset.select(range(ROWS))
    mean = small.pair_of(part, table, reference, members, mean=True)
    truth = expected(objective, mean, small.pair_of(part, table, reference, members), {})
    assert loss.item() == pytest.approx(truth.item(), rel=1e-5)
    sums = small.trainer(name, tmp_path, dataset, copy.deepcopy(policy), treatment={"gamma": 1.3})
    assert sums.compute_loss(sums.model, small.batch(sums, rows(dataset))).item() != pytest.approx(loss.item(), rel=1e-3)


@pytest.mark.parametrize("name", ["e-dpo", "p-dpo", "dp-dpo"])
def test_annealed_weights_are_those_of_the_step(name, tmp_path, reference):
    objective = objectives.get(name)
    members = objective.ensemble if objective.reads("reward") else 0
    dataset = small.data(reference=reference, members=members)
    policy = small.model()
    table = small.table(small.double(policy))
    made = small.trainer(name, tmp_path, dataset, policy, anneal=True, max_steps=10)
    pair = small.pair_of(dataset.select(range(ROWS)), table, reference, members)
    made.state.max_steps = 10
    for step, weight in ((0, 1e-4), (5, 5.05e-3), (10, 1e-2), (12, 1e-2)):
        made.state.global_step = step
        loss = made.compute_loss(made.model, small.batch(made, rows(dataset)))
        truth = expected(objective, pair, pair, {"lambda_": weight})
        assert loss.item() == pytest.approx(truth.item(), rel=1e-5)


def test_the_table_by_hand_is_the_one_that_the_world_measures():
    policy = small.model()
    found = torch.from_numpy(all_logps(policy, small.TOKENIZER, small.LANGUAGE))
    torch.testing.assert_close(found, small.table(small.double(policy)).logp.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_objectives_that_maximise_a_reward_on_samples_are_refused(name):
    objective = objectives.get(name)
    with pytest.raises(UserError, match=f"METHOD {name}: maximises a reward on samples of its own"):
        Treatment(objective, Schedule.of(objective, {}))


def test_exactly_the_on_policy_ones_are_refused():
    assert REFUSED == ["rkl", "rlhf"]


def trl(tmp_path, dataset, policy, beta, loss_type, **changes):
    """TRL's own trainer, with a reference model in memory."""
    args = small.arguments(tmp_path, beta=beta, loss_type=[loss_type], **changes)
    plain = dataset.select_columns(["prompt", "chosen", "rejected"])
    return DPOTrainer(
        model=policy, ref_model=small.model(seed=1), args=args, train_dataset=plain, processing_class=small.TOKENIZER
    )


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(("name", "logp", "key", "loss_type"), [("dpo", "sum", "beta", "sigmoid"), ("ipo", "mean", "tau", "ipo")])
def test_trl_has_the_same_loss(name, logp, key, loss_type, tmp_path, reference):
    dataset = small.data(reference=reference)
    ours = small.trainer(name, tmp_path, dataset, small.model(), values={key: 0.3}, treatment={"logp": logp})
    theirs = trl(tmp_path, dataset, small.model(), 0.3, loss_type)
    found = ours.compute_loss(ours.model, small.batch(ours, rows(dataset)))
    truth = theirs.compute_loss(theirs.model, small.batch(theirs, rows(theirs.train_dataset)))
    assert found.item() == pytest.approx(truth.item(), rel=1e-6, abs=1e-6)
    shared = ("logps/chosen", "logps/rejected", "entropy", "num_tokens")
    of_dpo = ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies")
    for metric in (*shared, *of_dpo) if name == "dpo" else ("entropy", "num_tokens"):
        one, two = (made._metrics["eval"][metric] or made._metrics["train"][metric] for made in (ours, theirs))
        assert one == pytest.approx(two, rel=1e-5, abs=1e-6), metric


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_trl_has_the_same_loss_curve(tmp_path, reference):
    dataset = small.data(40, reference=reference)
    settings = {"max_steps": 5, "learning_rate": 5e-3, "seed": 3}
    ours = small.trainer("dpo", tmp_path, dataset, small.model(), values={"beta": 0.5}, **settings)
    theirs = trl(tmp_path, dataset, small.model(), 0.5, "sigmoid", **settings)
    for made in (ours, theirs):
        made.train()
    assert len(small.losses(ours)) == 5
    assert small.losses(ours) == pytest.approx(small.losses(theirs), abs=1e-6)
    assert abs(small.losses(ours)[-1] - small.losses(ours)[0]) > 1e-3


def test_trl_has_the_same_simpo(tmp_path, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOTrainer

    dataset, policy = small.data(), small.model()
    pair = small.pair_of(dataset.select(range(ROWS)), small.table(small.double(policy)))
    made = small.trainer("simpo", tmp_path, dataset, policy, values={"beta": 1.7, "target_margin": 0.6})
    loss = made.compute_loss(made.model, small.batch(made, rows(dataset)))
    stub = SimpleNamespace(
        alpha=0.0, loss_type="simpo", simpo_gamma=0.6, beta=1.7, label_smoothing=0.0, accelerator=made.accelerator
    )
    means = pair.logp_chosen / pair.length_chosen, pair.logp_rejected / pair.length_rejected
    theirs, chosen, rejected = CPOTrainer.cpo_loss(stub, *means)
    assert loss.item() == pytest.approx(theirs.mean().item(), rel=1e-6)
    metrics = {name: values[-1] for name, values in made._metrics["eval"].items()}
    assert metrics["rewards/chosen"] == pytest.approx(chosen.mean().item(), rel=1e-5)
    assert metrics["rewards/margins"] == pytest.approx((chosen - rejected).mean().item(), abs=1e-6)
