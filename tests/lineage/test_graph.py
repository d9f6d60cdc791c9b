"""Relations of a version, from the store."""

from __future__ import annotations

import json

import numpy as np
from typer.testing import CliRunner

from deltadex import cli
from deltadex.access import HIDDEN, Person, Role
from deltadex.findings import queries as findings
from deltadex.lineage.graph import Edge, lineage
from deltadex.store.database import Database, Transaction
from deltadex.types import Finding, FindingKind
from tests.stored import ADMIN, REGISTRY, discovered, embedded

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
    copy = discovered(tx, "copy", source="models:/own/2", created_ms=9)
    merge, small, near = (embedded(tx, name, VECTOR) for name in ("merge", "small", "near"))
    pair(tx, copy, own, {"weights_digest": "x"})
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
        assert len(found) == 7
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
