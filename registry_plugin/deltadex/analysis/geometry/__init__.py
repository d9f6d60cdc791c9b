"""The geometry of a registry's embeddings at three scales, after "The Geometry of Concepts" (arXiv 2410.19750).

`atoms`: is a difference between two models the same direction elsewhere? `lobes`: do models that share tags do similar
things? `galaxy`: how many directions do all models span? Each number comes with what chance gives, or with a refusal.
"""
