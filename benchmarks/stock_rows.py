"""Rows of datasets whose columns depend on each other, so that no search finds them."""

from __future__ import annotations

from typing import Any

TEXTS = ["a thing", "another", "some words", "the rest"]

_CULTURE = {
    "country": "Egypt",
    "region": "Nile Valley",
    "first_statement": "a thing",
    "options": {"arabic_keys": list("أبج"), "english_keys": list("ABC"), "text": TEXTS[:3]},
    "answer_key": {"arabic_answer_key": "أ", "english_answer_key": "A"},
}
_ARABIC_EXAM = {
    "Level": "High",
    "Country": "Egypt",
    "Subject": "History",
    "Context": "",
    "Answer Key": "A",
    "Question": "a thing",
    "question": "a thing",
    "context": "",
    "Option 5": "one more",
    **{f"Option {i + 1}": text for i, text in enumerate(TEXTS)},
    "options": [*TEXTS, "one more"],
}
_LETTERED = dict(zip("ABCDE", [*TEXTS, "one more"], strict=True))
_OPEN_ARABIC: list[dict[str, Any]] = [
    {"query": "a thing", "label": "0", **{f"sol{i}": text for i, text in enumerate(TEXTS)}},
    {
        "subject": "a_thing",
        "question": "a thing",
        **{letter: _LETTERED[letter] for letter in "ABCD"},
        "answer": "A",
    },
    {"question": "a thing", "passage": "another", "answer": True},
]
_LABELLED = {"text": TEXTS, "label": list("ABCD")}
_FIVE_LABELLED = {"text": list(_LETTERED.values()), "label": list("ABCDE")}

_OPENBOOKQA = {"question_stem": "a thing", "choices": _LABELLED, "answerKey": "A"}


def _shots(prefix: str, n: int, shot: dict[str, Any]) -> dict[str, Any]:
    """Columns of shots as metabench has them: one for each part of each shot."""
    return {f"{prefix}_{key}_shot_{i}": shot[key] for i in range(1, n + 1) for key in shot}


