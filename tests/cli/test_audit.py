"""`theory audit` as a user runs it: refusals in one line, the numbers of known losses, the page, and --all's resume."""

from __future__ import annotations

import json
from dataclasses import asdict
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from theory.audit import consistency, efficiency, existence, run, subject
from theory.audit.report import Finding
from theory.cli import audit_all
from theory.cli.options import split_method
from theory.errors import UserError
from theory.instances import random_instance

MINE = '''
import torch
from torch.nn.functional import logsigmoid


def right(pair, *, gamma):
    """The likelihood <of> the & model.

    Equation: −log σ(γΔ) <script>alert("x")</script>
    """
    return -logsigmoid(gamma * pair.logp_margin)


def biased(pair, *, width=1.0):
    return (pair.logp_margin - width) ** 2


def falling(pair):
    return -pair.logp_margin


def averaged(pair):
    return -(pair.logp_margin - pair.logp_margin.mean())
'''
WORLD = ("--vocab", 4, "--contexts", 3)


@pytest.fixture
def mine(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE, encoding="utf-8")
    return file


@pytest.fixture
def quick(monkeypatch):
    """Only the sections that the summary is made of, and companions that take no time."""
    monkeypatch.setattr(run, "SECTIONS", (consistency.section, efficiency.section, existence.section))
    monkeypatch.setattr(subject, "COMPANIONS", ({"vocab": 3, "contexts": 2, "gamma": 0.5},))
    monkeypatch.setattr(existence, "SIZES", (10, 10**4))


def test_audit_is_listed(theory):
    assert "audit" in theory("--help").out
    shown = theory("audit", "--help").out
    for option in ("--objective", "--all", "--scan", "--html", "--json", "--vocab"):
        assert option in shown


# --- Bad input. --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "METHOD: name an objective (see `theory methods`), or give --objective file.py:name, or --all"),
        (("drod",), "drod: is not a known objective; did you mean drdo?"),
        (("dpo", "--objective", "mine.py:f"), "--objective mine.py:f: cannot be combined with"),
        (("dpo", "rkl"), "rkl: is one word too many after dpo"),
        (("--gamma-f", "1", "drdo", "rkl"), "rkl: is one word too many after drdo"),
        (("drdo", "--scan", "gamma-f"), "--scan gamma-f: give it as name=value,value with one of: alpha, gamma-f"),
        (("drdo", "--scan", "focal=1"), "--scan focal=1: give it as name=value,value with one of: alpha, gamma-f"),
        (("drdo", "--scan", "gamma-f=1,x"), "--scan gamma-f x: must be a number"),
        (("drdo", "--scan", "gamma-f=1,inf"), "--scan gamma-f inf: must be finite"),
        (("drdo", "--scan", "gamma-f=-1"), "--gamma-f -1: must lie in [0, inf)"),
        (("dpo", "--scan", "beta=1"), "dpo has nothing to scan"),
        (("dpo", "--beta", "validation"), "--beta validation: an audit asks for the best value"),
        (("dpo", "--beta", "bset"), "--beta bset: must be best, validation or a number"),
        (("dpo", "--beta", "0"), "--beta 0: must lie in (0, inf)"),
        (("ipo", "--beta", "1"), "--beta 1: ipo has no hyperparameter beta; its tuned hyperparameter is --tau"),
        (("dpo", "--out", "folder"), "--out folder: goes with --all"),
        (("dpo", "--vocab", "60", "--contexts", "60"), "--vocab 60: an audit takes tables of up to X·V² = 20,000 cells"),
        (("dpo", "--vocab", "1"), "--vocab 1: "),
        (("dpo", "--seed", "-1"), "--seed -1: must be zero or positive"),
        (("dpo", "--reward-head", "teid"), "--reward-head teid: did you mean tied?"),
        (("dpo", "--oracle", "tru"), "--oracle tru: did you mean true?"),
        (("dpo", "--instance", "nowhere.npz"), "--instance nowhere.npz: "),
        (("drdo", "--gamma-f"), "--gamma-f: needs a value"),
        (("drdo", "--gamma-f", "two"), "--gamma-f two: must be a number"),
        (("drdo", "--gama-f", "2"), "--gama-f: is no option of this command nor a hyperparameter of drdo, which has"),
        (("dpo", "--jobs", "-1"), "--jobs"),
        (("--all", "dpo"), "METHOD: cannot be combined with --all"),
        (("--all", "--objective", "mine.py:f"), "--objective: cannot be combined with --all"),
        (("--all", "--scan", "gamma-f=1"), "--scan: cannot be combined with --all"),
        (("--all", "--beta", "1"), "--beta: cannot be combined with --all"),
        (("--all", "--gamma-f", "1"), "--gamma-f: cannot be combined with --all"),
        (("--all", "--oracle", "tru"), "--oracle tru: did you mean true?"),
        (("--all", "--seed", "-1"), "--seed -1: must be zero or positive"),
    ],
)
def test_refusals_in_one_line(theory, arguments, words):
    assert words in theory("audit", *arguments).error


