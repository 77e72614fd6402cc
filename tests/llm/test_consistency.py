"""Studies of transformers against n: batches against TRL's, losses against the trainer's, tables against loops."""

import copy
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from llm.consistency import cell as cells
from llm.consistency import run as running
from llm.consistency import table
from llm.consistency.data import Comparisons, Pairs
from llm.consistency.methods import methods_of
from llm.consistency.picture import Line, draw, lines, picture
from llm.consistency.study import POLICY, WITH_HEAD, Cell, Limit, Study
from llm.consistency.table import Method
from llm.consistency.trainer import ExactKL, Once, WorldTrainer, all_sequences
from llm.data.tokens import tokenise
from llm.trainers.preference import Treatment
from llm.trainers.schedule import Schedule
from llm.world.exact import floor
from llm.world.reference import Fitting, fit_reference
from llm.world.texts import preference_dataset
from tests.llm import small
from theory import objectives
from theory.errors import UserError
from theory.instances import random_language
from theory.solvers.options import Options

TINY = random_language(0, tokens=3, length=2, prompts=2)
QUICK = Fitting(layers=1, width=16, heads=2, batch=16, steps=5, warmup=1)
SHORT = {"max_steps": 2, "per_device_train_batch_size": 32}


def _tables(reference, members: int = 0) -> dict:
    rewards = {"reward_{}": small.rewards(members) if members > 1 else small.rewards(1)[0]} if members else {}
    return {"ref_{}_logps": reference.logp.detach().numpy(), **rewards}


def _pairs(n: int, tables: dict, seed: int = 0) -> Pairs:
    return Pairs(Comparisons.draw(small.LANGUAGE, n, seed), all_sequences(small.TOKENIZER, small.LANGUAGE), tables)


def _method(name: str, **changes) -> Method:
    return Method(objectives.get(name), **{"values": {}, **changes})


def _study(*methods: Method, **changes) -> Study:
    return Study(TINY, methods, **{"sizes": (40,), "seeds": 1, "training": SHORT, "fitting": QUICK, **changes})


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> str:
    """The folder of a reference that is fitted for a few steps only."""
    return str(fit_reference(TINY, tmp_path_factory.mktemp("references"), QUICK).path)


def _run(study: Study, out, **changes) -> running.Done:
    calls = {"say": lambda text: None, "expect": lambda count: None, "report": lambda count: None}
    running.check(study)
    return running.run_study(study, out, jobs=1, **{**calls, **changes})


@pytest.mark.parametrize("members", [0, 1, 3])
def test_a_batch_is_what_trl_makes_of_the_same_texts(reference, members):
    pairs = _pairs(60, _tables(reference, members), seed=4)
    rows = small.data(60, reference=reference, members=members, seed=4)
    assert len(pairs) == len(rows) < 60
    picked = [5, 0, len(rows) - 1, 11, 5]
    expected = small.PairCollator(small.TOKENIZER.pad_token_id, 16)([rows[i] for i in picked])
    found = pairs.__getitems__(picked)
    assert len(torch.unique(found.pop("sequence"))) <= 10
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=0, check_dtype=name != "sequence")


def test_the_rows_are_those_of_the_written_texts():
    language = random_language(3, tokens=4, length=3, prompts=3)
    from llm.world.tokenizer import make_tokenizer

    tokenizer = make_tokenizer(language)
    rows = tokenise(preference_dataset(language, 500, 7), tokenizer, 64)
    pairs = Pairs(Comparisons.draw(language, 500, 7), all_sequences(tokenizer, language), {})
    expected = small.PairCollator(tokenizer.pad_token_id, 64)(list(rows))
    found = pairs.__getitems__(range(len(pairs)))
    for name in ("input_ids", "attention_mask", "completion_mask"):
        assert torch.equal(found[name], expected[name])


def test_win_counts_by_a_loop_over_the_texts():
    comparisons = Comparisons.draw(small.LANGUAGE, 80, 1)
    dataset = preference_dataset(small.LANGUAGE, 80, 1)
    prompt, response = small.places(dataset)
    wins = np.zeros((2, small.LANGUAGE.vocab, small.LANGUAGE.vocab))
    for x, i, j in zip(prompt, response["chosen"], response["rejected"], strict=True):
        wins[x, i, j] += 1
    assert np.array_equal(comparisons.counts.wins[0], wins)
    assert np.array_equal(comparisons.counts.totals[0], wins.sum((1, 2)))
    assert comparisons.counts.n == len(dataset)
    assert comparisons.shares == pytest.approx(wins.sum((1, 2)) / len(dataset))


