"""A family of tiny models, trained once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deltadex.checkpoints.sketch import Sketch
from deltadex.demo import training
from tests.lineage.families import Family


@pytest.fixture(scope="session")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """A tiny base with a folder for its finetunes."""
    with training.quiet():
        return Family.found(tmp_path_factory.mktemp("family"))


@pytest.fixture(scope="session")
def sketches(family: Family) -> Mapping[str, Sketch]:
    """Sketches of adapters and full models of the family, by what they are."""
    with training.quiet():
        a = family.adapter("a", domain=1, seed=1)
        c = family.adapter("c", domain=2, seed=3)
        d = family.adapter("d", domain=3, seed=4)
        on = family.adapter("on", domain=1, part=1, seed=5, after=a)
        full, other = family.full("full", domain=1, seed=1), family.full("other", domain=2, seed=3)
        folders = {
            "a": a, "c": c, "d": d,
            "reseed of a": family.adapter("reseed", domain=1, seed=2),
            "seed of a, same domain": family.adapter("same-seed", domain=1, part=1, seed=1),
            "seed of a, other domain": family.adapter("other-domain", domain=2, seed=1),
            "a trained on": on,
            "a trained on elsewhere": family.adapter("elsewhere", domain=2, seed=6, after=a),
            "a trained on twice": family.adapter("twice", domain=2, seed=8, after=on),
            "full": full, "other full": other,
            "full reseed": family.full("full-reseed", domain=1, seed=2),
            "full trained on": family.full("full-on", domain=1, part=1, seed=5, after=full),
            "full trained on elsewhere": family.full("full-elsewhere", domain=3, seed=5, after=full),
            "full, rounded": family.rounded("rounded", full),
            "mean of fulls": family.mean("mean", [full, other]),
            "linear": family.merge("linear", [a, c], "linear"),
            "cat": family.merge("cat", [a, c, d], "cat"),
            "ties": family.merge("ties", [a, c], "ties", density=0.5),
            "dare": family.merge("dare", [c, d], "dare_linear", density=0.5),
            "svd": family.merge("svd", [a, d], "svd", svd_rank=4),
        }  # fmt: skip
    return {name: family.sketch(folder) for name, folder in folders.items()}