@pytest.mark.parametrize("arguments", [("dpo",), ("--all",)])
def test_a_page_that_cannot_be_written_is_refused_before_any_work(theory, tmp_path, monkeypatch, arguments):
    monkeypatch.setattr(run, "SECTIONS", ())
    nowhere = tmp_path / "no" / "page.html"
    assert theory("audit", *arguments, "--html", nowhere).error == f"--html {nowhere}: its folder does not exist"
    assert theory("audit", *arguments, "--html", tmp_path).error == f"--html {tmp_path}: is a directory; give a file name"


def test_a_folder_that_cannot_be_made(theory, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot be made" in theory("audit", "--all", "--out", tmp_path / "file" / "results").error


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("nothing", MINE, "has no function nothing; "),
        ("rigth", MINE, "has no function rigth; did you mean right?"),
        ("averaged", MINE, "depends on the rest of the batch"),
        ("f", "1 / 0", "could not be imported: ZeroDivisionError: division by zero"),
        ("f", "def f(pair):\n    raise ValueError('first\\nsecond')", "failed on a batch of pairs: ValueError: first"),
        ("f", "def f(pair: return", "could not be imported: SyntaxError"),
    ],
)
def test_an_objective_file_with_a_mistake(theory, tmp_path, name, text, words):
    file = tmp_path / "other.py"
    file.write_text(text, encoding="utf-8")
    assert words in theory("audit", "--objective", f"{file}:{name}").error


def test_an_objective_file_that_is_not_there(theory, tmp_path):
    assert f"there is no file {tmp_path / 'no.py'}" in theory("audit", "--objective", f"{tmp_path / 'no.py'}:f").error
    assert "give it as path/to/file.py:name" in theory("audit", "--objective", "mine.py").error


# --- The numbers. ------------------------------------------------------------------------------------------

KEYS = {
    *("method", "equation", "consistent", "floor", "slope", "asymptotic_constant", "cramer_rao_constant", "efficiency"),
    *("finite_on_separable", "finite_in_population", "intervals", "hyperparameters", "default_hyperparameters"),
    *("verdicts", "tables", "instance", "seed", "seconds", "version"),
}


def cramer_rao() -> float:
    """½ Σ_x tr(S I⁺) of the world of the tests, with I = γ² Σ_{i<j} 2 μ_i μ_j p(1 − p)(e_i − e_j)(e_i − e_j)ᵀ at γ = 1."""
    world, total = random_instance(0, vocab=4, contexts=3), 0.0
    for p, mu in zip(world.target, world.data_policy, strict=True):
        information = np.zeros((4, 4))
        for i in range(4):
            for j in range(i):
                edge = np.eye(4)[i] - np.eye(4)[j]
                win = p[i] / (p[i] + p[j])
                information += 2 * mu[i] * mu[j] * win * (1 - win) * np.outer(edge, edge)
        total += np.trace((np.diag(p) - np.outer(p, p)) @ np.linalg.pinv(information)) / 2
    return total


