"""A user's own comparisons: read from a file, checked, and reduced to sufficient statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from theory.errors import UserError
from theory.instances.tabular import Array
from theory.sampling.columns import Columns, read_columns, short
from theory.sampling.counts import LARGEST_DENSE_CELLS, LARGEST_N, WinCounts, is_dense
from theory.sampling.edges import Edges

COLUMNS = ("context", "chosen", "rejected")
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """The contexts in which the same number K of responses was compared.

    Attributes:
        contexts: their positions in `Comparisons.contexts`, shape (X_k,).
        nodes: the numbers of their responses, shape (X_k, K).
        data: win counts of shape (1, X_k, K, K), or edges where that table is too large to hold.
    """

    contexts: Index
    nodes: Index
    data: WinCounts | Edges


@dataclass(frozen=True)
class Comparisons:
    """Distinct labelled comparisons and how often each was seen.

    A *node* is a response in a context; the nodes of context x are offsets[x] … offsets[x+1] − 1.
    Contexts are in the order in which the file first names them; so are the responses of a context,
    those that won before those that never did.

    Attributes:
        contexts: names of the X contexts (an Arrow string array).
        vocabulary: names of the R distinct responses (an Arrow string array).
        keys: context · R + response of each of the N nodes, ascending, shape (N,).
        offsets: first node of each context, and N, shape (X + 1,).
        chosen, rejected: nodes of the distinct comparisons, shape (E,).
        count: how often each was seen, shape (E,).
    """

    contexts: Any
    vocabulary: Any
    keys: Index
    offsets: Index
    chosen: Index
    rejected: Index
    count: Array

    @property
    def n(self) -> float:
        """Comparisons in all."""
        return float(self.count.sum())

    @cached_property
    def sizes(self) -> Index:
        """K, the number of responses seen in each context, shape (X,)."""
        return np.diff(self.offsets)

    @cached_property
    def context_of(self) -> Index:
        """Each node's context, shape (N,)."""
        return self.keys // len(self.vocabulary)

    @cached_property
    def totals(self) -> Array:
        """Comparisons in each context, shape (X,)."""
        return np.bincount(self.context_of[self.chosen], self.count, minlength=len(self.sizes)).astype(np.float64)

    @property
    def responses(self) -> Any:
        """Name of each node's response (an Arrow string array of length N)."""
        index = pa.py_buffer(self.keys % len(self.vocabulary))
        return self.vocabulary.take(pa.Array.from_buffers(pa.int64(), len(self.keys), [None, index]))

    def name(self, node: int) -> tuple[str, str]:
        """The context and the response of a node."""
        context, response = divmod(int(self.keys[node]), len(self.vocabulary))
        return self.contexts[context].as_py(), self.vocabulary[response].as_py()

    def groups(self) -> list[Group]:
        """The contexts divided by their number of responses, fewest first.

        Tables of pairs are used as long as all of them together can be held; edges beyond.
        """
        context = self.context_of[self.chosen]
        size = self.sizes[context]
        order = np.argsort(size, kind="stable")
        vocabs = np.unique(self.sizes)
        bounds = np.searchsorted(size[order], vocabs, side="right")
        position = np.zeros(len(self.sizes), dtype=np.int64)
        groups, cells = [], 0
        for vocab, edges in zip(vocabs.tolist(), np.split(order, bounds[:-1]), strict=True):
            ids = np.flatnonzero(self.sizes == vocab)
            position[ids] = np.arange(len(ids))
            base = self.offsets[context[edges]]
            pairs = Edges(
                position[context[edges]],
                self.chosen[edges] - base,
                self.rejected[edges] - base,
                self.count[edges],
                self.totals[ids],
                vocab,
                float(self.count[edges].sum()),
            )
            cells += len(ids) * vocab**2
            dense = is_dense(vocab, len(ids)) and cells <= LARGEST_DENSE_CELLS
            nodes = self.offsets[ids][:, None] + np.arange(vocab)
            groups.append(Group(ids, nodes, _table(pairs) if dense else pairs))
        return groups


def _table(pairs: Edges) -> WinCounts:
    wins = np.zeros((1, pairs.contexts, pairs.vocab, pairs.vocab))
    wins[0, pairs.context, pairs.chosen, pairs.rejected] = pairs.count
    return WinCounts(wins, pairs.totals[None], pairs.n)


def read_comparisons(path: str | Path, argument: str = "--data") -> Comparisons:
    """Read comparisons from CSV, JSON lines or Parquet (columns ``context, chosen, rejected`` and optional ``count``).

    Contexts and responses are text or integers and are compared as text: 3 and "3" are the same.

    Raises:
        UserError: the file cannot be read, lacks a column, is empty, or has a row with a missing
            value, a response compared with itself, or a count that is no whole number from 1.
    """
    return aggregate(read_columns(path, argument, COLUMNS, ("count",)))


