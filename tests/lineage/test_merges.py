"""Parents of merges that peft made of tiny models."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deltadex.checkpoints.sketch import Sketch
from deltadex.lineage.measure import LinkKind, relations
from deltadex.lineage.merges import merged_from

PARENTS = {"linear": {"a", "c"}, "cat": {"a", "c", "d"}, "ties": {"a", "c"}, "dare": {"c", "d"}, "svd": {"a", "d"},
           "mean of fulls": {"full", "other full"}}  # fmt: skip


def links(sketches: Mapping[str, Sketch], name: str) -> list[tuple[LinkKind, str, str, bool]]:
    names = list(sketches)
    by_number = dict(enumerate(sketches.values()))
    coarse = {number: one.coarse() for number, one in by_number.items()}
    found = relations(names.index(name), coarse, lambda ids: {each: by_number[each] for each in ids})
    return [(one.kind, names[one.earlier], names[one.later], one.is_directed) for one in found]


@pytest.mark.parametrize("method", PARENTS)
def test_the_parents_of_a_merge_are_named(sketches: Mapping[str, Sketch], method: str) -> None:
    found = {(kind, earlier) for kind, earlier, later, _ in links(sketches, method) if later == method}
    assert found == {(LinkKind.MERGED, parent) for parent in PARENTS[method]}


@pytest.mark.parametrize("parent", ["c", "other full"])
def test_a_parent_knows_its_merges(sketches: Mapping[str, Sketch], parent: str) -> None:
    into = {later for kind, earlier, later, _ in links(sketches, parent) if kind is LinkKind.MERGED}
    assert into == {method for method, parents in PARENTS.items() if parent in parents}


def test_weights_of_a_plain_sum_are_found(sketches: Mapping[str, Sketch]) -> None:
    found = merged_from(sketches["cat"], {0: sketches["a"], 1: sketches["c"], 2: sketches["d"]}, comparisons=20)
    assert found is not None
    assert found.weights == pytest.approx({0: 1 / 3, 1: 1 / 3, 2: 1 / 3}, abs=1e-3)
    assert found.explained == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["a", "c", "reseed of a", "a trained on", "full", "full reseed"])
def test_what_was_trained_is_no_merge(sketches: Mapping[str, Sketch], name: str) -> None:
    others = {number: one for number, (other, one) in enumerate(sketches.items()) if other not in (name, *PARENTS)}
    assert merged_from(sketches[name], others, comparisons=20) is None


def test_a_chain_links_each_version_to_the_next_only(sketches: Mapping[str, Sketch]) -> None:
    middle = [link for link in links(sketches, "a trained on") if link[0] is LinkKind.TRAINED_ON]
    assert sorted(middle) == [
        (LinkKind.TRAINED_ON, "a", "a trained on", True),
        (LinkKind.TRAINED_ON, "a trained on", "a trained on twice", True),
    ]
    last = [link for link in links(sketches, "a trained on twice") if link[2] == "a trained on twice"]
    assert last == [(LinkKind.TRAINED_ON, "a trained on", "a trained on twice", True)]
