"""Relations of a version, from the store."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from deltadex import cli
from deltadex.access import HIDDEN, Person, Role
from deltadex.findings import queries as findings
from deltadex.lineage.declared import contradicted
from deltadex.lineage.graph import Edge, lineage
from deltadex.lineage.remarks import base_and_remarks
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from deltadex.versions.queries import by_ids
from tests.lineage.made import beginning, linear, trained_on
from tests.stored import ADMIN, REGISTRY, discovered, embedded, sketched

VECTOR = np.array([1.0, 0.0])


def pair(tx: Transaction, newer: int, older: int, evidence: dict[str, object], *, measure: float | None = None) -> None:
    kind = FindingKind.EXACT_DUPLICATE if measure is None else FindingKind.NEAR_DUPLICATE
    found = Finding(kind, newer, older, measure=measure, evidence=evidence)
    findings.replace(tx, [found], version_id=newer, recipe_id=None, kinds=[kind])


def said(edges: tuple[Edge, ...]) -> list[tuple[str, str, str, bool]]:
    return [
        (each.source if isinstance(each.source, str) else each.source.label, each.target.label, each.in_words,
         each.relation.is_declared)
        for each in edges
    ]  # fmt: skip


def family(tx: Transaction) -> int:
    embedded(tx, "own", VECTOR, version=1, base="acme/lm")
    own = embedded(tx, "own", VECTOR, version=2, base="acme/lm")
    embedded(tx, "own", VECTOR, version=3, base="acme/lm")
    embedded(tx, "own", VECTOR, version=4, base="acme/lm")
    copy = embedded(tx, "copy", VECTOR, weights="own/2", source="models:/own/2", created_ms=9)
    twin = embedded(tx, "twin", VECTOR, weights="own/2")
    merge, small, near = (embedded(tx, name, VECTOR) for name in ("merge", "small", "near"))
    pair(tx, copy, own, {})
    pair(tx, twin, own, {})
    pair(tx, merge, own, {"reason": "an adapter and its merge"})
    pair(tx, small, own, {"bits": 4, "reason": "rounded"})
    pair(tx, near, own, {}, measure=0.98)
    return own


def test_declared_relations_come_before_measured_ones(database: Database) -> None:
    with database.transaction() as tx:
        found = said(lineage(tx, ADMIN, family(tx)))
    assert found == [
        ("acme/lm", "own/2", "base of", True),
        ("own/2", "copy/1", "copied as", True),
        ("own/1", "own/2", "next version", True),
        ("own/2", "own/3", "next version", True),
        ("own/2", "twin/1", "same weights", False),
        ("own/2", "merge/1", "adapter and its merge", False),
        ("own/2", "small/1", "quantised copy", False),
        ("own/2", "near/1", "near duplicate, 0.980", False),
    ]


def test_a_copy_knows_its_original_and_a_tag_its_base(database: Database) -> None:
    with database.transaction() as tx:
        discovered(tx, "own", 2)
        copy = discovered(tx, "copy", source="models:/own/2", tags={"deltadex.base": "acme/said"})
        assert said(lineage(tx, ADMIN, copy)) == [
            ("acme/said", "copy/1", "base of", True), ("own/2", "copy/1", "copied as", True),
        ]  # fmt: skip
        assert lineage(tx, ADMIN, discovered(tx, "alone")) == ()


def test_hidden_relations_are_masked_and_hidden_versions_have_none(database: Database) -> None:
    with database.transaction() as tx:
        own = family(tx)
        found = lineage(tx, Person("eve", Role.VIEWER, ("own",)), own)
        assert len(found) == 8
        assert {each.target.registered.ref.name for each in found} == {"own", HIDDEN}
        assert lineage(tx, Person("eve", Role.VIEWER, ("copy",)), own) == ()


def test_the_command_tells_declared_from_measured(database: Database) -> None:
    with database.transaction() as tx:
        family(tx)
    variables = {"DELTADEX_DATABASE__URL": database.url, "DELTADEX_REGISTRY": REGISTRY, "COLUMNS": "80"}
    shown = CliRunner().invoke(cli.app, ["lineage", "own/2"], env=variables, catch_exceptions=False)
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "near duplicate, 0.980" in shown.output
    found = json.loads(CliRunner().invoke(cli.app, ["lineage", "own/2", "--json"], env=variables).output)
    assert found["relations"][0] == {
        "from": "acme/lm", "to": {"name": "own", "version": 2}, "relation": "base of", "is_declared": True,
        "has_order": True, "similarity": None, "p": None, "weight": None,
    }  # fmt: skip
    assert found["base"] is None
    drawn = CliRunner().invoke(cli.app, ["lineage", "own/2", "--dot"], env=variables, catch_exceptions=False)
    assert drawn.output.startswith("digraph {")


def measured_family(tx: Transaction) -> dict[str, int]:
    """A chain of two, a merge of its end with another adapter, and one that only says that it comes from there."""
    parent, other = beginning(1), beginning(2)
    child = trained_on(parent, 3)
    ids = {"parent": embedded(tx, "tuned", VECTOR, version=1), "child": embedded(tx, "tuned", VECTOR, version=2)}
    ids["new"] = embedded(tx, "tuned", VECTOR, version=3)
    for name, tag in {"other": "[]", "merge": '["tuned/2", "other/1"]', "liar": '["tuned/1", "nobody/9"]'}.items():
        ids[name] = embedded(tx, name, VECTOR, tags={"deltadex.parents": tag})
    found = {"parent": parent, "other": other, "child": child, "merge": linear(child, other)}
    for name, sketch in {**found, "new": beginning(4), "liar": beginning(5)}.items():
        sketched(tx, ids[name], sketch)
    return ids


def test_measured_parents_and_merges_have_an_order_and_a_p_value(database: Database) -> None:
    with database.transaction() as tx:
        ids = measured_family(tx)
        found = {
            (str(edge.relation), edge.source.label, edge.target.label): edge
            for edge in lineage(tx, ADMIN, ids["child"])
            if not isinstance(edge.source, str)
        }
    assert {key for key, edge in found.items() if not edge.relation.is_declared} == {
        ("trained on as", "tuned/1", "tuned/2"), ("merged into", "tuned/2", "merge/1"),
    }  # fmt: skip
    parent, merge = found["trained on as", "tuned/1", "tuned/2"], found["merged into", "tuned/2", "merge/1"]
    assert parent.has_order
    assert parent.p is not None
    assert parent.p < 1e-9
    assert merge.weight is not None
    assert 0.4 < merge.weight < 0.6


def test_a_declared_parent_without_a_trace_is_a_finding(database: Database) -> None:
    with database.transaction() as tx:
        ids = measured_family(tx)
        rows = by_ids(tx, list(ids.values()))
        found = {name: contradicted(tx, rows[version_id]) for name, version_id in ids.items()}
        declared = [edge for edge in lineage(tx, ADMIN, ids["liar"]) if edge.relation == "declared parent of"]
    assert [name for name, findings in found.items() if findings] == ["liar"]
    assert "declared parent tuned/1 left no trace" in str(found["liar"][0].evidence["reason"])
    assert [edge.source.label for edge in declared if not isinstance(edge.source, str)] == ["tuned/1"]


def test_a_new_beginning_and_an_unknown_base_are_said(database: Database) -> None:
    with database.transaction() as tx:
        ids = measured_family(tx)
        base, remarks = base_and_remarks(tx, ADMIN, ids["child"])
        unsampled = base_and_remarks(tx, ADMIN, embedded(tx, "old", VECTOR))
    assert base is not None
    assert base.verdict == "undetermined"
    assert remarks[0].startswith("Base by the weights: undetermined.")
    assert remarks[1].startswith(
        "tuned/3 was not trained on from tuned/2: their A matrices have independent beginnings"
    )
    assert len(remarks) == 2
    assert unsampled[0] is None
    assert "no sample of the weights" in unsampled[1][0]


def test_hidden_relatives_are_masked(database: Database) -> None:
    with database.transaction() as tx:
        ids = measured_family(tx)
        found = lineage(tx, Person("eve", Role.VIEWER, ("tuned",)), ids["child"])
        assert {edge.target.registered.ref.name for edge in found if edge.relation == "merged into"} == {HIDDEN}
        assert base_and_remarks(tx, Person("eve", Role.VIEWER, ("other",)), ids["child"]) == (None, ())


def test_hidden_bases_are_masked(database: Database) -> None:
    viewer = Person("eve", Role.VIEWER, ("sql-*",))
    with database.transaction() as tx:
        secret = embedded(tx, "merger-rumour", VECTOR, base="models:/merger-base/3")
        own = embedded(tx, "sql-writer", VECTOR, base="models:/merger-base/2")
        sketched(tx, secret, beginning(1))
        sketched(tx, own, beginning(2))
        [edge] = lineage(tx, viewer, own)
        assert edge.source == HIDDEN
        assert "merger" not in repr(base_and_remarks(tx, viewer, own))
        assert "merger" in repr(base_and_remarks(tx, ADMIN, own))
