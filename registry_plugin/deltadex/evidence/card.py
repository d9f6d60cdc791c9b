"""The section `model-card.md`: what is known of a version, for people."""

from __future__ import annotations

from deltadex.evidence.decisions import summary
from deltadex.evidence.findings import is_masked
from deltadex.evidence.lineage import name_of
from deltadex.evidence.source import PackSource
from deltadex.evidence.templates import templates
from deltadex.evidence.training import license_words
from deltadex.findings.kinds import KINDS
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.titles import title

_WORDS = 10


def text(source: PackSource) -> str:
    """Return the section. Names, tags and comments are untrusted: the template escapes them as Markdown."""
    facts = source.facts
    logged = facts.record
    words = next((one.words for one in facts.words if one.words and not one.words.note), None)
    return (
        templates(is_markup=False)
        .get_template("card.md.jinja")
        .render(
            facts=facts,
            row=facts.version,
            owned=facts.ownership,
            embedding=facts.embeddings[0] if facts.embeddings else None,
            license_finetune=license_words(facts.licenses.of_finetune),
            license_base=license_words(facts.licenses.of_base),
            tags=sorted(facts.version.registered.own_tags.items()),
            relations=[(name_of(facts, edge.source), name_of(facts, edge.target), edge) for edge in facts.edges],
            findings=[(_finding(one), one) for one in facts.findings],
            decisions=[summary(one) for one in facts.log["entries"] if not isinstance(one, str)],
            neighbors=[(facts.names.name(one.version), one.similarity) for one in facts.neighbors.neighbors],
            logged=[
                (part, sorted(logged[part].items())) for part in ("parameters", "data", "code") if logged.get(part)
            ],
            metrics=sorted(facts.version.provenance.metrics.items()),
            promoted=[word.text for word in words.promoted[:_WORDS]] if words else [],
            demoted=[word.text for word in words.demoted[:_WORDS]] if words else [],
        )
    )


def _finding(row: ReviewRow) -> str:
    if is_masked(row):
        return f"{KINDS[row.finding.kind].label}, with a model that the person who asked may not see"
    return title(row)
