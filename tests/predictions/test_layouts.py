"""Every layout in which lm-eval has written sample logs is read alike."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from calib_harness import METHODS, Predictions, UserError, choice_score, load_predictions
from calib_harness.predictions.samples import write_example_log
from calib_harness.predictions.table import UNDECIDED
from tests.predictions.entries import DATE, ENTRIES, early, entry, recent, write_run

CLOZE = [
    entry(0, [-5.0, -7.5], 1, texts=["red", "blau é"]),
    entry(1, [-6.0, -2.0, -4.0], 0, texts=["x", "yy", "zzz"]),
]


def load(place: object, **options: object) -> list[Predictions]:
    return load_predictions(place, cache=False, **options)  # type: ignore[arg-type]


def assert_same(one: list[Predictions], other: list[Predictions]) -> None:
    assert [p.header.method for p in one] == [p.header.method for p in other]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.scores, b.scores)
        np.testing.assert_array_equal(a.gold, b.gold)
        np.testing.assert_array_equal(a.doc_hash, b.doc_hash)
        np.testing.assert_array_equal(a.doc_id, b.doc_id)


def test_recent_log_of_letters(tmp_path: Path) -> None:
    write_run(tmp_path, ENTRIES)
    (run,) = load(tmp_path)
    nan = float("nan")
    assert run.header.method == "choice"
    np.testing.assert_array_equal(run.scores, [[-1, -2, -3], [-3, -0.5, -2], [-0.25, -2, nan]])
    assert run.gold.tolist() == [0, 2, 1]
    assert run.correct.tolist() == [True, False, False]
    assert run.confidence[2] == pytest.approx(1 / (1 + np.exp(-1.75)))


@pytest.mark.parametrize("name", ["samples_toy_2024-05-06T07-08-09.json", "samples_toy.jsonl"])
@pytest.mark.parametrize("entries", [ENTRIES, CLOZE], ids=["letters", "cloze"])
def test_early_array_equals_recent_lines(tmp_path: Path, entries: list, name: str) -> None:
    write_run(tmp_path / "recent", entries)
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / name).write_text(early(entries), encoding="utf-8")
    assert_same(load(tmp_path / "early"), load(tmp_path / "recent"))


def test_early_names_give_model_and_task(tmp_path: Path) -> None:
    name = "pretrained__EleutherAI__pythia-70m,revision__step1000_arc_easy.jsonl"
    (tmp_path / name).write_text(early(CLOZE), encoding="utf-8")
    results = {
        "results": {"arc_easy": {"acc,none": 0.5}},
        "config": {"model_args": "pretrained=EleutherAI/pythia-70m,revision=step1000,dtype=half"},
        "configs": {"arc_easy": {"num_fewshot": 5}},
        "date": 1700000000.0,
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    header = load(tmp_path)[0].header
    assert header.label == "EleutherAI/pythia-70m@step1000"
    assert (header.task, header.n_shot, header.settings) == ("arc_easy", 5, "dtype=half")
    assert header.date == "2023-11-14T22:13:20"
    assert header.chat_template is None


def test_array_in_a_json_of_any_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "my_toy.json").write_text(early(ENTRIES))
    assert len(load(tmp_path)) == 1


@pytest.mark.parametrize("write", [recent, early])
def test_gzipped_logs(tmp_path: Path, write: object) -> None:
    plain = write_run(tmp_path / "plain", ENTRIES)
    (tmp_path / "gz").mkdir()
    packed = tmp_path / "gz" / f"{plain.name}.gz"
    packed.write_bytes(gzip.compress(write(ENTRIES).encode()))  # type: ignore[operator]
    assert_same(load(tmp_path / "gz"), load(tmp_path / "plain"))


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    log = write_run(tmp_path, CLOZE)
    expected = load(tmp_path)
    log.write_bytes(b"\xef\xbb\xbf" + log.read_bytes().replace(b"\n", b"\r\n"))
    assert_same(load(tmp_path), expected)


def test_unusual_line_separators_within_text_do_not_cut_lines(tmp_path: Path) -> None:
    write_run(tmp_path, [entry(0, [-1.0, -2.0], 0, question="a\u2028b\x85c\x0bd")])
    assert len(load(tmp_path)[0]) == 1


def test_blocks_are_joined_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(i, [-1.0, -2.0 - i], 0) for i in range(60)]
    write_run(tmp_path, entries)
    expected = load(tmp_path)
    for size in (1, 7, 700, 5000):
        monkeypatch.setattr("calib_harness.predictions.records._BLOCK", size)
        assert_same(load(tmp_path), expected)


TOKENS = [
    entry(
        i,
        [-4.5, -6.0, -1.0],
        1,
        texts=["one two", "ä", "three"],
        tokens=[[-1.5, -3.0], [-2.0, -2.5, -1.5], [-1.0]],
        name=name,
    )
    for i in range(2)
    for name in ("continuation-sum", "continuation-min")
]


@pytest.mark.parametrize("write", [recent, early])
def test_token_logprobs_give_every_cloze_method(tmp_path: Path, write: object) -> None:
    (tmp_path / "samples_toy.jsonl").write_text(write(TOKENS))  # type: ignore[operator]
    runs = {run.header.method: run for run in load(tmp_path)}
    assert set(runs) == {name for name, m in METHODS.items() if m.prompt == "cloze"}
    tokens = [response[0][2] for response in TOKENS[0]["resps"]]
    for method, run in runs.items():
        assert len(run) == 2  # a second line for another filter is no second question
        expected = [
            choice_score(own, method, n_bytes=n) for own, n in zip(tokens, (7, 2, 5), strict=True)
        ]
        np.testing.assert_allclose(run.scores, [expected] * 2, rtol=1e-15)


def test_question_without_token_logprobs_is_unusable_for_min_only(tmp_path: Path) -> None:
    texts = ["u", "v"]
    entries = [
        entry(0, [-1.0, -2.0], 0, texts=texts, tokens=[[-1.0], [-2.0]]),
        entry(1, [-1.0, -2.0], 0, texts=texts, tokens=[None, None]),
    ]
    write_run(tmp_path, entries)
    usable = {run.header.method: run.usable.tolist() for run in load(tmp_path)}
    assert usable["continuation-min"] == [True, False]
    assert usable["continuation-sum"] == [True, True]


def test_continuation_without_tokens_makes_its_question_unusable(tmp_path: Path) -> None:
    write_run(tmp_path, [entry(0, [0.0, -2.0], 1, texts=["", "v"], tokens=[[], [-2.0]])])
    for run in load(tmp_path):
        assert run.usable.tolist() == [False], run


def test_filters_tell_the_prompt_when_continuations_do_not(tmp_path: Path) -> None:
    # A cloze task whose choices happen to be the texts A and B.
    write_run(tmp_path, [entry(0, [-1.0, -2.0], 0, name="continuation-sum")])
    assert {run.header.method for run in load(tmp_path)} == {
        "continuation-sum",
        "continuation-bytes",
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["A", "B", "C"], "choice"),
        (["(A)", "(B)", "(C)"], "choice"),
        (["A.", "B.", "C."], "choice"),
        (["B", "C", "D"], "continuation-sum"),
        (["a cat", "b", "c"], "continuation-sum"),
        (["0", "4", "2"], "continuation-sum"),
    ],
)
def test_letters_are_told_from_texts(tmp_path: Path, texts: list[str], expected: str) -> None:
    write_run(tmp_path, [entry(0, [-1.0, -2.0, -3.0], 0, texts=texts)])
    assert load(tmp_path)[0].header.method == expected


def test_unconditional_requests_of_mutual_information_are_left_out(tmp_path: Path) -> None:
    doubled = entry(0, [-1.0, -2.0, -8.0, -9.0], 1, texts=["u", "v", "u", "v"])
    write_run(tmp_path, [doubled])
    assert load(tmp_path)[0].scores.tolist() == [[-1.0, -2.0]]


def test_choices_in_the_context_have_no_bytes(tmp_path: Path) -> None:
    write_run(tmp_path, [entry(0, [-1.0, -2.0], 1, texts=["same end", "same end"])])
    assert [run.header.method for run in load(tmp_path)] == ["continuation-sum"]


def test_delimiter_is_taken_from_the_results_file(tmp_path: Path) -> None:
    entries = [entry(0, [-6.0, -6.0], 0, texts=["ab", "abc"])]
    write_run(tmp_path, entries, configs={"toy": {"target_delimiter": ""}})
    assert load(tmp_path)[1].scores.tolist() == [[-6 / 3, -6 / 4]]  # the space is the choice's
    write_run(tmp_path, entries, configs={"toy": {"target_delimiter": " "}})
    assert load(tmp_path)[1].scores.tolist() == [[-6 / 2, -6 / 3]]


GOLD = {1: [1, "1", "v", "[1]", [1], 1.0, "1.0", " v "]}
GOLD[UNDECIDED] = ["[0, 1]", [0, 1]]  # several right choices are no single gold
GOLD[-1] = [2, "2", -100, -1, None, "w", ""]


@pytest.mark.parametrize(
    ("target", "gold"), [(target, gold) for gold, targets in GOLD.items() for target in targets]
)
def test_gold_in_all_the_ways_it_is_logged(tmp_path: Path, target: object, gold: int) -> None:
    (tmp_path / "samples_toy.jsonl").write_text(
        early([entry(0, [-1.0, -2.0], target, texts=["u", "v"])])
    )
    assert load(tmp_path)[0].gold.tolist() == [gold]


def test_infinite_and_missing_scores(tmp_path: Path) -> None:
    inf, nan = float("inf"), float("nan")
    entries = [
        entry(0, [-inf, -2.0], 1),
        entry(1, [nan, -2.0], 1),
        entry(2, [-inf, -inf], 1),
    ]
    for write in (recent, early):  # strings, and the NaN and Infinity that are no JSON
        (tmp_path / "samples_toy.jsonl").write_text(write(entries))
        (run,) = load(tmp_path)
        assert run.usable.tolist() == [True, False, False]
        assert run.probs[0].tolist() == [0.0, 1.0]
        assert np.isnan(run.scores[1:]).all()
        assert np.isnan(run.confidence[1:]).all()
        assert run.correct.tolist() == [True, False, False]


def test_header_from_the_results_file(tmp_path: Path) -> None:
    write_run(
        tmp_path,
        ENTRIES,
        model="org/model",
        chat_template="{{ messages }}",
        config={"model_args": {"pretrained": "org/model", "revision": "v2", "dtype": "bfloat16"}},
        **{"n-shot": {"toy": 5}},
    )
    header = load(tmp_path)[0].header
    assert (header.model, header.revision, header.label) == ("org/model", "v2", "org/model@v2")
    assert (header.task, header.n_shot, header.chat_template) == ("toy", 5, True)
    assert (header.lm_eval_version, header.settings) == ("0.4.13", "dtype=bfloat16")
    assert header.date == "2025-03-04T05:06:07.890123"


def test_the_backend_is_a_setting_unless_it_is_transformers(tmp_path: Path) -> None:
    arguments = {"pretrained": "m", "enforce_eager": "True", "dtype": "float32"}
    for backend, expected in (("hf", "dtype=float32"), ("vllm", "backend=vllm, dtype=float32")):
        folder = tmp_path / backend
        write_run(folder, ENTRIES, config={"model": backend, "model_args": arguments})
        assert load(folder)[0].header.settings == expected
    assert len(load(tmp_path)) == 2  # no repetition of one run


def test_header_from_names_alone(tmp_path: Path) -> None:
    log = write_run(tmp_path, ENTRIES, task="my_task_2")
    (log.parent / f"results_{DATE}.json").unlink()
    header = load(log)[0].header
    assert (header.model, header.task) == ("org/model", "my_task_2")
    assert (header.n_shot, header.chat_template) == (None, None)


def test_single_log_finds_its_results_file(tmp_path: Path) -> None:
    log = write_run(tmp_path, ENTRIES, model="some/model")
    log.rename(log.parent.parent / log.name)  # away from the folder that names the model
    (log.parent / f"results_{DATE}.json").rename(tmp_path / f"results_{DATE}.json")
    assert load(tmp_path / log.name)[0].header.model == "some/model"


def test_newest_of_repeated_runs_is_kept_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path, ENTRIES[:1], date="2025-01-01T00-00-00.5")
    write_run(tmp_path, ENTRIES[:2], date="2025-01-02T00-00-00.5")
    write_run(tmp_path / "other", ENTRIES, **{"n-shot": {"toy": 3}})
    assert sorted(len(run) for run in load(tmp_path)) == [2, 3]
    assert "org/model on toy was run 2 times" in caplog.text
    assert "2025-01-02" in caplog.text
    assert len(load(tmp_path, all_runs=True)) == 3


@pytest.fixture
def http_logs(tmp_path: Path) -> Iterator[str]:
    write_run(tmp_path, ENTRIES)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_logs_behind_http(tmp_path: Path, http_logs: str) -> None:
    expected = load(tmp_path)
    tree = load(http_logs)
    assert_same(tree, expected)
    assert tree[0].header.model == "org/model"
    single = load(f"{http_logs}/org__model/samples_toy_{DATE}.jsonl")
    assert_same(single, expected)
    assert single[0].header.lm_eval_version == "0.4.13"


def test_logs_in_memory(tmp_path: Path) -> None:
    log = write_run(tmp_path, ENTRIES)
    fs = fsspec.filesystem("memory")
    fs.pipe({f"/sweep/{p.parent.name}/{p.name}": p.read_bytes() for p in log.parent.iterdir()})
    try:
        assert_same(load("memory://sweep"), load(tmp_path))
        assert load("memory://sweep")[0].header.source.startswith("memory://")
    finally:
        fs.rm("/sweep", recursive=True)


class Bucket(fsspec.AbstractFileSystem):
    """Stands in for s3fs and for the Hub's file system: keys without a leading slash."""

    cachable = False
    folder: Path  # what the bucket holds

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        here = self.folder / path
        if not here.exists():
            raise FileNotFoundError(path)
        infos = [
            {
                "name": str(entry.relative_to(self.folder)),
                "type": "directory" if entry.is_dir() else "file",
                "size": entry.stat().st_size,
                "ETag": str(entry.stat().st_mtime_ns),
            }
            for entry in (here.iterdir() if here.is_dir() else [here])
        ]
        return infos if detail else [info["name"] for info in infos]

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        return (self.folder / path).open(mode)


