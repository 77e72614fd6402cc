"""The reference of objectives is what the registry and the audits say."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from theory import objectives

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "objectives.md").read_text(encoding="utf-8")
ENTRIES = dict(re.findall(r"^## ([a-z-]+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_the_page_is_what_the_program_writes():
    assert runpy.run_path(str(DOCS / "objectives.py"))["page"]() == PAGE


def test_every_objective_has_an_entry():
    assert sorted(ENTRIES) == objectives.names()


@pytest.mark.parametrize("name", objectives.names())
def test_an_entry_has_the_function_and_its_signature(name):
    objective, entry = objectives.get(name), ENTRIES[name]
    assert objective.sections["equation"] in entry.replace("\\|", "|")
    assert all(f"| `{p.option}` | {p.default:g} |" in entry for p in objective.hyperparameters)
    (definition,) = re.findall(r"\]\(\.\./(theory/objectives/\w+\.py)\)", entry)
    assert f"def {name.replace('-', '_')}(" in (DOCS.parent / definition).read_text(encoding="utf-8")


def test_verdicts_are_those_of_the_audit():
    for record in json.loads((DOCS / "audit.json").read_text(encoding="utf-8")):
        consistent = next(v for v in record["verdicts"] if v["id"] == "consistency.target")
        assert f"- **consistent: {consistent['verdict']}** — {consistent['answer']}" in ENTRIES[record["method"]]
