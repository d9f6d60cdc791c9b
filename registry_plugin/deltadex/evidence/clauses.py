"""The section `clauses.md`: which file serves which clause, what is there, and what a person must add.

The clauses are named by number and in our own words. Sources: Regulation (EU) 2024/1689, Annexes IV and XI; NIST AI RMF
1.0 (NIST AI 100-1); ISO/IEC 42001:2023, Annex A (its text is sold, so only the controls' numbers and subjects are
named); SR 26-2 of 17 April 2026, by its parts as published summaries name them. Nobody here is a lawyer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from deltadex.evidence.facts import EvidenceFacts
from deltadex.evidence.source import Source
from deltadex.evidence.templates import templates


class Framework(StrEnum):
    """Frameworks that the table knows, with what must be said first of each."""

    ANNEX_IV = "EU AI Act, Annex IV (high-risk AI systems)"
    ANNEX_XI = "EU AI Act, Annex XI (general-purpose AI models)"
    NIST = "NIST AI RMF 1.0"
    ISO = "ISO/IEC 42001:2023, Annex A"
    SR = "SR 26-2 (US banks, model risk management)"


_REMARKS = {
    Framework.ANNEX_IV: "Annex IV describes an AI system. A model is a part of one: a pack can't be its documentation.",
    Framework.ANNEX_XI: "Whether a finetune makes its owner the provider of a general-purpose model is a legal question.",
    Framework.NIST: "Voluntary. The subcategories are outcomes of an organisation, which a document can support.",
    Framework.ISO: "Only the numbers and subjects of the controls are named here.",
    Framework.SR: "By published summaries, the guidance leaves generative and agentic AI out of its scope. The table is for "
    "houses that apply its principles to finetunes anyway.",
}


@dataclass(frozen=True)
class ClauseRow:
    """One clause.

    Attributes
    ----------
    asks
        Its subject, in our words.
    files
        Files of the pack that serve it; empty if none does.
    there
        What these files hold.
    missing
        What a person must add.
    is_there
        Whether this pack has it: most of what serves a clause was logged by somebody, or was not.
    """

    framework: Framework
    clause: str
    asks: str
    files: str
    there: str
    missing: str
    is_there: Callable[[EvidenceFacts], bool]


def _always(_: EvidenceFacts) -> bool:
    return True


def _never(_: EvidenceFacts) -> bool:
    return False


def _has_data(facts: EvidenceFacts) -> bool:
    return bool(facts.record.get("data"))


def _has_training(facts: EvidenceFacts) -> bool:
    return bool(facts.record.get("parameters"))


def _has_metrics(facts: EvidenceFacts) -> bool:
    return bool(facts.version.provenance.metrics)


def _has_origin(facts: EvidenceFacts) -> bool:
    return bool(facts.edges)


def _has_license(facts: EvidenceFacts) -> bool:
    return bool(facts.licenses.of_base or facts.licenses.of_finetune)


def _has_drift(facts: EvidenceFacts) -> bool:
    return facts.drift is not None


def _is_embedded(facts: EvidenceFacts) -> bool:
    return bool(facts.embeddings)


_IV, _XI, _NIST, _ISO, _SR = Framework
_TRAINING = "parameters and data sets as the run logged them"

CLAUSES = (
    ClauseRow(_IV, "1(a)", "purpose, provider, version and its relation to earlier ones", "model-card.md, lineage.json",
              "name, version, aliases; relation to earlier versions, declared and measured",
              "intended purpose and provider", _has_origin),
    ClauseRow(_IV, "1(b)–(h)", "interaction, hardware, forms on the market, user interface, instructions", "", "nothing",
              "all of it", _never),
    ClauseRow(_IV, "2(a)", "steps of development, pre-trained systems that were used", "lineage.json, bom.cdx.json, training.json",
              f"the base, its licence, whether the weights confirm it; {_TRAINING}", "how and why they were used", _has_origin),
    ClauseRow(_IV, "2(b)–(c)", "design choices, architecture, computing resources", "training.json",
              "parameters that the run logged", "design, rationale, architecture of the system, resources", _has_training),
    ClauseRow(_IV, "2(d)", "data sets: provenance, scope, selection, labelling", "training.json",
              "names and digests of data sets as logged", "where the data come from, how they were chosen and cleaned",
              _has_data),
    ClauseRow(_IV, "2(e)–(f)", "human oversight, changes determined in advance", "", "nothing", "all of it", _never),
    ClauseRow(_IV, "2(g)", "validation and testing, metrics, signed reports", "training.json, findings.json",
              "metrics as logged, not checked by Deltadex; its own measurements with thresholds",
              "test data and procedures, accuracy for groups of people, signatures of those responsible", _has_metrics),
    ClauseRow(_IV, "2(h)", "cybersecurity", "README.txt", "signature and digests of this pack", "measures of the system", _never),
    ClauseRow(_IV, "3–5, 7–9", "control, metrics' appropriateness, risk management, standards, declaration, monitoring plan",
              "", "nothing", "all of it", _never),
    ClauseRow(_IV, "6", "changes through the lifecycle", "drift.svg, lineage.json, decisions.json",
              "distance of each version from the one before; decisions with reason and proof", "changes of the system around it",
              _has_drift),
    ClauseRow(_XI, "1, 1(a)–(b)", "tasks, acceptable use", "model-card.md", "the owner's description, if there is one",
              "intended tasks and acceptable use", _never),
    ClauseRow(_XI, "1, 1(c)", "date of release, distribution", "model-card.md", "date of registration, aliases",
              "release and distribution", _never),
    ClauseRow(_XI, "1, 1(d)–(e)", "architecture, parameters, inputs and outputs", "embedding.json",
              "the base with the digest of its weights, the size of the weights", "architecture and formats", _is_embedded),
    ClauseRow(_XI, "1, 1(f)", "licence", "training.json, bom.spdx.json", "licences as declared by version and base",
              "whether they are right", _has_license),
    ClauseRow(_XI, "1, 2(a)–(b)", "means of integration, training process and design choices", "training.json",
              "parameters as logged", "methods, rationale, means of integration", _has_training),
    ClauseRow(_XI, "1, 2(c)", "data for training, testing, validation", "training.json", "names and digests as logged",
              "provenance, curation, number of points, unsuitable sources, biases", _has_data),
    ClauseRow(_XI, "1, 2(d)–(e)", "computational resources and energy", "", "nothing", "all of it", _never),
    ClauseRow(_XI, "2", "models with systemic risk", "", "nothing", "all of it", _never),
    ClauseRow(_NIST, "GOVERN 1.4, 1.6", "documented risk process; inventory", "findings.json, decisions.json",
              "findings, decisions with reason, reviewer and proof", "the policy and the inventory as a whole", _always),
    ClauseRow(_NIST, "GOVERN 6.1, MAP 4.1", "third-party models and data, licences", "lineage.json, training.json, bom.cdx.json",
              "base, parents and copies, declared and measured; licences as declared", "contracts and rights in data",
              _has_origin),
    ClauseRow(_NIST, "MAP 1.1, 3.3", "purpose, context, scope", "model-card.md", "tags and description of the owner",
              "purpose and context", _never),
    ClauseRow(_NIST, "MEASURE 2.1, 2.3", "metrics, tools and results of testing", "training.json, embedding.json",
              "metrics as logged; method, recipe and noise floor of the embedding", "test sets and their fitness", _has_metrics),
    ClauseRow(_NIST, "MEASURE 2.4, 3.1; MANAGE 4.1", "functionality and risks tracked over time", "drift.svg, findings.json",
              "drift from version to version, with threshold and noise", "behaviour in production", _has_drift),
    ClauseRow(_NIST, "MANAGE 1.3, 3.2", "responses to risks; pre-trained models monitored", "decisions.json, lineage.json",
              "what was decided about each finding", "what was then done", _always),
    ClauseRow(_ISO, "A.4.2–A.4.4", "documentation of resources: data, tools", "training.json, bom.cdx.json", _TRAINING,
              "their assessment", _has_training),
    ClauseRow(_ISO, "A.6.2.3, A.6.2.4", "documentation of development; verification and validation", "training.json, findings.json",
              "what was logged and measured", "criteria, plans and approvals", _has_training),
    ClauseRow(_ISO, "A.6.2.7", "technical documentation", "model-card.md, bom.cdx.json, bom.spdx.json", "identity and origin",
              "what each group of readers needs", _always),
    ClauseRow(_ISO, "A.6.2.8", "event logs", "decisions.json", "the log of decisions with its proof", "logs of use", _always),
    ClauseRow(_ISO, "A.7.5", "provenance of data", "training.json", "names and digests of data sets as logged",
              "the provenance itself", _has_data),
    ClauseRow(_ISO, "A.10.3", "suppliers", "lineage.json", "the base, and whether the weights confirm it",
              "assessment of the supplier", _has_origin),
    ClauseRow(_SR, "Development and use", "purpose, design, data, testing; documentation", "model-card.md, training.json",
              _TRAINING, "purpose, theory, assumptions, limits in use", _has_training),
    ClauseRow(_SR, "Validation and monitoring", "conceptual soundness, outcomes, ongoing monitoring", "drift.svg, findings.json",
              "drift, duplicates and wrong bases with thresholds", "independent validation, outcomes analysis", _has_drift),
    ClauseRow(_SR, "Governance and controls", "roles, inventory, materiality, records", "decisions.json",
              "who decided what, when, on which numbers, with proof", "materiality, policies, the inventory", _always),
    ClauseRow(_SR, "Third-party models", "understanding and monitoring of vendors' models", "lineage.json, bom.cdx.json",
              "base and parents, measured on the weights", "the vendor's documentation and its assessment", _has_origin),
)  # fmt: skip


def text(source: Source) -> str:
    """Return the section."""
    facts = source.facts
    groups = [
        (one, _REMARKS[one], [(row, row.is_there(facts)) for row in CLAUSES if row.framework is one])
        for one in Framework
    ]
    return templates(is_markup=False).get_template("clauses.md.jinja").render(label=facts.label, groups=groups)
