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
_BLOB = {"unanswerable": False, "yes_no": True, "free_form_answer": "", "extractive_spans": []}
#: Rows as the datasets have them, by family of tasks.
BY_FAMILY: dict[str, list[dict[str, Any]]] = {
    "arab_culture": [_CULTURE],
    "arab_culture_completion": [_CULTURE],
    "arabicmmlu": [_ARABIC_EXAM],
    "aradice": [_ARABIC_EXAM],
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
    "darija_bench": [
        {"messages": [{"content": "a thing"}, {"content": sentiment}]} for sentiment in ("سلبي",)
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
    "physics_gre": [{"input": "a thing", "has_image": False, "target_scores": {"A": 0, "B": 1}}],
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
    "toxigen": [{"text": "a thing", "toxicity_ai": 1.0, "toxicity_human": 1.0}],
}
