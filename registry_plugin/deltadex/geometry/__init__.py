"""Geometry of a registry's embeddings, after "The Geometry of Concepts" (arXiv 2410.19750).

`atoms` tests if a difference between two models is the same direction elsewhere. Each number comes with its null
distribution; with too few models there is a refusal instead. The larger scales of the paper were measured on real
finetunes and dropped: see docs/analyses.md.
"""