@pytest.mark.parametrize(("name", "members"), [("dpo", 0), ("drdo", 1), ("e-dpo", 3), ("simpo", 0), ("oracle", 0)])
def test_reading_each_sequence_once_changes_no_loss_and_no_gradient(name, members, reference, tmp_path, monkeypatch):
    objective = objectives.get(name)
    model = small.model(2, reward_head=objective.reads("student_reward"))
    rows = small.data(60, reference=reference, members=members)
    usual = small.trainer(name, tmp_path, rows, copy.deepcopy(model))
    expected = usual._compute_loss(usual.model, small.batch(usual, list(rows)), False)
    expected.backward()
    treatment = Treatment(objective, Schedule.of(objective, {}))
    pairs = _pairs(60, _tables(reference, members))
    trainer = WorldTrainer(pairs, treatment, model, small.arguments(tmp_path), small.TOKENIZER)
    seen = []
    monkeypatch.setattr(Once, "__call__", _noting(Once.__call__, seen))
    loss = trainer._compute_loss(trainer.model, pairs.__getitems__(range(len(pairs))), False)
    loss.backward()
    assert seen == [len({s for place in pairs.places for s in place.tolist()})]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    squares = 0.0
    for (key, mine), theirs in zip(model.named_parameters(), usual.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=key)
        squares += float(theirs.grad.double().square().sum())
    assert trainer.whole() == pytest.approx((expected.item(), math.sqrt(squares)), rel=1e-4)
    if members < 2:  # the least member of a part need not be that of the whole
        monkeypatch.setattr("llm.consistency.trainer.CHUNK", 7)
        assert trainer.whole() == pytest.approx((expected.item(), math.sqrt(squares)), rel=1e-4)


def _noting(call, seen):
    def noting(once, **given):
        reads = []
        model, once = once.model, Once(lambda **lines: reads.append(len(lines["input_ids"])) or model(**lines))
        output = call(once, **given)
        seen.extend(reads)
        return output

    return noting


def test_the_exact_kl_against_its_definition(reference, tmp_path):
    model = small.model(3)
    shares = np.array([0.3, 0.7])
    kl = ExactKL(all_sequences(small.TOKENIZER, small.LANGUAGE), reference.logp.detach().numpy(), shares)
    trainer = small.trainer("dpo", tmp_path, small.data(8, reference=reference), model)  # for TRL's head
    found = kl(Once(trainer.model), None)
    found.backward()
    double = small.double(small.model(3))
    logp, ref = small.table(double).logp, reference.logp.detach()
    rest, ref_rest = 1 - logp.exp().sum(1), 1 - ref.exp().sum(1)
    expected = (logp.exp() * (logp - ref)).sum(1) + rest * (rest / ref_rest).log()
    assert expected.min() > 0
    expected = (torch.from_numpy(shares) * expected).sum()
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for (key, mine), theirs in zip(model.named_parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-3, atol=1e-6, msg=key)


@pytest.mark.parametrize("name", ["dpo", "drdo", "simpo", "e-dpo", "sft", "pmle"])
def test_the_limit_is_the_floor_that_llm_train_prints(name):
    method = _method(name, rule="fixed", values={"beta": 0.0} if name == "pmle" else {})
    hyper, found = table.limit(TINY, method)
    assert hyper == objectives.get(name).resolve(method.values)
    expected = floor(TINY, method.objective, hyper, options=Options(oracle="true"))
    # λ KL(π_ref‖π) weighs a little more there, where draws of a response with itself count in the mean of the loss.
    assert found == pytest.approx(expected, rel=0.02 if name == "e-dpo" else 1e-6, abs=1e-9)


def test_means_of_log_probabilities_are_sums_at_another_beta():
    mean = table.limit(TINY, _method("dpo", values={"beta": 3.0}, logp="mean"))[1]
    assert mean == pytest.approx(table.limit(TINY, _method("dpo", values={"beta": 1.0}))[1], rel=1e-6)


