from __future__ import annotations

import numpy as np
import pytest

from theory.objectives import names

KEYS = {
    "method",
    "n",
    "seed",
    "beta",
    "forward_kl",
    "reverse_kl",
    "total_variation",
    "floor",
    "cramer_rao",
    "efficiency",
    "finite",
    "vanishing",
    "gradient_norm",
    "iterations",
    "seconds",
    "version",
}


def test_json_is_one_object_with_every_promised_key(theory):
    record = theory("simulate", "--method", "rkl", "--n", "1e5", "--json").json
    assert record.keys() >= KEYS
    assert record["method"] == "rkl"
    assert record["n"] == 100_000
    assert record["gradient_norm"] <= 1e-8
    assert record["cramer_rao"] == pytest.approx(record["asymptotic_constant"] / 1e5)
    assert record["efficiency"] == pytest.approx(record["cramer_rao"] / record["forward_kl"])


def test_table_for_people_says_what_was_found(theory):
    ran = theory("simulate", "--method", "dpo", "--n", "2e4")
    assert ran.code == 0
    for words in ("dpo on 2e+04 comparisons", "forward KL", "floor", "Cramér–Rao", "knows the target", "certificate"):
        assert words in ran.out


@pytest.mark.parametrize(
    "method",
    names(),
)
def test_every_method_runs_and_is_certified(theory, method):
    record = theory("simulate", "--method", method, "--n", "1e4", "--vocab", 4, "--contexts", 3, "--json").json
    assert record["gradient_norm"] <= 1e-8
    assert 0 < record["forward_kl"] < 1


def test_underscores_are_accepted(theory):
    assert theory("simulate", "--method", "pref_distill", "--n", "1e3", "--vocab", 3, "--json").json["method"] == "pref-distill"


def test_seed_decides_the_data_and_instance_seed_the_world(theory):
    def run(*extra):
        record = theory("simulate", "--n", "1e4", "--json", *extra).json
        return record["forward_kl"], record["floor"], record["asymptotic_constant"]

    assert run() == run()
    assert run("--seed", 1)[0] != run()[0]
    assert run("--seed", 1)[2] == run()[2]
    assert run("--instance-seed", 1)[2] != run()[2]


def test_population_limit_is_the_floor(theory):
    record = theory("simulate", "--method", "rlhf", "--n", "inf", "--json").json
    assert record["n"] == "inf"
    assert record["forward_kl"] == record["floor"] > 0.01
    assert record["efficiency"] is None


def test_validation_says_so_and_does_not_beat_best(theory):
    best, validation = (
        theory("simulate", "--method", "dpo", "--n", "1e5", "--beta", rule, "--json").json for rule in ("best", "validation")
    )
    assert validation["beta_rule"] == "validation"
    assert best["forward_kl"] <= validation["forward_kl"]


def test_hyperparameters_have_their_own_options(theory):
    record = theory("simulate", "--method", "drdo", "--gamma-f", "0.5", "--alpha=0.3", "--n", "1e3", "--json").json
    assert record["hyperparameters"] == {"alpha": 0.3, "gamma_f": 0.5}
    fixed = theory("simulate", "--method", "ipo", "--tau", "0.7", "--n", "1e3", "--json").json
    assert (fixed["tuned"], fixed["beta"], fixed["beta_rule"]) == ("tau", 0.7, "fixed")
    both = theory("simulate", "--method", "dp-dpo", "--beta", "0.5", "--lambda", "0.1", "--n", "1e3", "--json").json
    assert both["hyperparameters"] == {"beta": 0.5, "lambda_": 0.1}


def test_reward_head_and_oracle_reach_the_fit(theory):
    def kl(*extra):
        return theory("simulate", "--method", "drdo", "--n", "1e6", "--json", *extra).json["forward_kl"]

    separate, tied, true = kl(), kl("--reward-head", "tied"), kl("--reward-head", "tied", "--oracle", "true")
    assert tied < separate / 50
    assert true < tied