def aggregate(columns: Columns) -> Comparisons:
    """Comparisons from columns ``context, chosen, rejected`` and optional ``count``; raises `UserError`."""
    context = columns.text("context").dictionary_encode()
    sides = [columns.text(name) for name in COLUMNS[1:]]
    response = pa.concat_arrays(sides).dictionary_encode()
    where, size = _numpy(context.indices), len(response.dictionary)
    chosen, rejected = np.split(_numpy(response.indices), 2)
    same = np.flatnonzero(chosen == rejected)
    if len(same):
        row = int(same[0])
        raise columns.error(
            row, "chosen and rejected", sides[0][row].as_py(), "a response cannot be compared with itself; leave it out"
        )
    keys, nodes = np.unique(np.concatenate([where * size + chosen, where * size + rejected]), return_inverse=True)
    pairs, seen = np.unique(nodes[: len(where)] * len(keys) + nodes[len(where) :], return_inverse=True)
    winners, losers = np.divmod(pairs, len(keys))
    offsets = np.searchsorted(keys // size, np.arange(len(context.dictionary) + 1))
    count = np.bincount(seen, _counts(columns), minlength=len(pairs)).astype(np.float64)
    return Comparisons(context.dictionary, response.dictionary, keys, offsets, winners, losers, count)


def _numpy(array: Any) -> Index:
    """An Arrow array of integers as a NumPy one; Arrow's own conversion would import pandas."""
    return np.from_dlpack(array).astype(np.int64)


def _counts(columns: Columns) -> Array | None:
    """The column ``count``, or None without one."""
    if "count" not in columns.data:
        return None
    count = columns.numbers("count")
    remedy = "must be a whole number, 1 or more"
    columns.check("count", (count >= 1) & (count == np.floor(count)) & np.isfinite(count), remedy)
    if count.sum() > LARGEST_N:
        raise UserError(columns.argument, columns.path, f"has {count.sum():g} comparisons: {LARGEST_N:g} is the most")
    return count


@dataclass(frozen=True)
class Reference:
    """A reference policy on the responses that were compared.

    Attributes:
        logp: log π_ref of every node of `Comparisons`, normalised in each context, shape (N,), nats.
        source: where it came from, for people.
        covered: the least and the mean share of a context's stated probability that its compared
            responses hold; None for a uniform reference.
    """

    logp: Array
    source: str
    covered: tuple[float, float] | None = None


def uniform_reference(data: Comparisons) -> Reference:
    """π_ref(y|x) = 1/K on the K responses compared in x."""
    return Reference(-np.log(data.sizes[data.context_of]), "uniform over the responses compared in each context")


def read_reference(path: str | Path, data: Comparisons, argument: str = "--reference") -> Reference:
    """Read log π_ref from a file with columns ``context, response`` and ``probability`` or ``logprob`` (nats).

    Responses that were never compared are left out and the rest renormalised in each context.

    Raises:
        UserError: the file is bad, names a response twice, or leaves a compared one without
            positive probability.
    """
    columns = read_columns(path, argument, ("context", "response"), ("probability", "logprob"))
    logp = _log_probabilities(columns)
    size = len(data.vocabulary)
    codes = [
        _numpy(pc.fill_null(pc.index_in(columns.text(name), value_set=names), -1))
        for name, names in (("context", data.contexts), ("response", data.vocabulary))
    ]
    key = np.where((codes[0] >= 0) & (codes[1] >= 0), codes[0] * size + codes[1], -1)
    node = np.searchsorted(data.keys, key).clip(max=len(data.keys) - 1)
    known = data.keys[node] == key
    found = np.full(len(data.keys), -np.inf)
    first = np.unique(node[known], return_index=True)[1]
    if len(first) < known.sum():
        row = int(np.delete(np.flatnonzero(known), first)[0])
        raise columns.error(row, "response", columns.text("response")[row].as_py(), "is named twice in its context")
    found[node[known]] = logp[known]
    if len(lost := np.flatnonzero(np.isneginf(found))):
        context, response = data.name(int(lost[0]))
        remedy = "zero probability on a response that appears in the data; give it a positive one"
        raise UserError(argument, path, f"context {short(context)}, response {short(response)}: {remedy}")
    total = np.logaddexp.reduceat(found, data.offsets[:-1])
    stated = np.full(len(data.contexts), -np.inf)
    np.logaddexp.at(stated, codes[0][codes[0] >= 0], logp[codes[0] >= 0])
    covered = np.exp(total - stated)
    return Reference(found - total[data.context_of], str(path), (float(covered.min()), float(covered.mean())))


def _log_probabilities(columns: Columns) -> Array:
    given = [name for name in ("probability", "logprob") if name in columns.data]
    if len(given) != 1:
        raise UserError(columns.argument, columns.path, "needs a column probability or a column logprob, one of the two")
    numbers = columns.numbers(given[0])
    if given[0] == "logprob":
        columns.check("logprob", numbers <= 1e-9, "must be zero or negative (natural logarithm)")
        return numbers
    columns.check("probability", (numbers >= 0) & (numbers <= 1 + 1e-9), "must lie in [0, 1]")
    with np.errstate(divide="ignore"):
        return np.log(numbers)
