"""The registry of claims: what it refuses, and how claims are selected."""

import pytest

from paper_checks import claims as registry
from paper_checks.claims import PAPERS, Claim, Finding, Verdict, claim, claims, select
from theory.errors import UserError

TEXTS = {name: name for name in ("statement", "says", "assumes", "predicts", "tested")}


@pytest.fixture
def empty(monkeypatch):
    """No claims but those that a test registers."""
    claims()  # the papers' own modules are imported once and register themselves
    monkeypatch.setattr(registry, "_CLAIMS", {})


def holds() -> Finding:
    return Finding(Verdict.HOLDS, {"gap": 0.0})


def add(id: str, check=holds, **known) -> None:
    claim(id, expects="holds", **TEXTS, **known)(check)


# --- What a finding must hold. ------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["fails", "holds-if"])
@pytest.mark.parametrize("counterexample", [None, {}])
def test_a_broken_claim_needs_a_counterexample(verdict, counterexample):
    with pytest.raises(ValueError, match=f"{verdict} needs a counterexample"):
        Finding(Verdict(verdict), {"gap": 1.0}, "a reason", counterexample)


@pytest.mark.parametrize(("verdict", "counterexample"), [("holds-if", {"gap": 1.0}), ("not-checkable", None)])
def test_a_condition_or_a_reason_must_be_named(verdict, counterexample):
    with pytest.raises(ValueError, match=f"{verdict} needs an assumption or a reason"):
        Finding(Verdict(verdict), {}, "", counterexample)


def test_complete_findings():
    assert Finding(Verdict.HOLDS, {}).counterexample is None
    assert Finding(Verdict.FAILS, {}, counterexample={"gap": 1.0}).assumption == ""
    assert Finding(Verdict.HOLDS_IF, {}, "finite rewards", {"gap": 1.0}).verdict == "holds-if"
    assert Finding(Verdict.NOT_CHECKABLE, {}, "the data are not public").verdict == "not-checkable"


def test_the_verdicts_are_the_four_words():
    assert [str(verdict) for verdict in Verdict] == ["holds", "holds-if", "fails", "not-checkable"]
    with pytest.raises(ValueError, match="maybe"):
        Verdict("maybe")


# --- Registering. -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("empty")
def test_a_claim_is_registered_and_its_check_stays_a_function():
    decorated = claim("drdo-made-up", expects="fails", slow=True, **TEXTS)(holds)
    assert decorated is holds
    made = claims()["drdo-made-up"]
    assert isinstance(made, Claim)
    assert (made.paper, made.expects, made.slow) == ("drdo", Verdict.FAILS, True)
    assert made.reproduce == "paper-checks run --only drdo-made-up"
    assert made.check().evidence == {"gap": 0.0}


@pytest.mark.usefixtures("empty")
def test_another_command_may_show_the_counterexample():
    add("drdo-made-up", see="theory degeneracy --labels 1")
    assert claims()["drdo-made-up"].reproduce == "theory degeneracy --labels 1"


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("id", ["lemma-1", "made-up", "Drdo-lemma", "drdo_lemma", ""])
def test_an_id_that_names_no_paper(id):
    with pytest.raises(ValueError, match="the id must start with one of unified, drdo, distillation"):
        add(id)
    assert claims() == {}


@pytest.mark.usefixtures("empty")
def test_an_id_that_another_module_has():
    def elsewhere() -> Finding:
        return holds()

    elsewhere.__module__ = "paper_checks.elsewhere"
    add("drdo-made-up")
    with pytest.raises(ValueError, match="drdo-made-up is registered twice"):
        add("drdo-made-up", elsewhere)
    assert claims()["drdo-made-up"].check is holds


@pytest.mark.usefixtures("empty")
def test_an_expectation_that_is_no_verdict():
    with pytest.raises(ValueError, match="perhaps"):
        claim("drdo-made-up", expects="perhaps", **TEXTS)(holds)


@pytest.mark.usefixtures("empty")
def test_a_claim_without_its_texts():
    with pytest.raises(TypeError, match="predicts"):
        claim("drdo-made-up", expects="holds", **{k: v for k, v in TEXTS.items() if k != "predicts"})(holds)


# --- Selecting. ---------------------------------------------------------------------------------------------


@pytest.fixture
def five(empty):
    """Two papers' claims, registered out of order, and a slow one."""
    for id in ("distillation-b", "drdo-z", "unified-lemma-8", "drdo-a"):
        add(id)
    add("unified-lemma-9", slow=True)


def ids(selected) -> list[str]:
    return [c.id for c in selected]


@pytest.mark.usefixtures("five")
def test_claims_come_paper_by_paper_in_the_order_they_were_written():
    assert list(claims()) == ["unified-lemma-8", "unified-lemma-9", "drdo-z", "drdo-a", "distillation-b"]
    assert ids(select()) == list(claims())


@pytest.mark.usefixtures("five")
def test_selections():
    assert ids(select("drdo")) == ["drdo-z", "drdo-a"]
    assert ids(select(fast=True)) == ["unified-lemma-8", "drdo-z", "drdo-a", "distillation-b"]
    assert ids(select("unified", fast=True)) == ["unified-lemma-8"]
    assert ids(select(only="drdo-a")) == ["drdo-a"]
    assert ids(select(only="drdo-a, unified-lemma-9")) == ["drdo-a", "unified-lemma-9"]
    assert ids(select(only="unified-lemma-9", fast=True)) == ["unified-lemma-9"]  # asked for by name


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"paper": "unifed"}, "--paper unifed: did you mean unified?"),
        ({"paper": "zzz"}, "--paper zzz: known: distillation, drdo, unified"),
        ({"only": "unified-lema-8"}, "--only unified-lema-8: is not a known check; did you mean unified-lemma-8?"),
        ({"only": "drdo-a,nothing"}, "--only nothing: is not a known check; "),
        ({"only": ""}, "--only : is not a known check; "),
    ],
)
def test_what_is_not_there(arguments, said):
    with pytest.raises(UserError) as caught:
        select(**arguments)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


# --- The claims themselves. ---------------------------------------------------------------------------------


@pytest.mark.parametrize("made", claims().values(), ids=lambda c: c.id)
def test_every_claim_is_fully_stated(made):
    assert made.paper in PAPERS
    for name in TEXTS:
        text = getattr(made, name)
        assert text == text.strip()
        assert text, name
    assert made.id == made.id.lower()
    assert made.check.__module__.startswith(f"paper_checks.{made.paper}.")
    assert made.see == "" or made.see.split()[0] in ("theory", "paper-checks")


def test_every_paper_has_claims():
    assert {made.paper for made in claims().values()} == set(PAPERS)
