"""Which tokens are computed when: from a token tree to batches, within a memory budget.

Knows nothing of torch: `Plan.run` calls back for every pass through the model, so that a test
can execute a plan symbolically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from calib_harness.scoring.levelling import keep_two_levels, level
from calib_harness.scoring.tree import Node, Request, Target, build_tree, count_tokens, merge_small

T = TypeVar("T")


class Costs(NamedTuple):
    """What a pass costs beside its tokens, measured in tokens; depends on the device.

    Attributes
    ----------
    per_pass
        A pass through the model, however few tokens it has.
    min_length, min_saving
        See `merge_small`.
    """

    per_pass: int = 24
    min_length: int = 8
    min_saving: int = 8


class Manner(NamedTuple):
    """How a model goes on from a node to its children.

    Attributes
    ----------
    has_states
        Some layers know, at the end of a row, more than keys and values of single tokens
        (recurrent and convolutional states). Rows that are kept then have one length per pass.
    one_by_one
        From a state, the model is right about one token at a time only.
    state_size
        Memory that the states of a row take, in tokens of a budget.
    same_start
        The model counts positions from the cache's length, so that the rows of a pass must have
        prefixes of one length.
    """

    has_states: bool = False
    one_by_one: bool = False
    state_size: int = 0
    same_start: bool = False


#: Of models that keep keys and values of single tokens, and nothing else.
TOKENS_ONLY = Manner()


class Budget(NamedTuple):
    """How large a pass may be; a single row is always allowed.

    Attributes
    ----------
    tokens
        Tokens run through the model, padding included (activations, logits).
    cached
        Tokens attended to: rows × (longest prefix + longest own part).
    """

    tokens: int
    cached: int


class Span(NamedTuple):
    """`length` consecutive slots of the token store, from `slot` on."""

    slot: int
    length: int


@dataclass(frozen=True, eq=False)
class Pass:
    """One batch: row i reads `nodes[i]`, right-padded to `width`, after `prefixes[i]`.

    Row i's token at position t gets slot ``first_slot + i * width + t`` of the token store.

    Attributes
    ----------
    nodes
        The nodes computed, one per row.
    prefixes
        Where the tokens before each node are stored, in order.
    first_slot
        Where this batch's tokens are stored.
    is_scored
        Per row: False if its targets were scored before, in a batch that is done again because
        its children ran out of memory.
    """

    nodes: Sequence[Node]
    prefixes: Sequence[tuple[Span, ...]]
    first_slot: int
    is_scored: Sequence[bool]

    @property
    def width(self) -> int:
        """Tokens per row, padding included."""
        return max(len(node.tokens) for node in self.nodes)

    @property
    def is_kept(self) -> bool:
        """Whether a later pass reads what this one computes."""
        return any(node.children for node in self.nodes)

    def targets(self) -> Iterator[tuple[int, int, list[Target]]]:
        """Yield (row, position, targets predicted there)."""
        for row, node in enumerate(self.nodes):
            if self.is_scored[row]:
                for position, targets in node.targets.items():
                    yield row, position, targets


class OutOfMemoryError(Exception):
    """A single row does not fit; raised from the backend's own error."""


@dataclass(eq=False)
class Plan:
    """A token tree and the order in which its nodes are computed.

    Build it with `make_plan`.

    Attributes
    ----------
    root
        The tree that is executed.
    n_tokens
        Its tokens: what is computed, without padding.
    bound
        Tokens of the full tree: the fewest that any execution has to compute.
    costs
        What decided between padding and more passes.
    manner
        How the model goes on from what is kept.
    """

    root: Node
    n_tokens: int
    bound: int
    costs: Costs
    manner: Manner

    def run(
        self,
        forward: Callable[[Pass], T],
        *,
        budget: Budget,
        is_out_of_memory: Callable[[Exception], bool] = lambda _: False,
        free_memory: Callable[[Budget, int], None] = lambda *_: None,
    ) -> Iterator[T]:
        """Call `forward` for one pass after another; yield what it returns.

        Parameters
        ----------
        forward
            Computes a pass, stores its keys and values if `Pass.is_kept`, scores its targets.
        budget
            Size of a pass.
        is_out_of_memory
            Tells errors of `forward` after which half the budget is tried.
        free_memory
            Called after such an error with the new budget and the number of slots of the token
            store that are still in use.

        Raises
        ------
        OutOfMemoryError
            If a single row does not fit.
        """
        state = _State(
            forward, budget, self.costs.per_pass, self.manner, is_out_of_memory, free_memory
        )
        yield from state.run_level([(node, ()) for node in self.root.children], 0)


