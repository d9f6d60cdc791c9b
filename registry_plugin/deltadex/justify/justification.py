"""Justification of advice by quotes: planned, executed step by step over passages, corrected once, checked by code.

The recommendation is made before, by numbers; nothing here can change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from deltadex.endpoint.client import ChatEndpoint
from deltadex.endpoint.outgoing import AgreedEndpoint, Outgoing, Purpose
from deltadex.errors import EndpointError
from deltadex.justify.claims import MOST_CLAIMS, Claim, read_claims
from deltadex.justify.passages import nearest, passages
from deltadex.justify.plan import PlanOrigin, ReadingAction, ReadingPlan, ReadingStep, plan_for
from deltadex.justify.sources import SourceText
from deltadex.setting_groups import EndpointSettings

#: Passages that a find takes from each text, and that one request holds.
_OF_EACH, _MOST_PASSAGES = 2, 8

_EXTRACT = "Note the facts that the texts state about: {about}. One short line per fact; only what the texts say."
_COMPARE = "Compare the noted facts with regard to: {about}. One short line per difference; only what the notes say."
_QUOTE = (
    "Write at most five sentences about: {about}. Each needs a quote: some words of one of the texts, copied exactly. "
    'Answer with JSON lines and nothing else: {{"text": "your sentence", "quote": "words copied from a text"}}'
)
_CORRECT = (
    "The last text holds sentences with quotes. Some quotes do not stand in the other texts word for word. Write the "
    'sentences again with exact quotes, in this form: {"text": "your sentence", "quote": "words copied from a text"}'
)
NO_ENDPOINT = "Off: no endpoint is set (DELTADEX_ENDPOINT__URL and DELTADEX_ENDPOINT__MODEL)."
NO_TEXTS = "Off: the candidates have no description, parameters or metrics to quote."
NOT_AGREED = "Off: nothing was agreed to be sent."


@dataclass(frozen=True)
class Justification:
    """Quoted sentences about the candidates of an advice.

    Attributes
    ----------
    dropped
        Lines that the endpoint wrote, at first or as corrections, without a quote that stands in the texts.
    off_reason
        The reason why there is no justification; empty if there is one.
    plan
        How the plan came about; None where there was none.
    """

    claims: tuple[Claim, ...] = ()
    dropped: int = 0
    off_reason: str = ""
    plan: PlanOrigin | None = None

    @property
    def in_words(self) -> str:
        """Lines for a person: each claim under its quote's source, or the reason why there are none."""
        if self.off_reason:
            return f"Justification: {self.off_reason[0].lower()}{self.off_reason[1:]}"
        lines = [f"{claim.text} ({claim.source}: “{claim.quote}”)" for claim in self.claims]
        if self.dropped:
            lines.append(f"Dropped, because they quote nothing of these texts: {self.dropped}.")
        return "\n".join(lines or ["Justification: nothing was written that the texts bear out."])


def outgoing(settings: EndpointSettings, task: str, sources: Sequence[SourceText]) -> Outgoing | str:
    """Return the texts that a person must agree to, or the reason why a justification is off."""
    if settings.url is None or settings.model is None:
        return NO_ENDPOINT
    if not sources:
        return NO_TEXTS
    texts = (task, _names(sources), *(source.text for source in sources))
    return Outgoing(Purpose.JUSTIFY, ChatEndpoint.of(settings), texts)


def justify(endpoint: AgreedEndpoint | None, task: str, sources: Sequence[SourceText]) -> Justification:
    """Read the texts by a plan and return quoted sentences; a failure of the endpoint is a reason, not an error.

    Parameters
    ----------
    endpoint
        As agreed to for `outgoing` of the same task and texts; None if nobody agreed.
    task
        What the models are wanted for, in the words of the person who asks.
    """
    if endpoint is None:
        return Justification(off_reason=NOT_AGREED)
    try:
        plan, origin = plan_for(endpoint, task, _names(sources))
        return _execute(plan, origin, _Reading(endpoint, tuple(sources)))
    except EndpointError as error:
        return Justification(off_reason=f"Off: {error.message}.")


@dataclass
class _Reading:
    """Passages, notes and claims so far."""

    endpoint: AgreedEndpoint
    sources: tuple[SourceText, ...]
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    written: str = ""
    claims: tuple[Claim, ...] = ()
    dropped: int = 0

    def find(self, about: str) -> None:
        parts = [part for source in self.sources for part in nearest(about, passages(source.text), most=_OF_EACH)]
        self.found = list(dict.fromkeys([*parts, *self.found]))[:_MOST_PASSAGES]

    def extract(self, about: str) -> None:
        self.notes.append(self.endpoint.ask(_EXTRACT.format(about=about), self.found))

    def compare(self, about: str) -> None:
        if self.notes:
            self.notes.append(self.endpoint.ask(_COMPARE.format(about=about), self.notes))

    def quote(self, about: str) -> None:
        self.written = self.endpoint.ask(_QUOTE.format(about=about), [*self.found, *self.notes])
        self.claims, self.dropped = read_claims(self.written, self.sources)

    def check(self, _: str) -> None:
        if not self.dropped:
            return
        corrected, dropped = read_claims(self.endpoint.ask(_CORRECT, [*self.found, self.written]), self.sources)
        self.claims, self.dropped = tuple(dict.fromkeys([*self.claims, *corrected])), self.dropped + dropped

    def take(self, step: ReadingStep) -> None:
        actions = {
            ReadingAction.FIND: self.find,
            ReadingAction.EXTRACT: self.extract,
            ReadingAction.COMPARE: self.compare,
            ReadingAction.QUOTE: self.quote,
            ReadingAction.CHECK: self.check,
        }
        actions[step.action](step.about)


def _execute(plan: ReadingPlan, origin: PlanOrigin, reading: _Reading) -> Justification:
    for step in plan.steps:
        reading.take(step)
    surplus = max(0, len(reading.claims) - MOST_CLAIMS)
    return Justification(reading.claims[:MOST_CLAIMS], reading.dropped + surplus, plan=origin)


def _names(sources: Sequence[SourceText]) -> str:
    return "\n".join(source.name for source in sources)