def squared_floor(width: float) -> float:
    """Forward KL of the policy with the least Σ f_ij (Δ_ij − width)², averaged over the contexts."""
    world, floors = random_instance(0, vocab=4, contexts=3), []
    for p, mu in zip(world.target, world.data_policy, strict=True):
        margins = np.log(p)[:, None] - np.log(p)[None, :]
        table = 2 * np.outer(mu, mu) * expit(margins) * (1 - np.eye(4))
        both = table + table.T
        logits = np.linalg.pinv(np.diag(both.sum(1)) - both) @ (width * (table.sum(1) - table.sum(0)))
        floors.append(p @ (np.log(p) - log_softmax(logits)))
    return float(np.mean(floors))


@pytest.mark.usefixtures("quick")
def test_a_consistent_loss(theory, mine):
    record = theory("audit", "--objective", f"{mine}:right", *WORLD, "--json").json
    assert set(record) >= KEYS
    assert record["method"] == "right"
    assert record["consistent"] is True
    assert record["floor"] == pytest.approx(0, abs=1e-12)
    assert record["slope"] == pytest.approx(-1, abs=0.1)
    assert record["intervals"]["slope"][0] < record["slope"] < record["intervals"]["slope"][1]
    assert record["cramer_rao_constant"] == pytest.approx(cramer_rao(), rel=1e-9)
    assert record["asymptotic_constant"] == pytest.approx(cramer_rao(), rel=1e-6)
    assert record["efficiency"] == pytest.approx(1, abs=1e-6)
    assert record["finite_on_separable"] is False
    assert record["finite_in_population"] is True
    assert record["hyperparameters"] == {}
    verdicts = {v["id"]: v["verdict"] for v in record["verdicts"]}
    assert verdicts["consistency.target"] == "yes"
    assert verdicts["existence.population"] == "yes"


@pytest.mark.usefixtures("quick")
def test_a_biased_loss_with_a_scan(theory, mine):
    record = theory("audit", "--objective", f"{mine}:biased", *WORLD, "--scan", "width=0.5,1,2,4", "--json").json
    assert record["consistent"] is False
    assert record["floor"] == pytest.approx(squared_floor(1.0), rel=1e-6)
    assert record["slope"] == pytest.approx(0, abs=0.01)
    assert record["efficiency"] == 0
    assert record["finite_on_separable"] is True
    assert record["finite_in_population"] is True
    assert record["hyperparameters"] == record["default_hyperparameters"] == {"width": 1.0}
    scan = next(v for v in record["verdicts"] if v["id"] == "consistency.width")["numbers"]
    assert scan["values"] == [0.5, 1, 2, 4]
    assert scan["floors"] == pytest.approx([squared_floor(width) for width in (0.5, 1, 2, 4)], rel=1e-6)


@pytest.mark.usefixtures("quick")
def test_a_degenerate_loss(theory, mine):
    ran = theory("audit", "--objective", f"{mine}:falling", "--vocab", 2, "--contexts", 1, "--json")
    assert ran.code == 0
    record = ran.json
    assert record["consistent"] is False
    assert [record[key] for key in ("floor", "slope", "asymptotic_constant", "efficiency")] == [None] * 4
    assert record["finite_on_separable"] is False
    assert record["finite_in_population"] is False


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["drdo", "--gamma-f", "1"], ["--gamma-f", "1"]),
        (["--gamma-f", "1", "drdo"], ["--gamma-f", "1"]),
        (["--gamma-f=1", "drdo"], ["--gamma-f=1"]),
        (["--gamma-f", "-1", "drdo", "--alpha=2"], ["--gamma-f", "-1", "--alpha=2"]),
        (["--gamma-f", "1", "--alpha", "2", "drdo"], ["--gamma-f", "1", "--alpha", "2"]),
        (["drdo"], []),
        (["drdo", "--gamma-f"], ["--gamma-f"]),
    ],
)
def test_the_method_among_options(words, options):
    assert split_method(None, words) == ("drdo", options)
    # What typer took for the method may be an unknown option's value.
    first = next(k for k, word in enumerate(words) if not word.startswith("-"))
    if first == 0:
        assert split_method("drdo", words[1:]) == ("drdo", options)


def test_no_method_and_two():
    assert split_method(None, ["--gamma-f", "1"]) == (None, ["--gamma-f", "1"])
    with pytest.raises(UserError, match="rkl: is one word too many after drdo"):
        split_method("drdo", ["--gamma-f", "1", "rkl"])


