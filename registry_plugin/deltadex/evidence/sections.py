"""The list of a pack's sections. A new one is a file with a function of `PackSource`, and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deltadex.evidence import (
    card,
    clauses,
    decisions,
    embedding,
    findings,
    lineage,
    ml_bom,
    ownership,
    pictures,
    safety,
    spdx,
    training,
)
from deltadex.evidence.source import PackSource


@dataclass(frozen=True)
class PackSection:
    """One file of a pack.

    Attributes
    ----------
    path
        Its name in the pack.
    says
        What the file holds, for `README.txt`.
    text
        Function that returns the file's text; empty if there is nothing to say, and then there is no file.
    """

    path: str
    says: str
    text: Callable[[PackSource], str]


#: In the order of `README.txt`.
SECTIONS = (
    PackSection("model-card.md", "the model card, for people", card.text),
    PackSection("embedding.json", "embeddings with recipe and digests", embedding.text),
    PackSection("findings.json", "findings with numbers, thresholds and status", findings.text),
    PackSection("decisions.json", "decisions, and the part of the log that proves them", decisions.text),
    PackSection("lineage.json", "origins as declared and as measured", lineage.text),
    PackSection("ownership.json", "owner, risk tier, intended use, attestation", ownership.text),
    PackSection("training.json", "licences, parameters, data sets and metrics as logged", training.text),
    PackSection("safety.json", "separation of harmful from harmless prompts, beside the base", safety.text),
    PackSection("neighbors.svg", "the nearest versions by behaviour", pictures.neighbors),
    PackSection("drift.svg", "drift over the versions of the model", pictures.drift),
    PackSection("lineage.svg", "lineage; dashed lines are measured", pictures.lineage),
    PackSection("bom.cdx.json", "CycloneDX 1.7 ML-BOM", ml_bom.text),
    PackSection("bom.spdx.json", "SPDX 3.0.1 document with the AI profile", spdx.text),
    PackSection("clauses.md", "which file serves which clause, and what a person must add", clauses.text),
)


def contents(source: PackSource) -> Mapping[str, str]:
    """Return the files of a pack by path, without index, note and signature."""
    written = {section.path: section.text(source) for section in SECTIONS}
    return MappingProxyType({path: text for path, text in written.items() if text})