def make_plan(
    requests: Sequence[Request], *, max_length: int, costs: Costs, manner: Manner = TOKENS_ONLY
) -> Plan:
    """Plan the scoring of `requests`.

    Raises
    ------
    ValueError
        If a request cannot be scored; see `tree.read_window`.
    """
    root = build_tree(requests, max_length=max_length)
    bound = count_tokens(root)
    merge_small(root, min_length=costs.min_length, min_saving=costs.min_saving)
    if manner.one_by_one:
        keep_two_levels(root)
    if manner.has_states:
        level(root, per_pass=costs.per_pass)
    return Plan(root, count_tokens(root), bound, costs, manner)


Row = tuple[Node, tuple[Span, ...]]


@dataclass(eq=False)
class _State(Generic[T]):
    """One execution: depth first over batches, so that little has to be stored at a time."""

    forward: Callable[[Pass], T]
    budget: Budget
    per_pass: int
    manner: Manner
    is_out_of_memory: Callable[[Exception], bool]
    free_memory: Callable[[Budget, int], None]
    scored: set[Node] = field(default_factory=set)
    finished: set[Node] = field(default_factory=set)

    def run_level(self, rows: list[Row], first_slot: int) -> Iterator[T]:
        """Compute the rows and all below them, longest first; store from `first_slot` on."""
        pending = sorted(rows, key=self._order)
        batches: list[list[Row]] = []
        planned_for: Budget | None = None
        while pending:
            if self.budget != planned_for:
                pending = [row for row in pending if row[0] not in self.finished]
                batches = cut(
                    pending, budget=self.budget, per_pass=self.per_pass, manner=self.manner
                )
                planned_for = self.budget
            group = batches[: _count_together(batches, self.budget.tokens, self.manner)]
            out_of_memory = False
            try:
                yield from self._run_group(group, first_slot)
            except Exception as error:
                if not isinstance(error, OutOfMemoryError) and not self.is_out_of_memory(error):
                    raise
                if len(group) == len(group[0]) == 1:
                    raise OutOfMemoryError("a single row does not fit into memory") from error
                out_of_memory = True
            if out_of_memory:  # not in the except clause: the error keeps the pass's tensors alive
                self.budget = _smaller(self.budget, group, self.manner)
                self.free_memory(self.budget, first_slot)
            else:
                pending = pending[sum(map(len, group)) :]
                batches = batches[len(group) :]

    def _order(self, row: Row) -> tuple[int, bool, int, int]:
        """Longest first; before that, whatever rows of one pass must have in common."""
        node, _ = row
        start = node.start if self.manner.same_start else 0
        is_leaf = self.manner.has_states and not node.children
        return start, is_leaf, -len(node.tokens), -node.start

    def _run_group(self, group: Sequence[list[Row]], first_slot: int) -> Iterator[T]:
        """Compute some batches, then everything below them together."""
        below: list[Row] = []
        slot = first_slot
        for rows in group:
            batch = Pass(
                nodes=[node for node, _ in rows],
                prefixes=[prefix for _, prefix in rows],
                first_slot=slot,
                is_scored=[node not in self.scored for node, _ in rows],
            )
            result = self.forward(batch)
            self.scored.update(batch.nodes)
            yield result
            width = batch.width
            below += [
                (child, (*prefix, Span(slot + row * width, len(node.tokens))))
                for row, (node, prefix) in enumerate(rows)
                for child in node.children
                if child not in self.finished
            ]
            slot += len(rows) * width if batch.is_kept else 0
        yield from self.run_level(below, slot)
        self.finished.update(node for rows in group for node, _ in rows)


