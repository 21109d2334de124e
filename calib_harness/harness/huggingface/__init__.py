"""Token log-probabilities from lm-eval's Hugging Face backend: shared prefixes, else plainly."""
