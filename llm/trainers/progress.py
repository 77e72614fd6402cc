"""What a run says of its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback


class Progress(TrainerCallback):
    """A line for every log, and a log of the last step, whatever ``logging_steps`` is.

    Args:
        say: told the line.
    """

    def __init__(self, say: Callable[[str], None]):
        self.say = say

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        for name in ("loss", "eval_loss"):
            if logs and name in logs:
                self.say(f"step {state.global_step} of {state.max_steps}: {name.replace('_', ' ')} {float(logs[name]):.4g}")