@pytest.mark.parametrize(
    ("protocol", "place"), [("s3", "bucket/sweep"), ("hf", "datasets/org/details/results")]
)
def test_logs_in_a_bucket_or_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, place: str
) -> None:
    write_run(tmp_path / "remote" / place, ENTRIES)
    kind = type("Kind", (Bucket,), {"protocol": protocol, "folder": tmp_path / "remote"})
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, protocol, kind)
    expected = load(tmp_path / "remote")
    for _ in range(2):  # read, then kept as Parquet
        found = load_predictions(f"{protocol}://{place}", cache=tmp_path / "cache")
        assert_same(found, expected)
        assert found[0].header.model == "org/model"
        assert found[0].header.source.startswith(f"{protocol}://{place}/org__model/samples_toy_")
    assert len(list((tmp_path / "cache").glob("*.parquet"))) == 1
    single = load(found[0].header.source)
    assert_same(single, expected)
    with pytest.raises(UserError, match=f"LOGS {protocol}://{place}/x does not exist"):
        load(f"{protocol}://{place}/x")


class Unreachable(Bucket):
    class NetworkError(Exception):
        """No OSError, as with the Hub's client."""

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        raise self.NetworkError("Name or service not known")


class Interrupted(Bucket):
    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        raise Unreachable.NetworkError("connection reset")


