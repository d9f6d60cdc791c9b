"""Decisions that the demo's two people make, ada and ben, by the ordinary actions of reviews and with their rights."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from deltadex.access import Person, at_terminal
from deltadex.errors import DeltadexError
from deltadex.findings.kinds import Reason
from deltadex.ingest.analyses import are_due
from deltadex.ownership import reads as ownership
from deltadex.ownership.actions import attest, edit
from deltadex.ownership.facts import OwnershipField
from deltadex.reviews import actions as reviews
from deltadex.reviews.lifecycle import UNDECIDED
from deltadex.reviews.queries import ReviewRow
from deltadex.reviews.reasons import Decision
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind, RiskTier
from deltadex.versions import queries as versions

ADA, BEN = "ada", "ben"
#: Findings about a repeated task come with the analyses of all versions, which follow the last embedding.
MAX_SECONDS = 600.0


@dataclass(frozen=True)
class Ruling:
    """A person's decision about the first undecided finding of a kind.

    Attributes
    ----------
    model
        A registered model that the finding concerns.
    approved
        Comment with which the other person approves; empty if a request is left to wait.
    """

    kind: FindingKind
    model: str
    by: str
    decision: Decision
    reason: Reason
    comment: str
    approved: str = ""


@dataclass(frozen=True)
class Assignment:
    """An assignment of undecided findings: those about versions of a team, or of one kind about one model."""

    to: str
    by: str
    team: str = ""
    kind: FindingKind | None = None
    model: str = ""
    comment: str = ""

    def concerns(self, row: ReviewRow) -> bool:
        """Return True if a finding is among them."""
        teams = {version.registered.owner for version in row.versions}
        return (not self.team or self.team in teams) and _concerns(row, self.kind, self.model)


#: Groups come first: a decision about one of their members may change what a group proposes.
RULINGS = (
    Ruling(
        FindingKind.SAME_TASK,
        "simulation-kernels",
        BEN,
        Decision.DISMISSED,
        Reason.DIFFERENT_PURPOSE,
        "I asked the three teams: each writes for other hardware, and their data will differ more.",
    ),
    Ruling(
        FindingKind.WRONG_BASE,
        "search-query-rewriter",
        ADA,
        Decision.ACCEPTED,
        Reason.CORRECT_DECLARATION,
        "It was trained from acme/base-lm. The search team corrects the card.",
    ),
    Ruling(
        FindingKind.FAILED,
        "invoice-extractor",
        BEN,
        Decision.ACCEPTED,
        Reason.RETIRE,
        "The upload was cut off. Finance registers a whole one as a new version.",
        approved="Agreed: nobody can load this file.",
    ),
    Ruling(
        FindingKind.EXACT_DUPLICATE,
        "vendor-agreements",
        ADA,
        Decision.ACCEPTED,
        Reason.RETIRE,
        "The same weights. Partnerships can call the legal team's model.",
    ),
)
ASSIGNMENTS = (
    Assignment("support", ADA, team="support", comment="All about your models."),
    Assignment(
        BEN,
        ADA,
        kind=FindingKind.DRIFT,
        model="storefront-localizer",
        comment="Which data was this version trained on?",
    ),
    Assignment(
        ADA,
        BEN,
        kind=FindingKind.LICENSE,
        model="notebook-completion",
        comment="Does research mean this licence for the weights?",
    ),
)
#: What ada states about a registered model, and attests.
OWNED = (
    (
        "contract-drafter",
        {
            OwnershipField.OWNER: ADA,
            OwnershipField.TIER: RiskTier.HIGH,
            OwnershipField.INTENDED_USE: "Drafts of supplier contracts. A lawyer reads each before it is sent.",
        },
    ),
)


def decide(
    database: Database,
    settings: Settings,
    *,
    progress: Callable[[str, int, int], None] = lambda *_: None,
    max_seconds: float = MAX_SECONDS,
) -> bool:
    """Wait for the analyses, then assign and decide in the names of the demo's two people, unless they have before.

    Returns
    -------
    bool
        False if they have decided before.

    Raises
    ------
    AccessDenied
        There is an access file, so nobody may act under another name.
    DeltadexError
        The analyses take longer than `max_seconds`.
    """
    people = {name: at_terminal(settings, as_=name) for name in (ADA, BEN)}
    _wait_for_analyses(database, settings, progress=progress, max_seconds=max_seconds)
    return database.run(partial(_decide_once, people=people, settings=settings))


def _wait_for_analyses(
    database: Database, settings: Settings, *, progress: Callable[[str, int, int], None], max_seconds: float
) -> None:
    deadline = time.monotonic() + max_seconds
    progress("comparing all versions", 0, 1)
    while not database.run(partial(_is_settled, settings=settings)):
        if time.monotonic() > deadline:
            raise DeltadexError(
                f"The analyses of all versions have not ended within {max_seconds:.0f} s",
                hint="`deltadex doctor` shows whether the worker is up. Run `deltadex demo` again for the decisions.",
            )
        time.sleep(1)
    progress("comparing all versions", 1, 1)


def _is_settled(tx: Transaction, settings: Settings) -> bool:
    """Return True if the analyses have run, and the watcher has seen each alias where it is now."""
    rows = versions.listing(tx, settings.registry)
    aliases = [(row.registered.ref.name, alias) for row in rows for alias in row.registered.aliases]
    return len(set(aliases)) == len(aliases) and not are_due(tx, settings)


def _decide_once(tx: Transaction, *, people: dict[str, Person], settings: Settings) -> bool:
    if any(reviews.log(tx, person, settings, reviewer=name, limit=1) for name, person in people.items()):
        return False
    for ruling in RULINGS:
        _rule(tx, ruling, people, settings)
    for assignment in ASSIGNMENTS:
        rows = reviews.listing(tx, people[assignment.by], settings, statuses=UNDECIDED)
        seen = {row.id: row.revision for row in rows if assignment.concerns(row) and not row.assignee}
        reviews.assign(tx, people[assignment.by], settings, seen, assignee=assignment.to, comment=assignment.comment)
    for name, stated in OWNED:
        if ownership.of_model(tx, people[ADA], settings, name) is not None:
            edit(tx, people[ADA], settings, name, stated)
            attest(tx, people[ADA], settings, name)
    return True


def _rule(tx: Transaction, ruling: Ruling, people: dict[str, Person], settings: Settings) -> None:
    by = people[ruling.by]
    rows = reviews.listing(tx, by, settings, statuses=UNDECIDED)
    row = next((row for row in rows if _concerns(row, ruling.kind, ruling.model)), None)
    if row is None:
        return
    reviews.decide(
        tx,
        by,
        settings,
        {row.id: row.revision},
        decision=ruling.decision,
        reason=ruling.reason,
        comment=ruling.comment,
    )
    if ruling.approved:
        other = next(person for name, person in people.items() if name != ruling.by)
        revision = reviews.get(tx, other, settings, row.id).revision
        reviews.approve(tx, other, settings, {row.id: revision}, comment=ruling.approved)


def _concerns(row: ReviewRow, kind: FindingKind | None, model: str) -> bool:
    models = {version.registered.ref.name for version in row.versions}
    return kind in (None, row.finding.kind) and (not model or model in models)