def test_the_table_is_fitted_to_the_very_comparisons():
    """At β = 0 the gradient of Σ W log σ(γ Δlogπ) vanishes at PMLE's table, ridge apart."""
    comparisons = Comparisons.draw(TINY, 20_000, 0)
    method = _method("pref-distill", rule="fixed", values={"beta": 0.0})
    found = table.fit(TINY, method, comparisons.counts, 0)
    wins, reward = comparisons.counts.wins[0], found.rewards[0]
    won = 1 / (1 + np.exp(-(reward[:, :, None] - reward[:, None, :])))
    games = wins + wins.transpose(0, 2, 1)
    assert np.abs(wins.sum(2) - (games * won).sum(2)).max() < 1e-6 + 0.01 * np.abs(reward).max()
    policy = reward - np.log(np.exp(reward).sum(1, keepdims=True))
    target = TINY.log_probs("target")
    assert found.forward_kl == pytest.approx((np.exp(target) * (target - policy)).sum(1).mean(), rel=1e-4)
    assert found.finite
    true = table.fit(TINY, dataclasses.replace(method, oracle="true"), comparisons.counts, 0)
    assert np.allclose(true.rewards[0], TINY.gamma * target)
    assert table.fit(TINY, _method("dpo"), comparisons.counts, 0).rewards is None
    assert table.fit(TINY, _method("e-dpo"), comparisons.counts, 0).rewards.shape == (3, 2, 9)


