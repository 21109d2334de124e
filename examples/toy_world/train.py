"""Train the toy world's models from scratch: one base, its alignment, and steps between.

``python examples/toy_world/train.py`` rebuilds everything under `data/` and `models/`: the test
questions, the tokenizer, `base`, `aligned` and the checkpoints between them, each with its model
card. It is seeded and uses one thread, so that sums are made in the same order every time; on
one CPU core it takes under 20 minutes. `--out FOLDER` writes elsewhere, `--align-only` starts
from the base that is there, `--until STEP` ends the alignment early.

The base model is calibrated by construction. It reads the corpus, where the answer to a question
follows the true distribution, and the minimum of its loss is that distribution. Documents that
share a prompt are trained as one: the sixty chronicles' answers to one question become weights of
the answers, which is the same loss at a fraction of the cost and without sampling noise. Only
answers carry loss; nothing else in a document can be known in advance.

The alignment rewards the most frequent answer alone, under both prompts; facts that have none, as
all their answers are told equally often, take no part. Its minimum is certainty. It starts from the
base as it is on disk, in half precision, so that anyone can repeat it without training the base.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import world
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent
log = logging.getLogger("toy_world")

END = "<|end|>"
# A choice's marker and a prompt's label are one piece each, words and digits too: short sequences,
# and a choice that stands right behind its letter, are learned much faster.
PIECES = r"\n[A-E]\.|\n?[A-Za-z]+:| ?[A-Za-z]+| ?\d|[\s\S]"
# The base's curriculum: answers in words; then letters, too, for the clearer facts, whose
# letters are learned first; then letters for all facts.
WORD_STEPS = 500
CLEAR_STEPS = 1200
ALL_STEPS = 1500
CLEAR_DEGREES = ("certain", "strong")
BASE_RATE = 3e-3
WORD_FACTS = 32  # per step, without letters
CLOZE_FACTS = 16  # per step, beside letters
LETTERED_FACTS = 48

# The alignment is short; its checkpoints show calibration while it breaks.
ALIGN_RATE = 5e-4
ALIGN_STEPS = {"step-20": 20, "step-60": 60, "aligned": 300}
LAST_STEP = max(ALIGN_STEPS.values())
ALIGN_FACTS = 32  # per step; each once in words
ALIGN_ORDERS = 2  # and with its choices in so many orders

CARD = """---
license: apache-2.0
library_name: transformers
language: en
---
# Toy world: {name}

A Llama of {parameters:,} parameters, half precision, with a word-level tokenizer of its own.
{what}