_METABENCH: list[dict[str, Any]] = [
    {
        "question": "a thing",
        "choices": _LABELLED,
        "answerKey": "A",
        "alltwentyfiveshot_longprompt": "",
        **_shots(
            "arc",
            25,
            {"question": "another", "answerKey": "A", "choices": _LABELLED, "idx": 0},
        ),
    },
    {
        "subject": "a_thing",
        "question": "a thing",
        "choices": TEXTS,
        "answer": 0,
        "allfiveshot_longprompt": "",
        **_shots("mmlu", 5, {"question": "another", "choices": TEXTS, "answers": 0, "ind": 0}),
    },
    {
        "ctx_a": "a thing",
        "ctx_b": "another",
        "ctx": "",
        "activity_label": "words",
        "endings": TEXTS,
        "label": "0",
        "alltenshot_longprompt": "",
        **_shots(
            "hellaswag",
            10,
            {
                **dict.fromkeys(("ctx_a", "ctx_b", "ctx", "activity_labels"), "words"),
                "endings": TEXTS,
                "label": "0",
                **dict.fromkeys(("ind", "source_id", "split", "split_type"), ""),
            },
        ),
    },
    {
        "sentence": "a _ thing",
        "option1": "some",
        "option2": "rest",
        "answer": "1",
        "allfiveshot_longprompt": "",
        **_shots(
            "winogrande",
            5,
            {"prompt": "a _ thing", "answer": "1", "idx": 0, "option1": "some", "option2": "rest"},
        ),
    },
]
_BLOB = {"unanswerable": False, "yes_no": True, "free_form_answer": "", "extractive_spans": []}
#: Rows as the datasets have them, by family of tasks.
BY_FAMILY: dict[str, list[dict[str, Any]]] = {
    "afrobench": [
        {
            "story": "a thing",
            "question": "another",
            **{f"options_{letter}": _LETTERED[letter] for letter in "ABCD"},
            "Answer": "A",
        }
    ],
    "arab_culture": [_CULTURE],
    "arab_culture_completion": [_CULTURE],
    "arabicmmlu": [_ARABIC_EXAM],
    "arabic_leaderboard_complete": _OPEN_ARABIC,
    "arabic_leaderboard_light": _OPEN_ARABIC,
    "aradice": [_OPENBOOKQA, {**_ARABIC_EXAM, "options": _LETTERED}],
    "bbq": [
        {
            "category": "Age",
            "question_polarity": "neg",
            "context_condition": "ambig",
            "context": "a thing",
            "question": "another",
            "label": 2,
            "ans0": "The old",
            "ans1": "The young",
            "ans2": "Not known",
            "answer_info": {
                "ans0": ["a", "old"],
                "ans1": ["b", "nonOld"],
                "ans2": ["Unknown", "unknown"],
            },
            "additional_metadata": {"stereotyped_groups": ["old"], "subcategory": "None"},
        }
    ],
    "click": [
        {
            "paragraph": "",
            "question": "a thing",
            "choices": TEXTS,
            "answer": "another",
            "id": "economy geography history KHB law politics popular society tradition TK grammar "
            "KedU functional textual",
        }
    ],
    "commonsense_qa": [{"question": "a thing", "choices": _FIVE_LABELLED, "answerKey": "A"}],
    "darija_bench": [
        {"messages": [{"content": "a thing"}, {"content": sentiment}]} for sentiment in ("سلبي",)
    ],
    "evalita_llm": [{"text": "a thing", "opos": "1", "oneg": "0"}],
    "french_bench": [
        {
            "context": "a thing",
            "question": "a <...> thing",
            **{f"answer{letter}": _LETTERED[letter] for letter in "ABCD"},
            "answer": "A",
        },
        {"text": "a thing", "topic": "another", "polarity": "positif"},
    ],
    "galician_bench": [_OPENBOOKQA],
    "glianorex": [
        {
            "question": "a thing",
            "options": {letter: _LETTERED[letter] for letter in "ABCD"},
            "answer_idx": "A",
            "language": language,
        }
        for language in ("en", "fr")
    ],
    "indicparam": [
        {
            "question_text": "a thing",
            "subject": "a thing",
            "correct_answer": "a",
            **{f"option_{letter}": text for letter, text in zip("abcd", TEXTS, strict=True)},
        }
    ],
    "japanese_leaderboard": [
        {"question": "a thing", "label": 0, **{f"choice{i}": f"thing {i}" for i in range(5)}}
    ],
    "mathqa": [
        {"Problem": "a thing", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "a"}
    ],
    "metabench": _METABENCH,
    "noreval": [{"question": "a thing", "choices": _FIVE_LABELLED, "answer": "A"}],
    "openbookqa": [_OPENBOOKQA],
    "physics_gre": [{"input": "a thing", "has_image": False, "target_scores": {"A": 0, "B": 1}}],
    "portuguese_bench": [{"premise": "a thing", "hypothesis": "another", "entailment_judgment": 1}],
    "qa4mre": [
        {
            "document_str": "a thing",
            "question_str": "another",
            "correct_answer_id": "1",
            "answer_options": {"answer_id": list("1234"), "answer_str": TEXTS},
        }
    ],
    "qasper": [
        {
            "title": "a thing",
            "abstract": "another",
            "qas": {"question": ["a thing"], "answers": [{"answer": [_BLOB]}]},
        }
    ],
    "race": [
        {
            "article": "a thing",
            "problems": str([{"question": "another", "answer": "A", "options": TEXTS}]),
        }
    ],
    "turkishmmlu": [{"question": "a thing", "choices": list(_LETTERED.values()), "answer": "A"}],
    "winogender": [
        {
            "sentence": "a thing",
            "pronoun": "it",
            "occupation": "some",
            "participant": "another",
            "label": 0,
            "gender": gender,
        }
        for gender in ("female", "male", "neutral")
    ],
    "spanish_bench": [_OPENBOOKQA],
    "super_glue": [
        {"sentence1": "a thing", "sentence2": "another", "start1": 0, "end1": 1, "label": 0}
    ],
    "toxigen": [{"text": "a thing", "toxicity_ai": 1.0, "toxicity_human": 1.0}],
}