def _held(node: Node, manner: Manner) -> int:
    """Tokens of the budget that a row takes for its states, beside its own."""
    return manner.state_size if node.children or (manner.one_by_one and node.start) else 0


def _size(batch: Sequence[Row], manner: Manner) -> int:
    """Tokens of a batch, padding and states included."""
    width = max(len(node.tokens) for node, _ in batch)
    return sum(width + _held(node, manner) for node, _ in batch)


def _count_together(batches: Sequence[Sequence[Row]], most: int, manner: Manner) -> int:
    """How many batches are computed before what lies below them: what `most` slots hold.

    The more there are, the better their children fit together into batches.
    """
    sizes = np.cumsum([_size(batch, manner) for batch in batches])
    return max(1, int(np.searchsorted(sizes, most, side="right")))


def cut(rows: Sequence[Row], *, budget: Budget, per_pass: int, manner: Manner) -> list[list[Row]]:
    """Cut rows, longest first, into the batches that waste least.

    Minimises padded tokens + `per_pass` × number of batches by dynamic programming, under the
    budget.

    Parameters
    ----------
    rows
        Sorted by the number of the node's own tokens, longest first, among those that may be in
        one pass.
    budget, per_pass
        See `Budget` and `Costs`.
    manner
        Says which rows may be in one pass: with states, those of one length, or leaves.
    """
    n_rows = len(rows)
    widths = np.array([len(node.tokens) for node, _ in rows])
    starts = np.array([node.start for node, _ in rows])
    held = np.cumsum([_held(node, manner) for node, _ in rows])
    alike = np.zeros((2, n_rows), dtype=int)  # what rows of one batch have in common
    if manner.has_states:
        alike[0] = np.where([bool(node.children) for node, _ in rows], widths, 0)
    if manner.same_start:
        alike[1] = starts
    best = np.zeros(n_rows + 1)  # cost of the rows from here on
    taken = np.ones(n_rows, dtype=int)  # rows of the first batch of the best cut from here on
    for i in range(n_rows - 1, -1, -1):
        most = max(1, min(n_rows - i, budget.tokens // int(widths[i])))
        part = slice(i, i + most)
        count = np.arange(1, most + 1)
        cost = count * widths[i] + best[i + 1 : i + 1 + most]
        longest_prefix = np.maximum.accumulate(starts[part])
        too_much = count * (longest_prefix + widths[i]) > budget.cached
        too_much |= count * widths[i] + held[part] - held[i] + _held(rows[i][0], manner) > (
            budget.tokens
        )
        too_much |= (alike[:, part] != alike[:, i : i + 1]).any(axis=0)
        cost[1:][too_much[1:]] = np.inf
        choice = int(cost.argmin())
        passes = int(widths[i]) if manner.one_by_one and starts[i] else 1
        best[i], taken[i] = cost[choice] + per_pass * passes, choice + 1
    batches, i = [], 0
    while i < n_rows:
        batches.append(list(rows[i : i + taken[i]]))
        i += int(taken[i])
    return batches


def _smaller(budget: Budget, group: Sequence[Sequence[Row]], manner: Manner) -> Budget:
    """Half of what the group's largest batch took, or of the budget if that is less."""
    tokens = max(_size(batch, manner) for batch in group)
    cached = max(
        len(batch) * (max(len(n.tokens) for n, _ in batch) + max(n.start for n, _ in batch))
        for batch in group
    )
    return Budget(max(1, min(budget.tokens, tokens) // 2), max(1, min(budget.cached, cached) // 2))
