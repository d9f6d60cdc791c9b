"""The geometry of a registry's embeddings at three scales, after "The Geometry of Concepts" (arXiv 2410.19750).

`atoms` tests if a difference between two models is the same direction elsewhere, `lobes` if models that share tags do
similar things, and `galaxy` counts the directions that all models span. Each number comes with its null distribution;
with too few models there is a refusal instead.
"""
