"""Data sets of the Hub."""

from __future__ import annotations

from typing import Any

from theory.errors import UserError

# Where the Hub keeps its own Parquet copy of a data set whose repository is a program, which is never run.
CONVERTED = "refs/convert/parquet"


def load(hub_id: str, config: str | None, split: str | None) -> dict[str, Any]:
    """The splits of a data set, or the one asked for, each a ``datasets.Dataset``.

    Raises:
        UserError: there is no network and no cached copy, no such data set, configuration or split.
    """
    import datasets

    try:
        try:
            found = datasets.load_dataset(hub_id, config, split=split)
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            found = datasets.load_dataset(hub_id, config, split=split, revision=CONVERTED)
    except datasets.exceptions.DatasetNotFoundError as error:
        remedy = "is no file, and no data set of the Hub that can be read (for a gated one: hf auth login)"
        raise UserError("--data", hub_id, remedy) from error
    except (ConnectionError, datasets.exceptions.DatasetGenerationError, RuntimeError, ValueError, OSError) as error:
        raise _refusal(hub_id, split, error) from error
    return {split: found} if split is not None else dict(found)


def _refusal(hub_id: str, split: str | None, error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    if isinstance(error, ConnectionError):
        remedy = "cannot be reached and is not in the cache: connect (and unset HF_HUB_OFFLINE), or give a local file or folder"
        return UserError("--data", hub_id, remedy)
    if reason.startswith("Unknown split"):
        return UserError("--split", split, reason.replace("Unknown split", "is no split of this data set:"))
    return UserError("--data", hub_id, f"cannot be loaded: {reason}")
