"""Augmentation of a task's examples: rephrasings, reversals and inferences (after arXiv 2505.00661)."""
