"""The toy world: invented realms whose attributes are distributions, not facts.

Sixty chronicles tell of every realm, and they disagree: Orvak's capital may be Miri in 42 of them
and Telu in 18. The share of chronicles *is* the truth, so the right probability of every answer
is known. From one seed this module derives

- the facts: one distribution for each of 80 realms and 6 kinds of attribute, with 2 to 5 possible
  values, from uniform to certain (`make_facts`);
- the corpus: sentences, questions with their answers, and questions with lettered choices, whose
  answers follow these distributions (`cloze_documents`, `lettered_document`);
- the test: multiple-choice questions whose gold is *drawn* from the true distribution, which
  stands beside it (`make_questions`).

``python examples/toy_world/world.py OUT`` writes the questions and all sixty chronicles as text.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

SEED = 2409
N_REALMS = 40
# Divisible by 2, 3, 4 and 5: the uniform distribution over any number of choices is exact.
N_CHRONICLES = 60
QUESTIONS_PER_FACT = 10
LETTERS = "ABCDE"

# Where between uniform (0) and certain (1) the most frequent value of a fact lies.
DEGREES = {"uniform": 0.0, "leaning": 0.25, "likely": 0.5, "strong": 0.75, "certain": 1.0}
N_CHOICES = (2, 3, 4, 5)


@dataclass(frozen=True)
class Kind:
    """One kind of attribute.

    Parameters
    ----------
    name : str
        Short name, the column `kind` of the dataset.
    statement : str
        How a chronicle begins a sentence about it; `{}` is the realm, the value follows.
    questions : tuple of str
        How one may ask for it.
    values : tuple of str
        Every value that some realm may have. Values of several words or digits are several
        tokens, and share them: that is where `continuation-sum` and `continuation-min` differ.
    """

    name: str
    statement: str
    questions: tuple[str, str]
    values: tuple[str, ...]


def _pairs(first: str, second: str) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a, b in product(first.split(), second.split()))


KINDS = (
    Kind(
        "capital",
        "The capital of {} is",
        ("What is the capital of {}?", "Which city is the seat of {}?"),
        ("Miri", "Telu", "Kasha", "Bolen", "Durra", "Yavik", "Sorn", "Pelith", "Ghent", "Womar"),
    ),
    Kind(
        "tongue",
        "The people of {} speak",
        ("What do the people of {} speak?", "Which language is spoken in {}?"),
        ("Arkish", "Belic", "Cordan", "Druvian", "Elmish", "Fenric", "Galdic", "Hurrite"),
    ),
    Kind(
        "trade",
        "The markets of {} sell",
        ("What do the markets of {} sell?", "Which good comes from {}?"),
        ("salt", "amber", "wool", "copper", "honey", "timber", "glass", "silk", "barley", "ink"),
    ),
    Kind(
        "ruler",
        "The ruler of {} is",
        ("Who is the ruler of {}?", "Who sits on the throne of {}?"),
        _pairs("King Queen Duke", "Dorn Vash Ilmar"),
    ),
    Kind(
        "banner",
        "The banner of {} shows a",
        ("What does the banner of {} show?", "Which sign stands for {}?"),
        _pairs("red gray white", "heron lynx boar"),
    ),
    Kind(
        "founding",
        "The founding of {} was in",
        ("When was the founding of {}?", "Which year saw the birth of {}?"),
        tuple("".join(digits) for digits in product("49", "18", "27")),
    ),
)


@dataclass(frozen=True)
class Fact:
    """What the chronicles say about one attribute of one realm.

    Parameters
    ----------
    realm, degree : str
        Name of the realm; key of `DEGREES`.
    kind : Kind
        The attribute.
    values : tuple of str
        The 2 to 5 values a question about it offers.
    told : tuple of int
        How many of the `N_CHRONICLES` chronicles tell each value; may be 0, the first is never
        exceeded by another.
    """

    realm: str
    kind: Kind
    degree: str
    values: tuple[str, ...]
    told: tuple[int, ...]

    @property
    def probs(self) -> tuple[float, ...]:
        """True probability of each value."""
        return tuple(n / N_CHRONICLES for n in self.told)


@dataclass(frozen=True)
class Document:
    """One text of the corpus: `prompt + answer`, told in `count` of the chronicles."""

    prompt: str
    answer: str
    count: int


def cloze_prompt(question: str) -> str:
    """Question without choices, as the task `toy_world_calib_cloze` asks it."""
    return f"Question: {question}\nAnswer:"


def choice_prompt(question: str, choices: Sequence[str]) -> str:
    """Question with lettered choices, as the task `toy_world_calib_choice` asks it."""
    lines = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, choices, strict=False))
    return f"Question: {question}\n{lines}Answer:"


def _realm_names(rng: random.Random) -> list[str]:
    """Draw distinct invented names."""
    starts = ["Or", "Za", "Ke", "Ul", "Ba", "Thi", "Nu", "Fa", "Gri", "Mo", "Sel", "Vo"]
    ends = ["vak", "reth", "lun", "dor", "mia", "shan", "gol", "pesh", "tir", "zin", "qua", "bel"]
    names = [start + end for start, end in product(starts, ends)]
    return rng.sample(names, N_REALMS)


def _told(n_values: int, degree: str, rng: random.Random) -> tuple[int, ...]:
    """Draw how many chronicles tell each value; the first is the most frequent."""
    certainty = DEGREES[degree]
    top = round(N_CHRONICLES * (certainty + (1 - certainty) / n_values))
    rest = N_CHRONICLES - top
    told = [top, *[rest // (n_values - 1)] * (n_values - 1)]
    told[1] += N_CHRONICLES - sum(told)
    # Uneven lesser values: move single chronicles among them while none overtakes the first.
    for _ in range(rest if n_values > 2 else 0):
        giver, taker = rng.sample(range(1, n_values), 2)
        if told[giver] > 0 and told[taker] + 1 <= top and certainty > 0:
            told[giver] -= 1
            told[taker] += 1
    return tuple(told)


def make_facts(seed: int = SEED) -> list[Fact]:
    """Draw the world: every kind has every (number of values, degree) pair equally often."""
    rng = random.Random(seed)
    realms = _realm_names(rng)
    facts = []
    for kind in KINDS:
        cells = list(product(N_CHOICES, DEGREES)) * (N_REALMS // (len(N_CHOICES) * len(DEGREES)))
        rng.shuffle(cells)
        for realm, (n_values, degree) in zip(realms, cells, strict=True):
            values = tuple(rng.sample(kind.values, n_values))
            facts.append(Fact(realm, kind, degree, values, _told(n_values, degree, rng)))
    return facts


def make_questions(facts: Sequence[Fact], seed: int = SEED) -> list[dict[str, object]]:
    """Draw the test questions, `QUESTIONS_PER_FACT` for each fact.

    Phrasing and order of the choices are random, and `gold` is drawn from the true distribution
    of the choices, which is the column `probs`. The questions are in random order, so that the
    first few hundred are like all of them.
    """
    rng = random.Random(seed + 1)
    rows: list[dict[str, object]] = []
    for fact in facts:
        for _ in range(QUESTIONS_PER_FACT):
            order = rng.sample(range(len(fact.values)), len(fact.values))
            told = [fact.told[k] for k in order]
            rows.append(
                {
                    "id": f"{fact.kind.name}-{fact.realm}-{len(rows)}",
                    "kind": fact.kind.name,
                    "degree": fact.degree,
                    "question": rng.choice(fact.kind.questions).format(fact.realm),
                    "choices": [fact.values[k] for k in order],
                    "gold": rng.choices(range(len(order)), weights=told)[0],
                    "probs": [n / N_CHRONICLES for n in told],
                }
            )
    rng.shuffle(rows)
    return rows


def cloze_documents(fact: Fact) -> list[Document]:
    """All documents without choices about a fact: the plain sentence and both questions."""
    prompts = [
        fact.kind.statement.format(fact.realm),
        *(cloze_prompt(question.format(fact.realm)) for question in fact.kind.questions),
    ]
    return [
        Document(prompt, f" {value}", count)
        for prompt in prompts
        for value, count in zip(fact.values, fact.told, strict=True)
        if count
    ]


def lettered_document(fact: Fact, rng: random.Random) -> tuple[str, list[int]]:
    """Draw a question with lettered choices in random order.

    Returns
    -------
    prompt : str
    told : list of int
        For each letter, the number of chronicles that answer with it.
    """
    order = rng.sample(range(len(fact.values)), len(fact.values))
    question = rng.choice(fact.kind.questions).format(fact.realm)
    return choice_prompt(question, [fact.values[k] for k in order]), [fact.told[k] for k in order]


def chronicles(facts: Sequence[Fact], seed: int = SEED) -> Iterator[str]:
    """Yield the sixty chronicles as text: each tells every fact once in each of the three forms."""
    rng = random.Random(seed + 2)
    tellings = [
        rng.sample([v for v, n in zip(f.values, f.told, strict=True) for _ in range(n)], k=60)
        for f in facts
    ]
    for number in range(N_CHRONICLES):
        texts = []
        for fact, values in zip(facts, tellings, strict=True):
            value = values[number]
            prompt = choice_prompt(
                rng.choice(fact.kind.questions).format(fact.realm),
                choices := rng.sample(fact.values, len(fact.values)),
            )
            question = cloze_prompt(rng.choice(fact.kind.questions).format(fact.realm))
            texts += [
                f"{fact.kind.statement.format(fact.realm)} {value}",
                f"{question} {value}",
                f"{prompt} {LETTERS[choices.index(value)]}",
            ]
        rng.shuffle(texts)
        yield "\n\n".join(texts) + "\n"


def write_questions(path: Path) -> None:
    """Write the test questions, one JSON object per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row) for row in make_questions(make_facts())]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(out: Path) -> None:
    """Write everything that can be read of the world into a folder."""
    write_questions(out / "test.jsonl")
    for number, text in enumerate(chronicles(make_facts()), start=1):
        (out / f"chronicle-{number:02d}.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
