"""Shape a token tree for models that hand states on: recurrent and convolutional layers.

What such a layer knows at the end of a row is known there and nowhere else, so that rows whose
end is handed on cannot be padded. Inner nodes are therefore cut to few lengths, and what is cut
off is repeated by each child.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib_harness.scoring.tree import Node, prepend


def level(root: Node, *, per_pass: int) -> None:
    """Cut the inner nodes of each depth to the few lengths that cost least.

    Parameters
    ----------
    root
        Changed in place; every token still follows the same tokens.
    per_pass
        What another length costs, in tokens; see `Costs`.
    """
    inner = [node for node in root.children if node.children]
    while inner:
        for node, length in zip(inner, few_lengths(inner, per_pass=per_pass), strict=True):
            _push_down(node, length)
        inner = [child for node in inner for child in node.children if child.children]


def few_lengths(nodes: Sequence[Node], *, per_pass: int) -> list[int]:
    """Return to what length each inner node is cut.

    Minimises the tokens repeated (those cut off × children) + `per_pass` × number of lengths,
    by dynamic programming over the lengths that occur.
    """
    own = np.array([len(node.tokens) for node in nodes])
    lengths, which = np.unique(own, return_inverse=True)
    children = np.bincount(which, weights=[len(node.children) for node in nodes])
    # Up to here: children, and their tokens before this node's end were they to repeat all.
    n_before = np.concatenate([[0.0], np.cumsum(children)])
    tokens_before = np.concatenate([[0.0], np.cumsum(children * lengths)])
    best = np.zeros(len(lengths) + 1)  # cost of the lengths from here on
    upto = np.zeros(len(lengths), dtype=int)  # end of the group that starts here
    for i in range(len(lengths) - 1, -1, -1):
        ends = np.arange(i + 1, len(lengths) + 1)
        repeated = (tokens_before[ends] - tokens_before[i]) - lengths[i] * (
            n_before[ends] - n_before[i]
        )
        cost = repeated + best[ends] + per_pass
        choice = int(cost.argmin())
        best[i], upto[i] = cost[choice], ends[choice]
    chosen = np.empty_like(lengths)
    i = 0
    while i < len(lengths):
        chosen[i : upto[i]] = lengths[i]
        i = int(upto[i])
    return [int(length) for length in chosen[which]]


def keep_two_levels(root: Node) -> None:
    """Merge inner nodes into their children until only leaves have something above them.

    For models that go on from a state one token at a time: a choice's few tokens are worth that,
    a question's many are not.
    """
    pending, done = list(reversed(root.children)), []
    while pending:
        node = pending.pop()
        if not any(child.children for child in node.children):
            done.append(node)
            continue
        for child in node.children:
            prepend(node, child, first=child is node.children[0])
        pending += reversed(node.children)
    root.children = done


def _push_down(node: Node, length: int) -> None:
    """Leave `length` tokens to a node; each child begins with the others."""
    if length == len(node.tokens):
        return
    rest = Node(node.tokens[length:], node.start + length, parent=node)
    rest.targets = {
        place - length: targets for place, targets in node.targets.items() if place >= length
    }
    node.tokens = node.tokens[:length]
    node.targets = {place: t for place, t in node.targets.items() if place < length}
    for child in node.children:
        prepend(rest, child, first=child is node.children[0])
