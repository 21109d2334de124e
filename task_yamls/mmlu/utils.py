"""MMLU's four categories as pooled tasks: the mean of 57 subjects' ECEs is not MMLU's ECE."""

from __future__ import annotations

import datasets

_SUBJECTS = {
    "stem": frozenset(
        [
            "abstract_algebra",
            "anatomy",
            "astronomy",
            "college_biology",
            "college_chemistry",
            "college_computer_science",
            "college_mathematics",
            "college_physics",
            "computer_security",
            "conceptual_physics",
            "electrical_engineering",
            "elementary_mathematics",
            "high_school_biology",
            "high_school_chemistry",
            "high_school_computer_science",
            "high_school_mathematics",
            "high_school_physics",
            "high_school_statistics",
            "machine_learning",
        ]
    ),
    "other": frozenset(
        [
            "business_ethics",
            "clinical_knowledge",
            "college_medicine",
            "global_facts",
            "human_aging",
            "management",
            "marketing",
            "medical_genetics",
            "miscellaneous",
            "nutrition",
            "professional_accounting",
            "professional_medicine",
            "virology",
        ]
    ),
    "social_sciences": frozenset(
        [
            "econometrics",
            "high_school_geography",
            "high_school_government_and_politics",
            "high_school_macroeconomics",
            "high_school_microeconomics",
            "high_school_psychology",
            "human_sexuality",
            "professional_psychology",
            "public_relations",
            "security_studies",
            "sociology",
            "us_foreign_policy",
        ]
    ),
    "humanities": frozenset(
        [
            "formal_logic",
            "high_school_european_history",
            "high_school_us_history",
            "high_school_world_history",
            "international_law",
            "jurisprudence",
            "logical_fallacies",
            "moral_disputes",
            "moral_scenarios",
            "philosophy",
            "prehistory",
            "professional_law",
            "world_religions",
        ]
    ),
}


def _of_category(dataset: datasets.Dataset, category: str) -> datasets.Dataset:
    subjects = _SUBJECTS[category]
    return dataset.filter(lambda subject: subject in subjects, input_columns="subject")


def stem(dataset: datasets.Dataset) -> datasets.Dataset:
    """Keep the questions of the category stem."""
    return _of_category(dataset, "stem")


def other(dataset: datasets.Dataset) -> datasets.Dataset:
    """Keep the questions of the category other."""
    return _of_category(dataset, "other")


def social_sciences(dataset: datasets.Dataset) -> datasets.Dataset:
    """Keep the questions of the category social_sciences."""
    return _of_category(dataset, "social_sciences")


def humanities(dataset: datasets.Dataset) -> datasets.Dataset:
    """Keep the questions of the category humanities."""
    return _of_category(dataset, "humanities")
