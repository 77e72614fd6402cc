"""Run ``llm data`` as a user does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def llm(run, monkeypatch) -> Callable[..., Any]:
    monkeypatch.setenv("COLUMNS", "120")
    return run