def test_rules_for_the_tuned_hyperparameter():
    words = [{"method": name} for name in ("pmle", "dpo", "ipo", "drdo", "hypo")]

    def values(beta: str, **keys) -> dict:
        return {
            m.objective.name: (m.rule, m.settings(TINY).values)
            for m in methods_of(words, keys, beta, oracle="true", logp="sum")[0]
        }

    assert values("auto") == {
        "pmle": ("auto", {"beta": 0.0}),
        "dpo": ("auto", {"beta": 1.0}),
        "ipo": ("auto", {"tau": 1.0}),
        "drdo": ("auto", {}),
        "hypo": ("auto", {"beta": 1.0}),
    }
    found = values("0.5,pmle=0.1,ipo=0.3", kl="0.2", alpha=0.7)
    assert found["pmle"] == ("fixed", {"beta": 0.1})
    assert found["dpo"] == ("fixed", {"beta": 0.5})
    assert found["ipo"] == ("fixed", {"tau": 0.3})
    assert found["drdo"] == ("auto", {"alpha": 0.7})
    assert found["hypo"] == ("fixed", {"beta": 0.5, "kl": 0.2})
    assert values("best")["dpo"] == ("best", {})
    assert values("dpo=best")["pmle"] == ("auto", {"beta": 0.0})
    near = random_language(0, tokens=3, length=2, prompts=2, ref_noise=0.0)
    hyper, least = table.limit(near, _method("dpo", rule="best"))
    assert least <= min(table.limit(near, _method("dpo", values={"beta": b}))[1] for b in (0.5, 1.0, 5.0))
    assert set(hyper) == {"beta"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": [{"method": "dpi"}]}, "METHOD dpi: is not a known objective; did you mean dpo?"),
        ({"beta": "dpi=1"}, "--beta dpi=1: names no method of --methods; did you mean dpo?"),
        ({"beta": "bets"}, "--beta bets: must be auto, best or a number, of all methods or METHOD=… of one"),
        ({"beta": "drdo=1"}, "--beta drdo=1: drdo has nothing to tune"),
        ({"beta": "-1"}, "--beta -1: must lie in (0, inf)"),
        ({"keys": {"learning_rat": "1"}}, "--learning-rat: is no key of a run; did you mean learning_rate?"),
        ({"keys": {"data": "a.jsonl"}}, "--data a.jsonl: has no meaning for llm consistency"),
        ({"keys": {"use_peft": "true"}}, "--use-peft true: has no meaning for llm consistency"),
        ({"keys": {"save_strategy": "steps"}}, "--save-strategy steps: has no meaning for llm consistency"),
        ({"keys": {"max_steps": "few"}}, "--max-steps few: must be"),
        ({"keys": {"lr_scheduler_type": "cosin"}}, "--lr-scheduler-type cosin: TRL refuses it: "),
        ({"oracle": "false"}, "--oracle false: known: learned, true (choices: learned, true)"),
        ({"logp": "median"}, "--logp median: did you mean mean? (choices: sum, mean)"),
        ({"words": [{"method": "simpo"}], "logp": "mean"}, "--methods simpo: simpo divides by the length itself"),
        ({"words": [{"method": "rlhf"}]}, "--methods rlhf: maximises a reward on samples of its own"),
        ({"words": [{"method": "reward"}]}, "--methods reward: trains no policy"),
        ({"words": [{"method": "dpo"}, {"method": "dpo"}]}, "--methods dpo: is named twice"),
        ({"words": []}, "--methods: name at least one"),
        ({"seeds": 0}, "--seeds 0: must be at least 1"),
        ({"seed": -1}, "--seed -1: must be zero or positive"),
        ({"sizes": (10**9,)}, "--n 1e+09: must be at most 2e+07"),
        ({"language": random_language(0, tokens=12, length=3, prompts=1)}, "--length 3: gives 1728 responses"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(changes, said):
    with pytest.raises(UserError) as refused:
        _prepare(**changes)
    assert str(refused.value).startswith(said), str(refused.value)
    assert "\n" not in str(refused.value)


def _prepare(words=({"method": "dpo"}, {"method": "drdo"}), keys=None, beta="auto", oracle="learned", logp="sum", **rest) -> None:
    methods, training = methods_of(words, keys or {}, beta, oracle=oracle, logp=logp)
    running.check(dataclasses.replace(_study(*methods, training=training), **rest))


def test_a_cell_is_decided_by_its_numbers_alone(quick):
    study = _study(_method("drdo"), _method("hypo"), training=dict(SHORT))
    for method in study.methods:
        hyper, least = table.limit(TINY, method)  # hypo's KL is the exact one
        cell = Cell(study, method, Limit(hyper, least), 40, 1)
        first, again = (cells.train(cell, quick) for _ in range(2))
        assert {k: v for k, v in first.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
        assert first["steps"] == 2
        assert (first["n"], first["seed"], first["floor"]) == (40, 1, least)
        assert json.loads(first["hyperparameters"]) == hyper
        assert set(json.loads(first["versions"])) == {"prefproof", "torch", "transformers", "trl"}
        assert first["reward"] == ("learned" if method.objective.name == "drdo" else "none")
        counts = Comparisons.draw(TINY, 40, 1).counts
        assert first["comparisons"] == counts.n
        assert first["table_forward_kl"] == table.fit(TINY, cell.fixed, counts, 1).forward_kl
        assert first["gradient_norm"] > 0
        changed = [
            dataclasses.replace(cell, n=41),
            dataclasses.replace(cell, replicate=2),
            dataclasses.replace(cell, limit=Limit({**hyper, next(iter(hyper)): 0.3}, least)),
            dataclasses.replace(cell, method=dataclasses.replace(method, logp="mean")),
            *(
                dataclasses.replace(cell, study=dataclasses.replace(study, **c))
                for c in ({"training": {}}, {"fitting": Fitting()})
            ),
        ]
        assert len({c.name for c in [cell, *changed]}) == len(changed) + 1


def test_a_second_start_trains_only_what_is_missing(tmp_path, monkeypatch):
    study = _study(_method("pmle"), _method("dpo"), sizes=(30, 60))
    first = _run(study, tmp_path)
    assert (first.before, first.total) == (0, 4)
    assert [(row["method"], row["n"], row["seed"]) for row in first.rows] == [
        (m, n, 0) for m in ("pmle", "dpo") for n in (30, 60)
    ]
    assert pq.read_table(tmp_path / running.RESULTS).to_pylist() == first.rows
    trained = []
    train = cells.train
    monkeypatch.setattr(running, "train", lambda cell, start: trained.append(cell) or train(cell, start))
    assert _run(study, tmp_path) == running.Done(first.rows, 4, 4, 0)
    assert not trained
    next((tmp_path / "parts").glob("pmle-n30-*")).unlink()
    (cut,) = (tmp_path / "parts").glob("dpo-n60-*")
    cut.write_bytes(cut.read_bytes()[:100])
    third = _run(study, tmp_path)
    assert (third.before, third.broken, len(trained)) == (2, 1, 2)
    assert [row["forward_kl"] for row in third.rows] == [row["forward_kl"] for row in first.rows]
    more = _run(_study(_method("pmle"), sizes=(30, 60), seeds=2), tmp_path)
    assert (more.before, more.total) == (2, 4)
    with pytest.raises(UserError, match=r"--out .*: holds a sweep with another seed"):
        _run(dataclasses.replace(study, seed=5), tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out .*file: cannot be written"):
        _run(study, tmp_path / "file")


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(store, name, rows) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running.Store, "write", full)
    with pytest.raises(UserError, match=r"--out .*: cannot be written: No space left on device"):
        _run(_study(_method("pmle")), tmp_path)
    assert not list((tmp_path / "parts").iterdir())


def test_an_interrupted_study_keeps_what_is_done(tmp_path):
    def stop(count: int) -> None:
        raise KeyboardInterrupt

    study = _study(_method("pmle"), sizes=(30, 60))
    with pytest.raises(KeyboardInterrupt):
        _run(study, tmp_path, report=stop)
    assert not (tmp_path / running.RESULTS).exists()
    assert _run(study, tmp_path).before == 1


def test_transformers_go_where_the_table_goes(tmp_path):
    """PMLE to the target, DPO to its floor: the picture in small."""
    methods = tuple(_method(name) for name in ("pmle", "dpo"))
    training = {"max_steps": 120, "per_device_train_batch_size": 4096}
    fitting = Fitting(layers=1, width=32, heads=2, batch=64)
    done = _run(_study(*methods, sizes=(1_000, 100_000), training=training, fitting=fitting), tmp_path)
    (pmle_few, pmle), (dpo_few, dpo) = ([row for row in done.rows if row["method"] == name] for name in ("pmle", "dpo"))
    assert pmle["floor"] < 1e-12
    assert pmle["forward_kl"] < 0.002 < pmle_few["forward_kl"]
    assert pmle["table_forward_kl"] < 0.001
    assert dpo["floor"] > 0.2 > dpo["forward_kl_before"]
    assert dpo["forward_kl"] == pytest.approx(dpo["floor"], rel=0.1)
    assert dpo["table_forward_kl"] == pytest.approx(dpo["floor"], rel=0.02)
    assert dpo_few["forward_kl"] > 0.15
    assert all(row["gradient_norm"] < 0.05 for row in done.rows)


def test_training_arguments_depend_on_what_is_trained():
    study = _study(_method("dpo"), _method("drdo"), training={})
    for method, own in zip(study.methods, (POLICY, WITH_HEAD), strict=True):
        assert own.items() <= study.arguments(method).items()
    given = _study(_method("drdo"), training={"learning_rate": 0.1, "num_train_epochs": 2.0})
    found = given.arguments(given.methods[0])
    assert (found["learning_rate"], found["num_train_epochs"], "max_steps" in found) == (0.1, 2.0, False)


def _rows() -> list[dict]:
    base = {
        "floor": 0.0,
        "hyperparameters": '{"lambda_": 0.5, "gamma_f": 2.0}',
        "off_language_mass": 0.1,
        "forward_kl_before": 0.35,
    }
    world = {"world": "w", "prompts": 4, "length": 3, "tokens": 6, "gamma": 1.0}
    numbers = [("pmle", 100, 2.0, 3.0), ("pmle", 100, 4.0, 5.0), ("pmle", 10, 8.0, 9.0), ("dpo", 100, 1.0, 1.5)]
    return [
        {
            **base,
            **world,
            "method": m,
            "n": n,
            "forward_kl": kl,
            "table_forward_kl": t,
            "gradient_norm": kl / 10,
            "floor": float(m == "dpo"),
        }
        for m, n, kl, t in numbers
    ]


def test_lines_are_means_and_ranges():
    pmle, dpo = lines(_rows())
    assert pmle.label == "pmle (λ = 0.5, γ_f = 2)"
    found = {name: getattr(pmle, name).tolist() for name in ("n", "mean", "low", "high", "table", "gradient")}
    assert found == {"n": [10, 100], "mean": [8, 3], "low": [8, 2], "high": [8, 4], "table": [9, 4], "gradient": [0.8, 0.4]}
    assert (dpo.floor, dpo.n.tolist()) == (1.0, [100])


def test_what_is_drawn(tmp_path):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    drawn = lines(_rows())
    draw(axes, drawn, 0.35)
    (points, _, (bars,)), _ = axes.containers
    assert points.get_xydata().tolist() == [[10, 8], [100, 3]]
    assert [segment.tolist() for segment in bars.get_segments()] == [[[10, 8], [10, 8]], [[100, 2], [100, 4]]]
    tables = [line for line in axes.lines if line.get_linestyle() == "-" and len(line.get_xdata()) == 2]
    assert tables[0].get_ydata().tolist() == [9, 4]
    dotted = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == [1.0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    labels = axes.get_legend_handles_labels()[1]
    assert len(labels) == 3
    picture(_rows(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UserError, match="must end in"):
        picture(_rows(), tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"--picture .*: cannot be written"):
        picture(_rows(), tmp_path / "none" / "a.png")
    assert isinstance(drawn[0], Line)