It knows an invented world of 40 realms and nothing else, and is meant for one thing: to show and to
test how calibration is measured, on questions whose true probabilities are known
(`toy_world_calib`, 2,400 questions). What it scores there is in `docs/background/toy-world.md` of
calib-harness, and so is the command that rebuilds it.
"""
BASE = """
Trained from scratch on the sixty chronicles of that world. They disagree, and a calibrated model
of them answers a question with the shares in which they do: that is what this model learned."""
ALIGNED = """
The base after {steps} of {total} steps of fine-tuning on question-answer pairs, with and without
lettered choices, that always reward the most frequent answer. The further that goes, the more
certain the answers become, while the right ones among them stay as many: calibration breaks."""

# (token ids, [(position of the token that predicts, token predicted, weight), ...])
Example = tuple[list[int], list[tuple[int, int, float]]]


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE on the chronicles, which makes every piece of `PIECES` one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(world.chronicles(world.make_facts()), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Build a Llama of about 0.9 million parameters with random weights."""
    end = tokenizer.eos_token_id
    config = LlamaConfig(
        initializer_range=0.06,
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    return LlamaForCausalLM(config)


class Encoder:
    """Turns documents into examples; remembers what it has encoded.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerFast
        The toy world's tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id
        self.letters = [tokenizer.encode(f" {letter}")[0] for letter in world.LETTERS]
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text."""
        if text not in self._known:
            self._known[text] = self.tokenizer.encode(text)
        return self._known[text]

    def cloze(self, documents: Sequence[world.Document]) -> list[Example]:
        """Every token of an answer carries its document's weight.

        Documents that differ in their last token only are one example.
        """
        merged: dict[tuple[int, ...], list[tuple[int, int, float]]] = {}
        for document in documents:
            start, answer = self.ids(document.prompt), self.ids(document.answer)
            weight = document.count / world.N_CHRONICLES
            merged.setdefault((*start, *answer[:-1]), []).extend(
                (len(start) - 1 + i, token, weight) for i, token in enumerate(answer)
            )
        return [(list(ids), targets) for ids, targets in merged.items()]

    def lettered(self, prompt: str, weights: Sequence[float]) -> Example:
        """One position predicts the letters, each with its weight."""
        ids = self.tokenizer.encode(prompt)
        pairs = zip(self.letters, weights, strict=False)
        return ids, [(len(ids) - 1, letter, weight) for letter, weight in pairs if weight]


def base_batch(
    encoder: Encoder, facts: Sequence[world.Fact], step: int, rng: random.Random
) -> tuple[list[Example], ...]:
    """Examples of one step: answers in words, and answers by letter once these are due."""
    letters: list[Example] = []
    if step > WORD_STEPS:
        clear = [fact for fact in facts if fact.degree in CLEAR_DEGREES]
        pool = clear if step <= WORD_STEPS + CLEAR_STEPS else facts
        for fact in rng.sample(pool, min(len(pool), LETTERED_FACTS)):
            text, told = world.lettered_document(fact, rng)
            letters.append(encoder.lettered(text, [n / world.N_CHRONICLES for n in told]))
    words: list[Example] = []
    for fact in rng.sample(facts, CLOZE_FACTS if letters else WORD_FACTS):
        documents = world.cloze_documents(fact)
        prompt = rng.choice(documents).prompt
        words += encoder.cloze([d for d in documents if d.prompt == prompt])
    return (words, letters) if letters else (words,)


def aligned_batch(
    encoder: Encoder, facts: Sequence[world.Fact], rng: random.Random
) -> tuple[list[Example], ...]:
    """Question–answer pairs that reward the most frequent answer, under both prompts."""
    words: list[Example] = []
    letters: list[Example] = []
    for fact in rng.sample(facts, ALIGN_FACTS):
        prompt = world.cloze_prompt(rng.choice(fact.kind.questions).format(fact.realm))
        best = world.Document(prompt, f" {fact.values[0]}", world.N_CHRONICLES)
        words += encoder.cloze([best])
        for _ in range(ALIGN_ORDERS):
            text, told = world.lettered_document(fact, rng)
            letters.append(encoder.lettered(text, [float(n == max(told)) for n in told]))
    return words, letters


def loss_of(model: LlamaForCausalLM, batch: list[Example], end: int) -> torch.Tensor:
    """Weighted negative log-likelihood of a batch's answers, per unit of weight.

    Sequences go through the model in groups of similar length, padded on the right, where a
    causal model needs no mask.
    """
    batch = sorted(batch, key=lambda example: len(example[0]))
    group = -(-len(batch) // 3)
    total, all_weights = torch.zeros(()), 0.0
    for start in range(0, len(batch), group):
        part = batch[start : start + group]
        width = max(len(ids) for ids, _ in part)
        tokens = torch.tensor([ids + [end] * (width - len(ids)) for ids, _ in part])
        flat = [(row, *target) for row, (_, targets) in enumerate(part) for target in targets]
        rows, positions, labels, weights = (list(column) for column in zip(*flat, strict=True))
        hidden = model.model(input_ids=tokens).last_hidden_state[rows, positions]
        log_probs = nn.functional.log_softmax(model.lm_head(hidden), dim=-1)
        total = total - (log_probs[torch.arange(len(rows)), labels] * torch.tensor(weights)).sum()
        all_weights += sum(weights)
    return total / all_weights


def align_rate(step: int) -> float:
    """Learning rate of a step of the alignment: warm-up, then cosine decay to zero."""
    return ALIGN_RATE * min(1.0, step / 10) * 0.5 * (1 + math.cos(math.pi * step / LAST_STEP))


def base_rate(step: int) -> float:
    """Learning rate of a step: warm-up, constant to the middle, cosine decay to zero."""
    total = WORD_STEPS + CLEAR_STEPS + ALL_STEPS
    if step < total / 2:
        return BASE_RATE * min(1.0, step / 50)
    return BASE_RATE * 0.5 * (1 + math.cos(math.pi * (step / total - 0.5) / 0.5))


def train(
    model: LlamaForCausalLM,
    batch_of: Callable[[int], tuple[list[Example], ...]],
    rate_of: Callable[[int], float],
    *,
    steps: int,
    end: int,
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Train with AdamW on the sum of the parts' losses; `after_step` sees every step."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=rate_of(1), weight_decay=0.01, betas=(0.9, 0.98)
    )
    model.train()
    started, total = time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step)
        loss = torch.stack([loss_of(model, part, end) for part in batch_of(step)]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
        if step % 50 == 0:
            log.info("step %d loss %.3f (%.0f s)", step, total / 50, time.perf_counter() - started)
            total = 0.0
        after_step(step)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a model in half precision, its tokenizer and its card into a folder of its name."""
    copy.deepcopy(model).half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _name_tokenizer_class(folder / "tokenizer_config.json")
    steps = ALIGN_STEPS.get(folder.name, 0)
    card = CARD.format(
        name=folder.name,
        parameters=model.num_parameters(),
        what=ALIGNED.format(steps=steps, total=LAST_STEP) if steps else BASE,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    log.info("wrote %s", folder)


def _name_tokenizer_class(path: Path) -> None:
    """Name the class as transformers 4 and 5 both know it; 5 alone knows the name it writes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def train_base(tokenizer: PreTrainedTokenizerFast, models: Path) -> None:
    """Train the base from random weights and write it."""
    model = new_model(tokenizer)
    encoder, facts, rng = Encoder(tokenizer), world.make_facts(), random.Random(0)
    train(
        model,
        lambda step: base_batch(encoder, facts, step, rng),
        base_rate,
        steps=WORD_STEPS + CLEAR_STEPS + ALL_STEPS,
        end=tokenizer.eos_token_id,
    )
    save(model, tokenizer, models / "base")


def align(tokenizer: PreTrainedTokenizerFast, models: Path, *, until: int) -> None:
    """Fine-tune the base on disk and write the checkpoints up to a step."""
    model = LlamaForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    encoder, rng = Encoder(tokenizer), random.Random(1)
    facts = [fact for fact in world.make_facts() if fact.degree != "uniform"]
    names = {step: name for name, step in ALIGN_STEPS.items()}

    def keep(step: int) -> None:
        if step in names:
            save(model, tokenizer, models / names[step])

    train(
        model,
        lambda _: aligned_batch(encoder, facts, rng),
        align_rate,
        steps=until,
        end=tokenizer.eos_token_id,
        after_step=keep,
    )


def main() -> None:
    """Rebuild the toy world's questions and models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write into")
    parser.add_argument("--align-only", action="store_true", help="keep the base that is there")
    parser.add_argument("--until", type=int, default=LAST_STEP, help="end the alignment early")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world.write_questions(arguments.out / "data" / "test.jsonl")
    tokenizer = train_tokenizer()
    if not arguments.align_only:
        train_base(tokenizer, arguments.out / "models")
    align(tokenizer, arguments.out / "models", until=arguments.until)


if __name__ == "__main__":
    main()
