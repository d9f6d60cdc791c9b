"""Facts about an embedding for people, as Markdown: beside the artifact in MLflow, and on the flow run in Prefect."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.escaping import markdown, markdown_code
from deltadex.types import Embedding, RegisteredVersion, Words

#: Name of the file. MLflow previews HTML in a frame without rights, where links lead nowhere; in Markdown they work.
SUMMARY = "summary.md"


def summary(version: RegisteredVersion, embedding: Embedding, *, base_name: str, link: str | None) -> str:
    """Return a page about a version's embedding, which MLflow's artifact viewer shows.

    Parameters
    ----------
    link
        Address of the version's page in the dashboard; None if it is not known.
    """
    parts = [
        f"# {markdown(version.ref.label)}",
        table(facts(embedding, base_name=base_name)),
        _in_sentences(embedding.words) if embedding.words else "",
        f"Neighbours and findings, as they are now: {dashboard_link(link)}." if link else "",
        "This page is for people. `manifest.json` beside it has all numbers, and the digest of the vectors.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def facts(embedding: Embedding, *, base_name: str) -> dict[str, str]:
    """Return the facts about an embedding by their names, as Markdown."""
    method = embedding.recipe.method.name
    return {
        "base": markdown(base_name),
        "strength": f"{embedding.strength:.3f} of the norm of the base's hidden state",
        "probe agreement": f"{embedding.probe_agreement:.3f} (1 if all probes agree)",
        "recipe": f"{markdown_code(embedding.recipe.digest[:12])}, method {markdown(method)}",
        "weights": markdown_code(embedding.weights_digest[:12]),
    }


def table(rows: Mapping[str, str]) -> str:
    """Return a Markdown table of names and values; the values are Markdown."""
    return "\n".join(["| fact | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def dashboard_link(link: str) -> str:
    """Return a Markdown link to a version's page in the dashboard."""
    return f"[page in the dashboard](<{link}>)"


def _in_sentences(words: Words) -> str:
    if words.note:
        return f"No tokens: {markdown(words.note)}"
    promoted, demoted = (
        ", ".join(markdown_code(word.text) for word in some) for some in (words.promoted, words.demoted)
    )
    return f"Promoted tokens: {promoted}. Demoted tokens: {demoted}. Measured {words.beside}."
