"""The section `bom.spdx.json`: an SPDX 3.0.1 document with the AI profile, by spdx-python-model.

The bindings are generated from SPDX's own model: they refuse wrong types and missing required properties, and the
document is read back by them. Some properties that the AI profile requires are facts that a person must know, such as
the supplier; where they are not stated, the document says NoAssertion, or leaves them out and doesn't claim them.
"""

from __future__ import annotations

import io
import json
from importlib.metadata import version
from types import ModuleType
from typing import Any
from uuid import uuid4

from deltadex.evidence.extra import evidence_extra
from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.lineage import name_of
from deltadex.evidence.source import PackSource
from deltadex.lineage.graph import Relation
from deltadex.types import VersionRow

PATH = "bom.spdx.json"
_NO_ASSERTION = "https://spdx.org/rdf/3.0.1/terms/ExpandedLicensing/NoAssertionLicense"
#: Relations to what the version comes from.
_ORIGINS = (Relation.BASE, Relation.PARENT, Relation.COPY, Relation.TRAINED_ON, Relation.MERGED)


def text(source: PackSource) -> str:
    """Return the section.

    Raises
    ------
    EvidenceError
        The package is not installed.
    """
    with evidence_extra():
        from spdx_python_model import v3_0_1 as spdx
    document = _Document(spdx, source.facts)
    document.fill()
    return document.as_json()


class _Document:
    """One document in the making; every element has the same creation info."""

    def __init__(self, spdx: ModuleType, facts: EvidenceFacts) -> None:
        self._spdx, self._facts = spdx, facts
        self._place = f"urn:uuid:{uuid4()}"
        self._set = spdx.SHACLObjectSet()
        self._creation = spdx.CreationInfo(
            _id="_:creation", created=facts.made_at.replace(microsecond=0), specVersion="3.0.1"
        )
        agent = self._add("SoftwareAgent", name=f"deltadex {version('deltadex')}")
        self._creation.createdBy = [agent._id]

    def fill(self) -> None:
        """Add the model, its licences, base, parents, data sets and the document itself."""
        facts, spdx = self._facts, self._spdx
        model = self._model()
        self._relate("hasDeclaredLicense", model, [self._license(facts.licenses.of_finetune)])
        self._relate("hasConcludedLicense", model, [_NO_ASSERTION])
        for edge in facts.edges:
            if edge.relation in _ORIGINS and isinstance(edge.target, VersionRow) and edge.target.id == facts.version.id:
                origin = self._add("ai_AIPackage", name=name_of(facts, edge.source), comment=edge.in_words)
                origin.software_primaryPurpose = spdx.software_SoftwarePurpose.model
                self._relate("descendantOf", model, [origin._id], comment=edge.in_words)
                if edge.relation is Relation.BASE:
                    self._relate("hasDeclaredLicense", origin, [self._license(facts.licenses.of_base)])
        sets = [
            self._add("dataset_DatasetPackage", name=name, comment=f"As logged: {value}",
                      dataset_datasetType=[spdx.dataset_DatasetType.noAssertion],
                      software_primaryPurpose=spdx.software_SoftwarePurpose.data)
            for name, value in sorted(facts.record.get("data", {}).items())
        ]  # fmt: skip
        if sets:
            self._relate("trainedOn", model, [each._id for each in sets])
        profiles = spdx.ProfileIdentifierType
        self._add(
            "SpdxDocument",
            name=f"Evidence about {facts.label}",
            rootElement=[model._id],
            element=[each._id for each in self._set.objects if isinstance(each, spdx.Element)],
            profileConformance=[profiles.core, profiles.software, profiles.simpleLicensing],
            comment="It uses elements of the AI and dataset profiles. It does not claim to conform to these: they also "
            "require what nobody has stated here, such as the supplier.",
        )

    def as_json(self) -> str:
        """Return the document, after it was read back by the bindings."""
        written = io.BytesIO()
        self._spdx.JSONLDSerializer().write(self._set, written)
        described = json.loads(written.getvalue())
        self._spdx.JSONLDDeserializer().deserialize_data(described, self._spdx.SHACLObjectSet())
        return json.dumps(described, indent=2, ensure_ascii=False) + "\n"

    def _model(self) -> Any:
        facts, spdx = self._facts, self._spdx
        ref, entry = facts.version.registered.ref, spdx.DictionaryEntry
        model = self._add("ai_AIPackage", name=ref.name)
        model.software_packageVersion = str(ref.version)
        model.software_primaryPurpose = spdx.software_SoftwarePurpose.model
        model.releaseTime = facts.version.registered_at.replace(microsecond=0)
        model.ai_hyperparameter = [
            entry(key=name, value=value) for name, value in sorted(facts.record.get("parameters", {}).items())
        ]
        model.ai_metric = [
            entry(key=name, value=repr(value)) for name, value in sorted(facts.version.provenance.metrics.items())
        ]
        model.software_sourceInfo = facts.source
        if facts.intended_use:
            model.ai_informationAboutApplication = facts.intended_use
        if facts.record:
            model.ai_informationAboutTraining = "Parameters, data sets and metrics as the run logged them."
        if digest := facts.version.weights_digest:
            model.comment = f"SHA-256 over the tensors, whatever the layout of files: {digest}"
        if facts.version.registered.description:
            model.description = facts.version.registered.description
        return model

    def _license(self, declared: str | None) -> str:
        """Return the id of a licence; one that is not declared is not asserted."""
        if not declared:
            return _NO_ASSERTION
        from cyclonedx.spdx import fixup_id

        known = fixup_id(declared)
        expression = self._add("simplelicensing_LicenseExpression")
        expression.simplelicensing_licenseExpression = known or f"LicenseRef-{_letters(declared)}"
        if not known:
            expression.comment = f"Declared as: {declared}"
        return str(expression._id)

    def _relate(self, relation: str, model: Any, to: list[str], **more: str) -> None:
        kind = getattr(self._spdx.RelationshipType, relation)
        self._add("Relationship", from_=model._id, to=to, relationshipType=kind, **more)

    def _add(self, kind: str, **values: Any) -> Any:
        number = len(self._set.objects)
        made = getattr(self._spdx, kind)(_id=f"{self._place}#{kind}-{number}", creationInfo=self._creation, **values)
        self._set.add(made)
        return made


def _letters(declared: str) -> str:
    """Return a licence's name in the characters that a reference allows."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-.") else "-" for each in declared)
