"""Bases of tiny models, measured, and declarations that the weights contradict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from deltadex.checkpoints.sketch import Sketch
from deltadex.demo import training
from deltadex.lineage.base import BaseVerdict, MeasuredBase, measured_base
from deltadex.lineage.contradictions import declared_parents, judge_lineage
from deltadex.types import FindingKind
from tests.lineage.families import Family


@pytest.fixture(scope="module")
def bases(sketches: Mapping[str, Sketch], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sketch]:
    """The family's base, a twin of it, and a finetune of it that others are trained from."""
    with training.quiet():
        twin = Family.found(tmp_path_factory.mktemp("twin"), seed=7)
    own = sketches["full"]
    return {
        "own": own,
        "twin": twin.sketch(twin.base),
        "finetune": replace(own, base=own.weights),
    }


def test_the_base_of_a_full_model_is_told_from_twin_and_relative(
    sketches: Mapping[str, Sketch], bases: dict[str, Sketch]
) -> None:
    found = measured_base(sketches["other full"], bases)
    assert (found.verdict, found.name, found.consistent) == (BaseVerdict.CONFIRMED, "own", ("own",))
    found = measured_base(sketches["full trained on"], bases)
    assert (found.verdict, found.name) == (BaseVerdict.ANOTHER, "finetune")
    # It learned what the finetune learned, but not from it: too much alike to tell, and never wrong.
    found = measured_base(sketches["full reseed"], bases)
    assert (found.verdict, {*found.consistent}) == (BaseVerdict.UNDETERMINED, {"own", "finetune"})


def test_between_two_bases_nothing_is_claimed(sketches: Mapping[str, Sketch], bases: dict[str, Sketch]) -> None:
    own = sketches["full"]
    between = replace(own, deltas=own.deltas / 2)
    assert measured_base(between, bases).verdict is BaseVerdict.UNDETERMINED
    unrelated = replace(own, deltas=np.random.default_rng(0).normal(size=own.deltas.shape).astype(np.float32))
    assert measured_base(unrelated, bases).name == ""


def test_the_base_of_an_adapter_is_undetermined(sketches: Mapping[str, Sketch], bases: dict[str, Sketch]) -> None:
    assert measured_base(sketches["a"], bases) == MeasuredBase(
        BaseVerdict.UNDETERMINED, "", None, ("own", "twin", "finetune")
    )


def judged(own: Sketch, bases: Mapping[str, Sketch], **parents: Sketch) -> list[str]:
    found = judge_lineage(1, own, base=measured_base(own, bases), declared_base="own", parents=parents)
    assert all(one.kind is FindingKind.LINEAGE_CONTRADICTED for one in found)
    return [str(one.evidence["reason"]) for one in found]


def test_declarations_that_the_weights_contradict_are_findings(
    sketches: Mapping[str, Sketch], bases: dict[str, Sketch]
) -> None:
    assert judged(sketches["a trained on"], bases, a=sketches["a"]) == []
    assert judged(sketches["ties"], bases, a=sketches["a"], c=sketches["c"]) == []
    assert judged(sketches["cat"], bases, a=sketches["a"], c=sketches["c"], d=sketches["d"]) == []
    [reason] = judged(sketches["reseed of a"], bases, a=sketches["a"])
    assert "declared parent a left no trace" in reason
    [reason] = judged(sketches["ties"], bases, a=sketches["a"], d=sketches["d"])
    assert "declared parent d left no trace" in reason
    [reason] = judged(sketches["a"], bases, child=sketches["a trained on"])
    assert "is the later one" in reason
    [reason] = judged(sketches["full trained on"], bases)
    assert "declared base own, but the weights are a step from finetune" in reason


def test_parents_are_read_from_any_tag() -> None:
    assert declared_parents({"deltadex.parents": '["a/1", "team/b/12", "c", 7, "d/x", "e/9999999999"]'}) == [
        ("a", 1), ("team/b", 12),
    ]  # fmt: skip
    for text in ("", "{", '{"a": 1}', "7", "[" * 30_000, '"a/1"', "null"):
        assert declared_parents({"deltadex.parents": text}) == []
    assert declared_parents({}) == []
