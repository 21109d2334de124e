"""Numbers: binning, confidence, metrics and inference on plain arrays (numpy and scipy only)."""