def test_policy_out_is_the_fitted_policy(theory, tmp_path):
    file = tmp_path / "policy.npz"
    assert theory("instance", "new", tmp_path / "world.npz", "--vocab", 5).code == 0
    record = theory("simulate", "--instance", tmp_path / "world.npz", "--n", "1e5", "--policy-out", file, "--json").json
    target, policy = np.load(tmp_path / "world.npz")["target"], np.load(file)["policy"]
    assert np.mean(np.sum(target * np.log(target / policy), 1)) == pytest.approx(record["forward_kl"], rel=1e-9)


def test_degenerate_data_are_reported_and_bounded_by_the_ridge(theory):
    bounded = theory("simulate", "--method", "dpo", "--n", "30", "--json").json
    assert bounded["finite"] is False
    assert bounded["forward_kl"] < 1
    assert bounded["vanishing"]
    assert all(len(place) == 2 for place in bounded["vanishing"])
    free = theory("simulate", "--method", "dpo", "--n", "30", "--ridge", 0, "--json").json
    assert free["forward_kl"] is None
    assert free["vanishing"] == bounded["vanishing"]
    assert "go to 0" in theory("simulate", "--method", "dpo", "--n", "30", "--ridge", 0).out


def test_log_linear_classes(theory):
    shared = ("simulate", "--method", "rkl", "--features", 3, "--n", "1e6", "--json", "--beta", 0)
    inside = theory(*shared, "--realizable", "--reward-class", "log-linear").json
    outside = theory(*shared, "--reward-class", "log-linear").json
    assert inside["floor"] < 1e-10 < 1e-2 < outside["floor"]
    assert inside["finite"] is True
    assert inside["vanishing"] is None
    few = (*shared[:-4], "10", "--json", "--beta", 0, "--reward-class", "log-linear", "--contexts", 2, "--features", 9)
    assert theory(*few).json["finite"] is False


def test_picture_is_written(theory, tmp_path):
    ran = theory("simulate", "--n", "1e4", "--picture", tmp_path / "curve.png")
    assert ran.code == 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--n", "0"), ("--n 0", "1e5")),
        (("--n", "-5"), ("--n -5", "whole number")),
        (("--n", "abc"), ("--n abc", "whole number")),
        (("--n", "1e400"), ("--n 1e400", "1e15")),
        (("--n", "1.5"), ("--n 1.5", "whole number")),
        (("--n", "nan"), ("--n nan",)),
        (("--method", "rlfh"), ("--method rlfh", "did you mean rlhf?")),
        (("--method", "dpo", "--objective", "x.py:f"), ("--objective", "one of them")),
        (("--objective", "x.py:f"), ("--objective x.py:f", "no file")),
        (("--beta", "-0.1"), ("--beta -0.1", "[0, inf)")),
        (("--beta", "nan"), ("--beta nan",)),
        (("--beta", "bset"), ("--beta bset", "best, validation")),
        (("--method", "ipo", "--beta", "0.1"), ("--beta 0.1", "--tau")),
        (("--method", "rlhf", "--beta", "0"), ("--beta 0", "(0, inf)")),
        (("--gamma", "0"), ("--gamma 0", "positive")),
        (("--gamma", "nan"), ("--gamma nan", "positive")),
        (("--vocab", "1"), ("--vocab 1", "at least 2")),
        (("--contexts", "0"), ("--contexts 0", "at least 1")),
        (("--ref-noise", "-1"), ("--ref-noise -1",)),
        (("--ridge", "-1"), ("--ridge -1", "zero or positive")),
        (("--seed", "-1"), ("--seed -1", "zero or positive")),
        (("--alpha", "x"), ("--alpha x", "number")),
        (("--alpha",), ("--alpha", "needs a value")),
        (("--tau", "1"), ("--tau", "no option", "rkl")),
        (("--reward-head", "tyed"), ("--reward-head tyed", "did you mean tied?")),
        (("--oracle", "maybe"), ("--oracle maybe", "learned, true")),
        (("--policy-class", "log-linear"), ("--policy-class log-linear", "features")),
        (("--realizable",), ("--realizable", "--features")),
        (("--features", "10"), ("--features 10", "less than V")),
        (("--instance", "missing.npz"), ("--instance missing.npz", "No such file")),
        (("--picture", "out.bmp"), ("--picture out.bmp", ".png")),
        (("--policy-out", "missing/out.npz"), ("--policy-out", "folder does not exist")),
        (("--vocab", "2000", "--contexts", "2", "--n", "inf"), ("--n inf", "too large")),
        (("--vocab", "2000", "--contexts", "1", "--n", "1e12"), ("--n 1e+12", "sparse")),
    ],
)
def test_bad_input_is_one_line(theory, arguments, words):
    error = theory("simulate", *arguments).error
    for word in words:
        assert word in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": np.full((2, 3), 0.3)}, ("target[0]", "sum to 1")),
        ({"target": np.array([[0.5, 0.5, np.nan]] * 2)}, ("target[0, 2]", "finite")),
        ({"reference": np.array([[0.5, 0.5, 0.0]] * 2)}, ("reference[0, 2]", "positive")),
        ({"reference": np.full((3, 3), 1 / 3)}, ("reference", "shape")),
        ({"gamma": np.array(0.0)}, ("gamma", "positive")),
    ],
)
def test_bad_instances_are_one_line(theory, tmp_path, change, words):
    arrays = {"target": np.full((2, 3), 1 / 3), "reference": np.full((2, 3), 1 / 3), "gamma": np.array(1.0)}
    np.savez(tmp_path / "world.npz", **{**arrays, **change})
    error = theory("simulate", "--instance", tmp_path / "world.npz").error
    for word in ("world.npz", *words):
        assert word in error


