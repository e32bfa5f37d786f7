"""Masked prediction: what HuBERT and its relatives learn from."""