@pytest.mark.usefixtures("quick")
def test_the_method_after_its_options(theory):
    record = theory("audit", "--gamma-f", 1, "drdo", "--vocab", 3, "--contexts", 1, "--json").json
    assert record["method"] == "drdo"
    assert record["hyperparameters"] == {"alpha": 0.1, "gamma_f": 1.0}


@pytest.mark.usefixtures("quick")
def test_a_tuned_value_is_best_or_as_given(theory):
    best = theory("audit", "dpo", *WORLD, "--json").json
    given = theory("audit", "dpo", *WORLD, "--beta", 0.5, "--json").json
    assert given["hyperparameters"] == given["default_hyperparameters"] == {"beta": 0.5}
    assert best["default_hyperparameters"] == {"beta": 0.05}
    assert best["floor"] < given["floor"]
    world = random_instance(0, vocab=4, contexts=3)
    mixed = log_softmax(np.log(world.reference) + 2 * np.log(world.target), axis=1)
    expected = (world.target * (np.log(world.target) - mixed)).sum(1).mean()
    assert given["floor"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.usefixtures("quick")
def test_the_answers_for_people(theory, mine):
    ran = theory("audit", "--objective", f"{mine}:biased", *WORLD)
    assert ran.code == 0
    assert "random (seed 0), V = 4, X = 3, γ = 1" in ran.out
    assert "Is the target the population minimiser?  no" in ran.out
    assert f"{squared_floor(1.0):.4g} nats" in ran.out
    assert "The floor along width" not in ran.out
    assert "--tables prints the tables" in ran.out
    assert "The floor along width" in theory("audit", "--objective", f"{mine}:biased", *WORLD, "--tables").out


class Page(HTMLParser):
    """What a browser would load from elsewhere, and the tags of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            loads = name.rpartition(":")[2] in ("src", "href", "data", "srcset", "action", "poster")
            if loads and not (value or "").startswith(("#", "data:")):
                self.outside.append(f"{tag} {name}={value}")


@pytest.mark.slow
def test_every_section_of_the_audit_of_a_registered_objective(theory):
    """The whole of it, as a user runs it."""
    record = theory("audit", "rkl", *WORLD, "--json").json
    assert set(record) >= KEYS
    assert record["consistent"] is True


def test_every_section_of_a_users_audit_on_a_page(theory, mine, tmp_path, monkeypatch):
    """All sections there are, on companions that take no time."""
    monkeypatch.setattr(subject, "COMPANIONS", ({"vocab": 3, "contexts": 2, "gamma": 0.5},))
    page = tmp_path / "page.html"
    ran = theory("audit", "--objective", f"{mine}:right", "--vocab", 3, "--contexts", 2, "--html", page, "--json")
    text = page.read_text(encoding="utf-8")
    found = Page(text)
    assert found.outside == []
    assert "@import" not in text
    assert "url(http" not in text
    assert found.tags.count("svg") >= 3
    assert "script" not in found.tags
    assert "&lt;script&gt;alert" in text
    for verdict in ran.json["verdicts"]:
        assert verdict["question"].replace("'", "&#39;") in text or verdict["question"] in text
    assert str(tmp_path) not in text


# --- Every objective at once. ------------------------------------------------------------------------------

METHODS = ("ipo", "sft")


@pytest.fixture
def counted(monkeypatch):
    """Two methods whose audits are made up; the list of those that were computed."""
    calls: list[str] = []

    def one(name, instance, fitting, seed):
        calls.append(name)
        ids = [*filter(None, run.MATRIX.values()), "equivalence.minimiser"]
        found = [Finding(id, f"{id} of {name}?", f"{name} says", "so", "a world", "exact", {"as_it_is": ["rlhf"]}) for id in ids]
        verdicts = [asdict(finding) for finding in found]
        known = {"floor": 0.25 if name == "ipo" else None, "efficiency": 0.5 if name == "ipo" else None}
        return {"method": name, "instance": "a world", "seed": seed, "verdicts": verdicts, **known}

    monkeypatch.setattr(audit_all, "_one", one)
    monkeypatch.setattr("theory.objectives.names", lambda: list(METHODS))
    return calls


def everything(theory, *arguments):
    return theory("audit", "--all", "--jobs", 1, *arguments)


def test_all_prints_one_row_a_method(theory, counted, tmp_path):
    ran = everything(theory, "--html", tmp_path / "matrix.html")
    assert ran.code == 0
    assert counted == list(METHODS)
    rows = {line.split()[0]: line for line in ran.out.splitlines() if line.split()[:1] in (["ipo"], ["sft"])}
    assert "0.2500" in rows["ipo"]
    assert "50%" in rows["ipo"]
    assert "none" in rows["sft"]
    text = (tmp_path / "matrix.html").read_text(encoding="utf-8")
    assert Page(text).outside == []
    assert "0.2500" in text
    assert "ipo says" in text


def test_kept_results_are_not_computed_again(theory, counted, tmp_path):
    first = everything(theory, "--out", tmp_path / "new", "--json").json
    assert counted == list(METHODS)
    again = everything(theory, "--out", tmp_path / "new", "--json").json
    assert counted == list(METHODS)
    assert again == first
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["ipo.json", "sft.json"]


DAMAGED = ("", "{", "[]", "null", "\x00", '{"record": {"method": "sft"}}', '{"setting": {}, "record": {}}')


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_result_is_computed_again(theory, counted, tmp_path, damage):
    first = everything(theory, "--out", tmp_path, "--json").json
    (tmp_path / "sft.json").write_text(damage)
    assert everything(theory, "--out", tmp_path, "--json").json == first
    assert counted == ["ipo", "sft", "sft"]
    assert json.loads((tmp_path / "sft.json").read_text())["record"] == first[1]


def test_a_result_in_bytes_that_are_no_text_is_computed_again(theory, counted, tmp_path):
    everything(theory, "--out", tmp_path, "--json")
    (tmp_path / "ipo.json").write_bytes(b"\xff\xfe{")
    everything(theory, "--out", tmp_path, "--json")
    assert counted == ["ipo", "sft", "ipo"]


@pytest.mark.parametrize(
    "changed",
    [
        ("--seed", 1),
        ("--gamma", 2),
        ("--vocab", 5),
        ("--instance-seed", 1),
        ("--ref-noise", 0.1),
        ("--oracle", "true"),
        ("--reward-head", "tied"),
    ],
)
def test_results_of_another_setting_are_not_used(theory, counted, tmp_path, changed):
    everything(theory, "--out", tmp_path, "--json")
    everything(theory, "--out", tmp_path, "--json", *changed)
    assert counted == [*METHODS, *METHODS]
    # They are now those of the changed setting.
    everything(theory, "--out", tmp_path, "--json", *changed)
    assert len(counted) == 4


def test_a_missing_result_alone_is_computed_and_the_order_stays(theory, counted, tmp_path):
    everything(theory, "--out", tmp_path, "--json")
    (tmp_path / "ipo.json").unlink()
    records = everything(theory, "--out", tmp_path, "--json").json
    assert counted == ["ipo", "sft", "ipo"]
    assert [record["method"] for record in records] == ["ipo", "sft"]


def test_an_interrupted_write_is_not_a_result(theory, counted, tmp_path):
    everything(theory, "--out", tmp_path, "--json")
    (tmp_path / "ipo.json").rename(tmp_path / "ipo.json.partial")
    everything(theory, "--out", tmp_path, "--json")
    assert counted == ["ipo", "sft", "ipo"]


def test_without_a_folder_nothing_is_kept(theory, counted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    everything(theory, "--json")
    everything(theory, "--json")
    assert len(counted) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_a_worker_computes_what_a_single_audit_does(theory, monkeypatch, tmp_path):
    monkeypatch.setattr("theory.objectives.names", lambda: ["ipo"])
    small = ("--vocab", 3, "--contexts", 1)
    (together,) = everything(theory, *small, "--out", tmp_path, "--json").json
    alone = theory("audit", "ipo", *small, "--json").json
    for record in (together, alone):
        record.pop("seconds")
    assert together == alone