def test_users_own_objective_is_accepted(theory, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch.nn.functional import logsigmoid\n"
        "def cautious(pair, *, gamma, beta=0.3):\n"
        '    """My loss."""\n'
        "    return -logsigmoid(gamma * pair.logp_margin) + beta * pair.logratio_margin ** 2\n"
    )
    record = theory("simulate", "--objective", f"{file}:cautious", "--n", "1e5", "--json").json
    assert record["method"] == "cautious"
    assert record["gradient_norm"] <= 1e-8
    assert record["tuned"] == "beta"
    assert theory("simulate", "--objective", f"{file}:cautoius").error.endswith("did you mean cautious?")


def test_users_copy_of_dpo_gives_dpo(theory, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "def mine(pair, *, beta=0.5):\n"
        "    return torch.nn.functional.softplus(-beta * (pair.logp_chosen - pair.logp_rejected\n"
        "        - pair.ref_logp_chosen + pair.ref_logp_rejected))\n"
    )
    shared = ("--beta", "0.5", "--n", "1e7", "--json")
    ours = theory("simulate", "--method", "dpo", *shared).json
    theirs = theory("simulate", "--objective", f"{file}:mine", *shared).json
    assert theirs["forward_kl"] == pytest.approx(ours["forward_kl"], rel=1e-4)
    assert theirs["floor"] == pytest.approx(ours["floor"], rel=1e-9)


def test_a_slow_drain_against_an_entropic_barrier_is_not_decided_by_structure(theory):
    """ε^κ with κ < 1 beats β·ε·log(1/ε) near the boundary, but a large β has its minimum inside."""
    slow = theory("simulate", "--method", "hypo", "--kl", "1", "--beta", "0.05", "--n", "100", "--json").json
    assert slow["finite"] is None
    assert slow["forward_kl"] is not None
    fast = theory("simulate", "--method", "hypo", "--kl", "1", "--beta", "1", "--n", "100", "--json").json
    assert fast["finite"] is True


def test_two_heads_need_classes_of_one_kind(theory):
    error = theory("simulate", "--method", "drdo", "--features", 3, "--policy-class", "log-linear").error
    assert "--reward-class" in error
