"""The section `bom.cdx.json`: a CycloneDX 1.7 ML-BOM, validated against the schema.

cyclonedx-python-lib 11 makes the document, the pedigree and the licences. It has no types for model cards, so that part
is added as JSON (ECMA-424, `modelCard`); the library's validator then checks the whole.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from deltadex.errors import EvidenceError
from deltadex.evidence.extra import evidence_extra
from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.findings import status_words
from deltadex.evidence.lineage import name_of
from deltadex.evidence.source import PackSource, as_json
from deltadex.lineage.graph import Edge, Relation
from deltadex.types import VersionRow

if TYPE_CHECKING:
    from cyclonedx.model.component import Component, Pedigree
    from cyclonedx.model.license import License

PATH = "bom.cdx.json"
_PREFIX = "deltadex:"
#: Directed relations to something that a version does not come from.
_NO_ORIGIN = (Relation.NEXT,)


def text(source: PackSource) -> str:
    """Return the section.

    Raises
    ------
    EvidenceError
        A package of the extra `evidence` is not installed, or the document is not valid.
    """
    with evidence_extra():
        described = _library_part(source.facts)
    described["metadata"]["component"]["modelCard"] = _model_card(source.facts)
    written = as_json(described)
    validate(written)
    return written


def validate(document: str) -> None:
    """Check a document against the strict schema of CycloneDX 1.7.

    Raises
    ------
    EvidenceError
        It is not valid, or the validator is not installed.
    """
    with evidence_extra():
        from cyclonedx.exception import MissingOptionalDependencyException
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    try:
        fault = JsonStrictValidator(SchemaVersion.V1_7).validate_str(document)
    except (MissingOptionalDependencyException, ValueError, RecursionError) as error:
        raise EvidenceError(f"{PATH} can't be validated: {error}", hint="`pip install deltadex[evidence]`.") from error
    if fault is not None:
        raise EvidenceError(
            f"{PATH} is not valid CycloneDX 1.7: {str(fault)[:400]}",
            hint="This is a bug in Deltadex: please report it.",
        )


def _library_part(facts: EvidenceFacts) -> dict[str, Any]:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output.json import JsonV1Dot7

    ref = facts.version.registered.ref
    model = _component(
        ref.name,
        version=str(ref.version),
        licensed=facts.licenses.of_finetune,
        bom_ref=f"model:{quote(facts.label, safe='/')}",
        properties=_properties(facts),
        pedigree=_pedigree(facts),
    )
    bom = Bom()
    bom.metadata.timestamp = facts.made_at
    tool = Component(name="deltadex", version=version("deltadex"), type=ComponentType.APPLICATION)
    bom.metadata.tools = ToolRepository(components=[tool])
    bom.metadata.component = model
    described: dict[str, Any] = json.loads(JsonV1Dot7(bom).output_as_string())
    return described


def _component(
    name: str,
    *,
    version: str | None = None,
    licensed: str | None = None,
    bom_ref: str | None = None,
    properties: dict[str, str] | None = None,
    pedigree: Pedigree | None = None,
) -> Component:
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=version,
        bom_ref=bom_ref,
        licenses=[_license(licensed)] if licensed else None,
        properties=[Property(name=_PREFIX + key, value=value) for key, value in (properties or {}).items()],
        pedigree=pedigree,
    )


def _license(declared: str) -> License:
    from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement
    from cyclonedx.spdx import fixup_id

    known, said = fixup_id(declared), LicenseAcknowledgement.DECLARED
    if known:
        return DisjunctiveLicense(id=known, acknowledgement=said)
    return DisjunctiveLicense(name=declared, acknowledgement=said)


def _properties(facts: EvidenceFacts) -> dict[str, str]:
    """Return what CycloneDX has no field for. As a hash, the digest of tensors would be taken for that of a file."""
    row = facts.version
    found = {
        "registry": facts.registry,
        "source": facts.source,
        "run": row.registered.run_id or "",
        "created-ms": str(row.registered.ref.created_ms),
        "weights-digest": row.weights_digest or "",
        "decision-log-head": facts.log["head"],
    }
    for stored in facts.embeddings[:1]:
        found |= {
            "recipe-digest": stored.recipe.digest,
            "strength": f"{stored.strength:.6g}",
            "probe-agreement": f"{stored.agreement:.6g}",
        }
    return {key: value for key, value in found.items() if value}


def _pedigree(facts: EvidenceFacts) -> Pedigree:
    from cyclonedx.model.component import Pedigree

    own = facts.version.id
    ancestors, descendants, variants = list[Any](), list[Any](), list[Any]()
    for number, edge in enumerate(facts.edges):
        if edge.relation in _NO_ORIGIN:
            continue
        other = edge.target if isinstance(edge.source, VersionRow) and edge.source.id == own else edge.source
        if not edge.has_order:
            variants.append(_relative(facts, edge, other, number))
        else:
            (ancestors if other is edge.source else descendants).append(_relative(facts, edge, other, number))
    # Without an order the relation itself is what is known: CycloneDX calls these variants.
    return Pedigree(
        ancestors=ancestors, descendants=descendants, variants=variants, notes=" ".join(facts.remarks) or None
    )


def _relative(facts: EvidenceFacts, edge: Edge, other: VersionRow | str, number: int) -> Component:
    numbers = {"similarity": edge.similarity, "p": edge.p, "weight": edge.weight}
    measured = {
        "relation": edge.relation.value,
        "known-by": "declaration" if edge.relation.is_declared else "measurement",
        **{name: f"{value:.6g}" for name, value in numbers.items() if value is not None},
    }
    licensed = None
    if edge.relation is Relation.BASE:
        licensed = facts.licenses.of_base
        if facts.base is not None:
            measured["measured-verdict"] = facts.base.verdict.value
            measured |= {"measured-p": f"{facts.base.p:.6g}"} if facts.base.p is not None else {}
        if facts.embeddings:
            measured["base-and-prompts-digest"] = facts.embeddings[0].recipe.base_digest
    return _component(
        name_of(facts, other),
        licensed=licensed,
        properties=measured,
        # A number of the document: one of the store would tell hidden versions apart.
        bom_ref=f"relation-{number}",
    )


def _model_card(facts: EvidenceFacts) -> dict[str, Any]:
    """Return the part that the library has no types for. What was not logged is left out, never guessed."""
    data = [
        {"type": "dataset", "name": name, "contents": {"properties": [{"name": f"{_PREFIX}as-logged", "value": value}]}}
        for name, value in sorted(facts.record.get("data", {}).items())
    ]
    metrics = [
        {"type": name, "value": f"{value!r}"} for name, value in sorted(facts.version.provenance.metrics.items())
    ]
    limits = [
        f"Finding {row.id}: {row.finding.kind.replace('_', ' ')}, {status_words(row)}"
        for row in facts.findings
        if row.is_found
    ]
    parameters = [
        {"name": f"{_PREFIX}parameter:{name}", "value": value}
        for name, value in sorted(facts.record.get("parameters", {}).items())
    ]
    considered = {"useCases": [facts.intended_use] if facts.intended_use else [], "technicalLimitations": limits}
    card = {
        "modelParameters": {"datasets": data} if data else {},
        "quantitativeAnalysis": {"performanceMetrics": metrics} if metrics else {},
        "considerations": {name: values for name, values in considered.items() if values},
        "properties": parameters,
    }
    return {name: value for name, value in card.items() if value}
