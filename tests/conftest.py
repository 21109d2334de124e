"""Small real things to test with: tokenizers, models, tasks, all made here and offline."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports datasets or transformers: no test reaches out, and none waits for it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what every fault cost a sweep, also of tests that other processes carried out.

    Stands here because the process that prints collects nothing, and so reads no folder's own file.
    """
    reports = [
        report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])
    ]
    rows = [
        value
        for report in reports
        for name, value in report.user_properties
        if name == "fault" and report.when == "call"
    ]
    if rows:
        terminalreporter.section("requests scored twice after a fault")
        width = max(len(fault) for fault, *_ in rows)
        for fault, test, scored, twice in rows:
            terminalreporter.line(f"{fault:{width}}  {twice:3d} of {scored:4d}  {test}")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a test made of logging: the command line sets levels and handlers."""
    loggers = [logging.getLogger(name) for name in (None, "calib_harness", "lm_eval")]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def shared() -> Path:
    """Benchmarks, logs and weights that some checkouts have beside them."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real benchmarks, logs and weights)")
    return SHARED


@pytest.fixture(scope="session")
def stories(shared: Path) -> Path:
    """Folder of a small trained model."""
    import transformers

    if int(transformers.__version__.partition(".")[0]) < 5:
        pytest.skip("the tokenizer of this model was saved in a form that transformers 5 reads")
    return shared / "models" / "stories260K"


@pytest.fixture
def hub(
    shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Stand inside a folder with local copies of the benchmarks under their Hub names."""
    import datasets

    monkeypatch.chdir(shared / "hub")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr(
        datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.getbasetemp() / "datasets"
    )


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Return a byte-level BPE tokenizer in which ` A`, ` B`, … are single tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "Question: Which colour is the sky at noon? Answer: A B C D E F G H I J blue red "
    bpe.train_from_iterator([text * 20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<eos>")


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    """Return a function from an architecture's name to a tiny model with random weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    special = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128},
        "t5": {
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        },
    }

    def make(architecture: str, **overrides: Any) -> Any:
        torch.manual_seed(0)
        settings = {**sizes, **special.get(architecture, {}), **overrides}
        if architecture in special:
            settings = {
                key: value
                for key, value in settings.items()
                if key not in sizes or key.endswith("_id") or key == "vocab_size"
            }
        config = AutoConfig.for_model(architecture, **settings)
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = auto.from_config(config)
        # Larger weights than at initialisation, so that scores differ between choices (T5 starts
        # large).
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 2 and not config.is_encoder_decoder:
                    parameter.mul_(8)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_lm(make_model: Callable[..., Any], tokenizer: Any) -> Callable[..., Any]:
    """Return a function from an architecture's name to lm-eval's Hugging Face backend."""

    def make(architecture: str = "llama", *, batch_size: int | str = 4, **settings: Any) -> Any:
        from lm_eval.models.huggingface import HFLM

        overrides = settings.pop("config", {})
        return HFLM(
            pretrained=make_model(architecture, **overrides),
            tokenizer=tokenizer,
            batch_size=batch_size,
            device="cpu",
            **settings,
        )

    return make


QUESTIONS = [
    {
        "question": f"Which colour is thing number {i}?",
        "choices": ["blue", "red as a rose", "a very dark green", "pale yellow", "grey"][
            : 2 + i % 4
        ],
        "gold": i % (2 + i % 4),
        "subject": ("odd", "even")[i % 2],
    }
    for i in range(24)
]

CLOZE = """
class: !function calib_harness.CalibrationTask
dataset_path: json
dataset_kwargs: {data_files: {test: DATA, shots: DATA}}
output_type: multiple_choice
test_split: test
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_choice: choices
doc_to_target: gold
metadata: {version: 1.0}
"""

CHOICE = CLOZE.replace("doc_to_choice: choices", "").replace(
    'doc_to_text: "Question: {{question}}\\nAnswer:"',
    'doc_to_text: "Question: {{question}}\\n{% for text in choices %}'
    "{{ 'ABCDEFGHIJ'[loop.index0] }}. {{ text }}\\n{% endfor %}Answer:\"\n"
    "doc_to_choice: \"{{ 'ABCDEFGHIJ'[:choices | length] | list }}\"",
)


@pytest.fixture
def write_task(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a task's YAML and data and returns their folder."""

    def write(name: str, yaml: str = CLOZE, docs: list[dict[str, Any]] | None = None) -> Path:
        data = tmp_path / f"{name}.jsonl"
        rows = QUESTIONS if docs is None else docs
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        text = f"task: {name}\n" + yaml.replace("DATA", str(data))
        (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


@pytest.fixture
def evaluate(write_task: Callable[..., Path]) -> Callable[..., Any]:
    """Return a function that writes one task and evaluates a model on it."""

    def run(
        lm: Any, yaml: str = CLOZE, docs: Any = None, name: str = "toy", **settings: Any
    ) -> Any:
        from lm_eval import simple_evaluate
        from lm_eval.tasks import TaskManager

        folder = write_task(name, yaml, docs)
        manager = TaskManager(
            include_path=str(folder),
            include_defaults=False,
            metadata=settings.pop("metadata", None),
        )
        return simple_evaluate(model=lm, tasks=[name], task_manager=manager, **settings)

    return run
