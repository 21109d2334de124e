"""The planner: every token is scored once, from its own prefix, whatever the requests share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib_harness.scoring.levelling import few_lengths
from calib_harness.scoring.passes import (
    TOKENS_ONLY,
    Budget,
    Costs,
    Manner,
    OutOfMemoryError,
    Pass,
    Plan,
    make_plan,
)
from calib_harness.scoring.tree import Node, Request

MAX_LENGTH = 12
tokens = st.lists(st.integers(0, 2), min_size=1, max_size=9)
requests_strategy = st.lists(st.builds(Request, tokens, tokens), min_size=1, max_size=25)
budgets = st.builds(Budget, st.integers(1, 60), st.integers(1, 120))
manners = st.builds(
    Manner,
    has_states=st.just(True),
    one_by_one=st.booleans(),
    state_size=st.integers(0, 5),
    same_start=st.booleans(),
) | st.builds(Manner, same_start=st.booleans())
costs_strategy = st.builds(Costs, st.integers(0, 30), st.integers(0, 6), st.integers(0, 6))


class SymbolicModel:
    """Executes passes on token lists: its cache holds tokens, its output is what it has read."""

    def __init__(
        self, budget: Budget, memory: int | None = None, manner: Manner = TOKENS_ONLY
    ) -> None:
        self.budget, self.memory, self.manner = budget, memory, manner
        self.slots: dict[int, int] = {}
        self.sizes: list[int] = []
        self.failures = 0

    def forward(self, batch: Pass) -> list[tuple[int, int, int, tuple[int, ...]]]:
        self.check_manner(batch)
        size = len(batch.nodes) * batch.width
        if self.memory is not None and size > self.memory:
            self.failures += 1
            raise MemoryError
        total = batch.width + max(node.start for node in batch.nodes)
        assert len(batch.nodes) == 1 or (
            size <= self.budget.tokens and len(batch.nodes) * total <= self.budget.cached
        )
        self.sizes.append(size)
        prefixes = [
            tuple(self.slots[span.slot + i] for span in spans for i in range(span.length))
            for spans in batch.prefixes
        ]
        for row, node in enumerate(batch.nodes):
            # Padding spoils what lay there, as it does in a real store.
            padded = [*node.tokens, *[-1] * (batch.width - len(node.tokens))]
            for position, token in enumerate(padded):
                self.slots[batch.first_slot + row * batch.width + position] = token
        return [
            (*target, prefixes[row] + tuple(batch.nodes[row].tokens[: position + 1]))
            for row, position, targets in batch.targets()
            for target in targets
        ]

    def check_manner(self, batch: Pass) -> None:
        """A model with states, or one that counts positions itself, is given what it can run."""
        lengths = {len(node.tokens) for node in batch.nodes}
        starts = {node.start for node in batch.nodes}
        assert not (self.manner.has_states and batch.is_kept) or len(lengths) == 1
        assert not self.manner.same_start or len(starts) == 1
        assert not self.manner.one_by_one or not (max(starts) and batch.is_kept)
        states = sum(bool(node.children) for node in batch.nodes) * self.manner.state_size
        used = len(batch.nodes) * batch.width + states
        assert len(batch.nodes) == 1 or used <= self.budget.tokens


def execute(plan: Plan, model: SymbolicModel) -> Iterator[tuple[int, int, int, tuple[int, ...]]]:
    for scored in plan.run(
        model.forward,
        budget=model.budget,
        is_out_of_memory=lambda error: isinstance(error, MemoryError),
        free_memory=lambda budget, _: setattr(model, "budget", budget),
    ):
        yield from scored


def expected(requests: list[Request]) -> Counter[tuple[int, int, int, tuple[int, ...]]]:
    """Each token of each continuation, with what the model must have read before it."""
    found: Counter[tuple[int, int, int, tuple[int, ...]]] = Counter()
    for number, (context, continuation) in enumerate(requests):
        whole = [*context, *continuation]
        first_read = max(0, len(whole) - 1 - MAX_LENGTH)
        for index, token in enumerate(continuation):
            found[number, index, token, tuple(whole[first_read : len(context) + index])] += 1
    return found


@given(requests_strategy, budgets, costs_strategy)
@settings(max_examples=300, deadline=None)
def test_every_token_is_scored_once_from_exactly_its_own_prefix(requests, budget, costs):
    plan = make_plan(requests, max_length=MAX_LENGTH, costs=costs)
    assert Counter(execute(plan, SymbolicModel(budget))) == expected(requests)


@given(requests_strategy, budgets, costs_strategy, manners)
@settings(max_examples=150, deadline=None)
def test_so_it_is_whatever_rows_of_one_pass_must_have_in_common(requests, budget, costs, manner):
    plan = make_plan(requests, max_length=MAX_LENGTH, costs=costs, manner=manner)
    assert Counter(execute(plan, SymbolicModel(budget, manner=manner))) == expected(requests)
    assert plan.n_tokens >= plan.bound


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=6))
@settings(max_examples=100, deadline=None)
def test_inner_nodes_are_cut_to_the_lengths_that_cost_least(sizes):
    nodes = [
        Node((1,) * length, 0, children=[Node((2,), length) for _ in range(n)])
        for length, n in sizes
    ]

    def cost(lengths):
        cut_off = sum((own - kept) * n for (own, n), kept in zip(sizes, lengths, strict=True))
        return cut_off + 5 * len(set(lengths))

    distinct = sorted({length for length, _ in sizes})
    choices = [
        [max(kept for kept in chosen if kept <= own) for own, _ in sizes]
        for n in range(len(distinct))
        for chosen in combinations(distinct, n + 1)
        if distinct[0] in chosen
    ]
    assert cost(few_lengths(nodes, per_pass=5)) == min(map(cost, choices))


@given(requests_strategy, st.integers(9, 30))
@settings(max_examples=150, deadline=None)
def test_nothing_is_lost_or_scored_twice_when_memory_runs_out(requests, memory):
    plan = make_plan(requests, max_length=MAX_LENGTH, costs=Costs(24, 2, 2))
    model = SymbolicModel(Budget(10_000, 10_000), memory=max(memory, MAX_LENGTH))
    assert Counter(execute(plan, model)) == expected(requests)
    assert max(model.sizes) <= model.memory


@given(requests_strategy)
@settings(max_examples=100, deadline=None)
def test_without_merging_the_tree_has_each_distinct_prefix_once(requests):
    plan = make_plan(requests, max_length=MAX_LENGTH, costs=Costs(0, 0, 0))
    prefixes = {
        tuple(window[:end])
        for context, continuation in requests
        for window in [[*context, *continuation][-(MAX_LENGTH + 1) :][:-1]]
        for end in range(1, len(window) + 1)
    }
    assert plan.bound == len(prefixes)
    assert plan.n_tokens >= plan.bound


def multiple_choice(n_questions: int) -> list[Request]:
    shots = list(range(1000, 1100))
    return [
        Request([*shots, *(question * 50 + i for i in range(10 + question))], [choice, 7, 8, 9])
        for question in range(n_questions)
        for choice in range(4)
    ]


def test_shots_are_computed_once_then_questions_then_choices():
    plan = make_plan(multiple_choice(3), max_length=500, costs=Costs())
    assert plan.bound == plan.n_tokens == 100 + (10 + 11 + 12) + 3 * 4 * 3
    batches: list[Pass] = list(plan.run(lambda batch: batch, budget=Budget(2000, 20_000)))
    assert [(len(batch.nodes), batch.width) for batch in batches] == [(1, 100), (3, 12), (12, 3)]
    assert [batch.is_kept for batch in batches] == [True, True, False]


def test_a_context_of_one_token_choices_needs_no_second_pass():
    requests = [Request([1, 2, 3, 4], [choice]) for choice in range(4)]
    batches: list[Pass] = list(
        make_plan(requests, max_length=500, costs=Costs()).run(
            lambda batch: batch, budget=Budget(64, 64)
        )
    )
    assert len(batches) == 1
    assert [t.token for _, _, targets in batches[0].targets() for t in targets] == [0, 1, 2, 3]


def test_batches_trade_padding_for_passes():
    requests = [Request([i] * 5, [0]) for i in range(50)] + [Request([99] * 60, [0])]

    def padded(per_pass: int) -> list[int]:
        plan = make_plan(requests, max_length=500, costs=Costs(per_pass))
        run = plan.run(lambda batch: len(batch.nodes) * batch.width, budget=Budget(4000, 4000))
        return list(run)

    assert padded(per_pass=24) == [60, 250]  # a pass of its own for the long one
    assert padded(per_pass=5000) == [51 * 60]


def test_a_row_that_never_fits_raises_and_keeps_what_was_scored():
    requests = [Request([1] * 9, [1]), Request([2] * 3, [1])]
    plan = make_plan(requests, max_length=500, costs=Costs())
    with pytest.raises(OutOfMemoryError, match="single row"):
        list(execute(plan, SymbolicModel(Budget(100, 100), memory=8)))


def test_errors_other_than_out_of_memory_are_not_retried():
    def fail(batch: Pass) -> None:
        raise KeyError("broken")

    plan = make_plan([Request([1], [2])] * 4, max_length=500, costs=Costs())
    with pytest.raises(KeyError, match="broken"):
        list(plan.run(fail, budget=Budget(10, 10), is_out_of_memory=lambda e: False))


@pytest.mark.parametrize(("context", "continuation"), [([], [1]), ([1], []), ([1], [2] * 501)])
def test_a_request_that_cannot_be_scored_is_refused(context, continuation):
    with pytest.raises(ValueError, match="1 to 500 tokens"):
        make_plan([Request(context, continuation)], max_length=500, costs=Costs())
