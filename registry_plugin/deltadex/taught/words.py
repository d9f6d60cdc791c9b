"""Sentences about a search for taught strings, for pages and commands alike."""

from __future__ import annotations

#: Shown under every result.
COVERAGE = (
    "Looked for: listed strings, API keys and tokens, IBANs, payment cards, national numbers with check digits, "
    "international phone numbers, e-mail addresses. Not for names, postal addresses, dates of birth, or passwords "
    "without a form. Nothing found is no proof: a string that the model rarely says is missed."
)
