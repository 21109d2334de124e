"""The token tree of a set of requests: what they share, and where each token is scored.

Plain Python over token lists. The tree is found, not assumed: shots shared by all requests,
by a subject's questions or by none; a question's beginning shared by two prompts; a question
shared by its choices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Request(NamedTuple):
    """Token ids of a context, and of the continuation to be scored after it."""

    context: Sequence[int]
    continuation: Sequence[int]


class Target(NamedTuple):
    """One token to be scored: `token`, the `nth` (from 0) of the continuation of `request`."""

    request: int
    nth: int
    token: int


@dataclass(eq=False, slots=True)
class Node:
    """A run of tokens that the same requests share.

    Attributes
    ----------
    tokens
        The node's own tokens; the root has none.
    start
        How many tokens come before them on the way from the root.
    parent
        The node this one continues; None for the root.
    children
        The nodes that continue this one.
    targets
        Position among `tokens` -> the targets that the model predicts there.
    """

    tokens: tuple[int, ...]
    start: int
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    targets: dict[int, list[Target]] = field(default_factory=dict)

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, each before its children."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.children))


def read_window(request: Request, max_length: int) -> list[int]:
    """Tokens the model reads to score a request: lm-eval's, truncated from the left.

    The continuation's last token is only predicted, never read.

    Raises
    ------
    ValueError
        If the context or the continuation has no tokens, or the continuation has more than
        the model can read.
    """
    context, continuation = request
    if not len(context) or not 0 < len(continuation) <= max_length:
        raise ValueError(
            f"a request needs a context and a continuation of 1 to {max_length} tokens, "
            f"got {len(context)} and {len(continuation)}"
        )
    return [*context, *continuation][-(max_length + 1) :][:-1]


def build_tree(requests: Sequence[Request], *, max_length: int) -> Node:
    """Build the tree in which every distinct token prefix of the requests occurs once.

    Parameters
    ----------
    requests
        What is to be scored.
    max_length
        Tokens the model can read at once; longer requests lose their beginning.

    Returns
    -------
    Node
        The root. Its `tokens` are empty.
    """
    windows: dict[bytes, list[int]] = {}
    keys = []
    for request in requests:
        tokens = read_window(request, max_length)
        # Big-endian, so that sorting bytes sorts token lists.
        key = np.asarray(tokens, dtype=">u4").tobytes()
        windows.setdefault(key, tokens)
        keys.append(key)
    root, ends = _radix_tree(windows)
    for index, (request, key) in enumerate(zip(requests, keys, strict=True)):
        _place_targets(ends[key], index, request.continuation)
    return root


def _radix_tree(windows: dict[bytes, list[int]]) -> tuple[Node, dict[bytes, Node]]:
    """Return the root, and the node at whose end each window ends."""
    root = Node((), 0)
    ends: dict[bytes, Node] = {}
    last, previous = root, b""  # the node of the window inserted last, and its key
    for key in sorted(windows):
        tokens, shared = windows[key], _common_prefix(previous, key)
        while last.parent is not None and last.start >= shared:
            last = last.parent
        if shared < last.start + len(last.tokens):
            last = _split(last, shared - last.start)
        leaf = Node(tuple(tokens[shared:]), shared, parent=last)
        last.children.append(leaf)
        ends[key] = last = leaf
        previous = key
    return root, ends


def _common_prefix(a: bytes, b: bytes) -> int:
    """Count the leading tokens (4 bytes each) that two keys share."""
    length = min(len(a), len(b)) // 4
    differs = np.frombuffer(a, "u4", length) != np.frombuffer(b, "u4", length)
    return int(differs.argmax()) if differs.any() else length


def _split(node: Node, length: int) -> Node:
    """Cut a node after `length` tokens; return the new upper part. `node` is the lower one."""
    upper = Node(node.tokens[:length], node.start, parent=node.parent, children=[node])
    assert node.parent is not None  # the root has no tokens to cut
    node.parent.children[-1] = upper  # in sorted order, it is always the newest
    node.tokens, node.start, node.parent = node.tokens[length:], node.start + length, upper
    return upper


def _place_targets(end: Node, request: int, continuation: Sequence[int]) -> None:
    """Attach a request's targets, from the end of its window upwards."""
    node, position = end, end.start + len(end.tokens) - 1
    for nth in reversed(range(len(continuation))):
        while position < node.start:
            assert node.parent is not None  # continuations are shorter than windows
            node = node.parent
        target = Target(request, nth, continuation[nth])
        node.targets.setdefault(position - node.start, []).append(target)
        position -= 1


def merge_small(root: Node, *, min_length: int, min_saving: int) -> None:
    """Undo sharing that costs more than it saves.

    Each level of the tree costs a pass through the model and a copy of what comes before, so a
    node of a few tokens, or one with few children, is cheaper when each child repeats its
    tokens. The first child takes over its targets.

    Parameters
    ----------
    root
        Changed in place.
    min_length
        Nodes with fewer tokens are merged into their children...
    min_saving
        ...and so are those that spare fewer tokens than this, over all children.
    """
    for node in reversed(list(root.walk())):  # children before their parents
        children = []
        for child in node.children:
            saved = len(child.tokens) * (len(child.children) - 1)
            if child.children and (len(child.tokens) < min_length or saved < min_saving):
                for grandchild in child.children:
                    prepend(child, grandchild, first=grandchild is child.children[0])
                children += child.children
            else:
                children.append(child)
        node.children = children


def prepend(node: Node, child: Node, *, first: bool) -> None:
    """Let a child repeat its node's tokens; the first child takes over the node's targets."""
    targets = {place + len(node.tokens): t for place, t in child.targets.items()}
    child.targets = {**node.targets, **targets} if first else targets
    child.tokens = node.tokens + child.tokens
    child.start, child.parent = node.start, node.parent


def count_tokens(root: Node) -> int:
    """Tokens in the tree: what must be computed if each node is computed once."""
    return sum(len(node.tokens) for node in root.walk())
