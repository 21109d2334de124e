"""Train the toy world's models from scratch: one base, its alignment, and steps between.

``python examples/toy_world/train.py`` rebuilds everything under `data/` and `models/`: the test
questions, the tokenizer, `base`, `aligned` and the checkpoints between them, `sft` and `dpo`, each
with its model card. It is seeded and uses one thread, so that sums are made in the same order every
time; on one CPU core it takes under half an hour. `--out FOLDER` writes elsewhere; `--align-only`
starts from the base that is there, `--until STEP` ends the alignment early, `--stages-only` trains
`sft` and `dpo` (`stages.py`) from that base.

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
import logging
import math
import random
from collections.abc import Sequence
from pathlib import Path

import stages
import torch
import world
from learning import Encoder, Example, loss_of, save, train, warm_then_cosine
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).resolve().parent

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


BASE = """
Trained from scratch on the sixty chronicles of that world. They disagree, and a calibrated model
of them answers a question with the shares in which they do: that is what this model learned."""
ALIGNED = """
The base after {steps} of {total} steps of fine-tuning on question-answer pairs, with and without
lettered choices, that always reward the most frequent answer. The further that goes, the more
certain the answers become, while the right ones among them stay as many: calibration breaks."""


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


def base_rate(step: int) -> float:
    """Learning rate of a step: warm-up, constant to the middle, cosine decay to zero."""
    total = WORD_STEPS + CLEAR_STEPS + ALL_STEPS
    if step < total / 2:
        return BASE_RATE * min(1.0, step / 50)
    return BASE_RATE * 0.5 * (1 + math.cos(math.pi * (step / total - 0.5) / 0.5))


def train_base(tokenizer: PreTrainedTokenizerFast, models: Path) -> None:
    """Train the base from random weights and write it."""
    model = new_model(tokenizer)
    encoder, facts, rng = Encoder(tokenizer), world.make_facts(), random.Random(0)

    def loss_at(step: int) -> torch.Tensor:
        batch = base_batch(encoder, facts, step, rng)
        return torch.stack([loss_of(model, part, encoder.end) for part in batch]).sum()

    train(model, loss_at, base_rate, steps=WORD_STEPS + CLEAR_STEPS + ALL_STEPS)
    save(model, tokenizer, models / "base", BASE)


def align(tokenizer: PreTrainedTokenizerFast, models: Path, *, until: int) -> None:
    """Fine-tune the base on disk and write the checkpoints up to a step."""
    model = LlamaForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    encoder, rng = Encoder(tokenizer), random.Random(1)
    facts = [fact for fact in world.make_facts() if fact.degree != "uniform"]
    names = {step: name for name, step in ALIGN_STEPS.items()}

    def loss_at(_: int) -> torch.Tensor:
        batch = aligned_batch(encoder, facts, rng)
        return torch.stack([loss_of(model, part, encoder.end) for part in batch]).sum()

    def keep(step: int) -> None:
        if step in names:
            what = ALIGNED.format(steps=step, total=LAST_STEP)
            save(model, tokenizer, models / names[step], what)

    train(
        model,
        loss_at,
        lambda step: warm_then_cosine(ALIGN_RATE, step, LAST_STEP),
        steps=until,
        after_step=keep,
    )


def train_stages(tokenizer: PreTrainedTokenizerFast, models: Path) -> None:
    """Train `sft` from the base on disk, and `dpo` from `sft` on disk."""
    encoder, facts = Encoder(tokenizer), world.make_facts()
    steps = stages.STAGE_STEPS

    def rate_of(step: int) -> float:
        return warm_then_cosine(stages.STAGE_RATE, step, steps)

    model = LlamaForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    rng = random.Random(2)
    train(model, lambda _: stages.sft_loss(model, encoder, facts, rng), rate_of, steps=steps)
    save(model, tokenizer, models / "sft", stages.SFT.format(steps=steps))

    policy, reference = (
        LlamaForCausalLM.from_pretrained(models / "sft", dtype=torch.float32) for _ in range(2)
    )
    reference.eval()
    rng = random.Random(3)
    train(
        policy,
        lambda _: stages.dpo_loss(policy, reference, encoder, facts, rng),
        rate_of,
        steps=steps,
    )
    save(policy, tokenizer, models / "dpo", stages.DPO.format(steps=steps))


def main() -> None:
    """Rebuild the toy world's questions and models."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write into")
    parser.add_argument("--align-only", action="store_true", help="keep the base that is there")
    parser.add_argument("--stages-only", action="store_true", help="train sft and dpo alone")
    parser.add_argument("--until", type=int, default=LAST_STEP, help="end the alignment early")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = arguments.out / "models"
    world.write_questions(arguments.out / "data" / "test.jsonl")
    tokenizer = train_tokenizer()
    if not (arguments.align_only or arguments.stages_only):
        train_base(tokenizer, models)
    if not arguments.stages_only:
        align(tokenizer, models, until=arguments.until)
    if not arguments.align_only:
        train_stages(tokenizer, models)


if __name__ == "__main__":
    main()
