"""`paper-checks` as a user runs it, on claims made up here and on one of the papers'."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from paper_checks import claims as registry
from paper_checks import records
from paper_checks.claims import Finding, Verdict, claim, claims
from paper_checks.cli import app
from theory.cli.program import run


class Ran:
    def __init__(self, code: int, out: str, err: str):
        self.code, self.out, self.err = code, out, err

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line of a refusal."""
        assert (self.code, self.out) == (2, "")
        (line,) = self.err.splitlines()
        assert line.startswith("error: ")
        return line.removeprefix("error: ")


@pytest.fixture
def paper_checks(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")

    def call(*arguments: object) -> Ran:
        code = run(app, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return call


FINDINGS = {
    "unified-good": Finding(Verdict.HOLDS, {"gap": 1e-12, "sizes": [10, 100]}),
    "unified-slow": Finding(Verdict.HOLDS, {"gap": 0.25}),
    "drdo-bad": Finding(Verdict.FAILS, {"gap": float("inf")}, counterexample={"margin": {"β = 1": 2.5}}),
    "drdo-half": Finding(Verdict.HOLDS_IF, {"gap": 0.5}, "finite <rewards> & more", {"margin": 3.5}),
    "distillation-lost": Finding(Verdict.NOT_CHECKABLE, {}, "the formula is lost"),
}


@pytest.fixture(autouse=True)
def made_up(monkeypatch, tmp_path):
    """Five claims, each with the record that it finds."""
    claims()
    monkeypatch.setattr(registry, "_CLAIMS", {})
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    (tmp_path / "records").mkdir()
    for id, finding in FINDINGS.items():
        claim(
            id,
            statement=f"Lemma {len(id)}",
            says=f"<b>{id}</b> & so on",
            assumes="nothing",
            predicts="the same",
            tested="by hand",
            expects="holds",
            slow=id.endswith("slow"),
        )(lambda finding=finding: finding)
        records.save(claims()[id], finding)
    return tmp_path


def one_job(paper_checks, *arguments):
    return paper_checks("run", "--jobs", 1, *arguments)


# --- list. -------------------------------------------------------------------------------------------------


def test_list(paper_checks):
    ran = paper_checks("list")
    assert ran.code == 0
    for id, finding in FINDINGS.items():
        line = next(line for line in ran.out.splitlines() if line.split()[:1] == [id])
        assert str(finding.verdict) in line
    assert "<b>drdo-bad</b>" in ran.out  # not markup


def test_list_for_programs(paper_checks):
    listed = {c["id"]: c for c in paper_checks("list", "--json").json}
    assert list(listed) == list(FINDINGS)
    assert listed["drdo-bad"] == {
        "id": "drdo-bad",
        "paper": "drdo",
        "statement": "Lemma 8",
        "claim": "<b>drdo-bad</b> & so on",
        "assumes": "nothing",
        "predicts": "the same",
        "tested": "by hand",
        "slow": False,
        "recorded": "fails",
        "reproduce": "paper-checks run --only drdo-bad",
    }
    assert listed["unified-slow"]["slow"] is True
    assert [c["id"] for c in paper_checks("list", "--paper", "drdo", "--json").json] == ["drdo-bad", "drdo-half"]


def test_list_computes_nothing(paper_checks, monkeypatch):
    def fails() -> Finding:
        raise AssertionError("computed")

    claim("drdo-new", statement="s", says="c", assumes="a", predicts="p", tested="t", expects="holds")(fails)
    ran = paper_checks("list", "--json")
    assert ran.code == 0
    assert next(c for c in ran.json if c["id"] == "drdo-new")["recorded"] is None


# --- run. --------------------------------------------------------------------------------------------------


def test_run_all(paper_checks):
    ran = one_job(paper_checks)
    assert ran.code == 0
    assert "5 claims: 1 fails, 2 holds, 1 holds-if, 1 not-checkable" in ran.out
    assert "the record says" not in ran.out
    assert "numbers changed" not in ran.out


def test_run_some(paper_checks):
    def ids(*arguments) -> list[str]:
        return [r["id"] for r in one_job(paper_checks, *arguments, "--json").json]

    assert ids("--fast") == [id for id in FINDINGS if id != "unified-slow"]
    assert ids("--paper", "drdo") == ["drdo-bad", "drdo-half"]
    assert ids("--only", "drdo-half,unified-good") == ["drdo-half", "unified-good"]


def test_one_claim_with_its_numbers(paper_checks):
    ran = one_job(paper_checks, "--only", "drdo-half")
    assert ran.code == 0
    text = " ".join(ran.out.split())
    assert "drdo-half (Lemma 9)" in text
    for row in ("claim <b>drdo-half</b> & so on", "verdict holds-if", "assumption finite <rewards> & more", "evidence: gap 0.5"):
        assert row in text
    assert "counterexample: margin 3.5" in text
    assert "reproduce paper-checks run --only drdo-half" in text


def test_json(paper_checks):
    (record,) = one_job(paper_checks, "--only", "drdo-bad", "--json").json
    assert {"id", "paper", "statement", "claim", "verdict", "recorded", "evidence", "reproduce"} <= set(record)
    assert (record["id"], record["paper"], record["verdict"], record["recorded"]) == ("drdo-bad", "drdo", "fails", "fails")
    assert record["evidence"] == {"gap": "inf"}
    assert record["counterexample"] == {"margin": {"β = 1": 2.5}}
    assert record["changed"] == []


def test_a_verdict_that_differs_from_the_record_is_exit_code_1(paper_checks, monkeypatch):
    other = {"verdict": "holds", "assumption": "", "evidence": {"gap": "inf"}, "counterexample": None}
    monkeypatch.setattr(records, "load", lambda c: other if c.id == "drdo-bad" else records.as_record(FINDINGS[c.id]))
    ran = one_job(paper_checks)
    assert ran.code == 1
    assert "drdo-bad: the record says holds, we find fails" in ran.out
    assert "fails (record: holds)" in " ".join(ran.out.split())
    assert one_job(paper_checks, "--only", "drdo-bad", "--json").code == 1
    assert one_job(paper_checks, "--only", "drdo-half").code == 0


def test_a_missing_record_is_exit_code_1(paper_checks, made_up):
    (made_up / "records" / "unified-good.json").unlink()
    ran = one_job(paper_checks)
    assert ran.code == 1
    assert "unified-good: the record says –, we find holds" in ran.out


def test_changed_numbers_are_said_and_no_failure(paper_checks, made_up):
    file = made_up / "records" / "unified-good.json"
    file.write_text(file.read_text().replace("100", "1000"))
    ran = one_job(paper_checks)
    assert ran.code == 0
    assert "unified-good: 1 numbers changed: evidence.sizes[1]: 1000 → 100" in ran.out
    assert "changed evidence.sizes[1]: 1000 → 100" in " ".join(one_job(paper_checks, "--only", "unified-good").out.split())


def test_record_writes_what_was_run_and_nothing_else(paper_checks, made_up):
    folder = made_up / "records"
    for file in folder.iterdir():
        file.write_text('{"verdict": "old"}')
    before = sorted(made_up.rglob("*"))
    assert one_job(paper_checks, "--only", "drdo-bad,unified-good", "--record").code == 0
    assert sorted(made_up.rglob("*")) == before
    written = {file.stem for file in folder.iterdir() if json.loads(file.read_text())["verdict"] != "old"}
    assert written == {"drdo-bad", "unified-good"}
    assert json.loads((folder / "drdo-bad.json").read_text())["evidence"] == {"gap": "inf"}
    assert one_job(paper_checks, "--only", "drdo-bad,unified-good").code == 0


class Page(HTMLParser):
    """What a browser would load from elsewhere, and the text and tags of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            loads = name.rpartition(":")[2] in ("src", "href", "data", "srcset", "action")
            if loads and not (value or "").startswith(("#", "data:")):
                self.outside.append(f"{tag} {name}={value}")

    def handle_data(self, data):
        self.text += data


def test_html(paper_checks, made_up):
    page = made_up / "page.html"
    assert one_job(paper_checks, "--html", page).code == 0
    source = page.read_text(encoding="utf-8")
    found = Page(source)
    assert found.outside == []
    assert "url(http" not in source
    assert "@import" not in source
    assert not {"script", "link", "b"} & set(found.tags)  # made-up tags are escaped
    for id in FINDINGS:
        assert f"<b>{id}</b> & so on" in found.text
    assert "if finite <rewards> & more" in found.text
    assert '"gap": "inf"' in found.text
    assert "1 fails" in found.text
    assert "2 holds" in found.text
    assert "record:" not in found.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--paper", "unifed"), "--paper unifed: did you mean unified?"),
        (("list", "--paper", "drod"), "--paper drod: did you mean drdo?"),
        (("run", "--only", "drdo-bda"), "--only drdo-bda: is not a known check; did you mean drdo-bad?"),
        (("run", "--only", "unified-good,nothing"), "--only nothing: is not a known check; "),
        (("run", "--jobs", "-1"), "--jobs"),
        (("run", "--jobs", "many"), "--jobs"),
        (("run", "unified-good"), "unified-good"),
        (("run", "--onyl", "unified-good"), "--onyl"),
        (("lst",), "list"),
    ],
)
def test_refusals_in_one_line(paper_checks, arguments, words):
    assert words in paper_checks(*arguments).error


def test_a_page_that_cannot_be_written_is_refused_before_any_check(paper_checks, made_up, monkeypatch):
    monkeypatch.setattr(registry, "_CLAIMS", {})
    nowhere = made_up / "no" / "page.html"
    assert paper_checks("run", "--html", nowhere).error == f"--html {nowhere}: its folder does not exist"
    assert paper_checks("run", "--html", made_up).error == f"--html {made_up}: is a directory; give a file name"


def test_help_and_version(paper_checks):
    from theory import __version__

    assert paper_checks("--version").out.strip() == __version__
    for command in ("list", "run"):
        assert command in paper_checks("--help").out
    assert paper_checks().code == 2


def test_a_claim_of_the_papers(paper_checks, monkeypatch):
    monkeypatch.undo()
    (record,) = one_job(paper_checks, "--only", "drdo-prop-1", "--json").json
    assert record["verdict"] == record["recorded"] == "holds"
    assert record["evidence"]["solutions"] == ["0"]
