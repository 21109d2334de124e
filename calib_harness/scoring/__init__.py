"""Scoring: from token lists to token log-probabilities; knows torch but not lm-eval."""