def test_remote_file_systems_fail_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(tmp_path / "bucket", ENTRIES)
    registry = sys.modules["fsspec.registry"]._registry
    for kind, message in (
        (Unreachable, r"LOGS hf://bucket cannot be listed \(NetworkError: Name or service not"),
        (
            Interrupted,
            r"none of 1 log\(s\) can be used: hf://bucket/org__model/samples_toy_.*reset",
        ),
    ):
        named = type("Kind", (kind,), {"protocol": "hf", "folder": tmp_path})
        monkeypatch.setitem(registry, "hf", named)
        with pytest.raises(UserError, match=message):
            load("hf://bucket")


def test_unknown_protocol_says_so() -> None:
    with pytest.raises(UserError, match="LOGS nosuch://x cannot be opened"):
        load("nosuch://x")


def test_example_logs_of_two_tasks_of_one_run_share_its_results_file(tmp_path):
    for task in ("one", "two"):
        write_example_log(tmp_path, model="m", task=task, n=5)
    assert [run.header.n_shot for run in load_predictions(tmp_path, cache=False)] == [0, 0]


def test_history_of_a_sweep_is_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_example_log(tmp_path, model="m", task="toy", n=5)
    (tmp_path / "attempts.jsonl").write_text('{"ended": "done"}\n')
    assert len(load_predictions(tmp_path, cache=False)) > 0
    assert "attempts" not in caplog.text
