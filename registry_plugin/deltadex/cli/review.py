"""`deltadex review`: what needs a person, what was decided, and whether the log is what it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from deltadex import reviews
from deltadex.cli.options import DatabaseUrl, DataDir, Json, settings_from
from deltadex.cli.reading import print_json, version_json
from deltadex.domain import FindingKind
from deltadex.errors import GovernanceError
from deltadex.governance.access import Person
from deltadex.governance.delegation import parse_rules
from deltadex.governance.lifecycle import UNDECIDED, Action, Severity, Status
from deltadex.governance.reasons import Decision, Reason
from deltadex.people import at_terminal
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.store.reviews import LogEntry, ReviewRow

console = Console(highlight=False)

review = typer.Typer(name="review", help="Work through findings: look, assign, decide, audit.", no_args_is_help=True)

As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Be somebody else, where no list of people is set.")
]
Finding = Annotated[int, typer.Argument(metavar="FINDING", help="A number from `deltadex review list`.")]
Findings = Annotated[list[int], typer.Argument(metavar="FINDING…", help="Numbers from `deltadex review list`.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why, for those who read it in a year.")]
_COLOURS = {Severity.HIGH: "red", Severity.MEDIUM: "yellow", Severity.LOW: "cyan"}


@review.command("list")
def list_(
    status: Annotated[
        list[Status] | None, typer.Option(help="Only these; may be repeated.", show_default="open, in_review")
    ] = None,
    kind: Annotated[list[FindingKind] | None, typer.Option(help="Only these; may be repeated.")] = None,
    severity: Annotated[list[Severity] | None, typer.Option(help="Only these; may be repeated.")] = None,
    assignee: Annotated[str | None, typer.Option(help="Only theirs; empty: nobody's.", show_default=False)] = None,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show findings: the most severe first, then the earliest due."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        rows = reviews.listing(
            tx,
            person,
            settings,
            statuses=status or UNDECIDED,
            kinds=kind or tuple(FindingKind),
            severities=severity or tuple(Severity),
            assignee=assignee,
        )
    if json:
        print_json([_row_json(row) for row in rows])
        return
    table = Table("finding", "kind", Column("versions", overflow="fold"), "measure", "status", "due", show_lines=True)
    for row in rows:
        stands = "waits for approval" if row.review.requested_by else row.review.status
        table.add_row(
            str(row.id),
            f"{row.finding.kind}\n[{_COLOURS[row.severity]}]{row.severity}[/]",
            "\n".join(escape(version.label) for version in row.versions),
            _measure(row),
            f"{stands}\n[dim]{escape(row.assignee)}[/]" if row.assignee else stands,
            f"{row.due_at:%Y-%m-%d}",
        )
    console.print(table if rows else "[dim]Nothing needs a person.[/]")


@review.command()
def show(
    finding: Finding,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show one finding with its numbers and everything that was done about it."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        row = reviews.get(tx, person, settings, finding)
        entries = reviews.history(tx, person, finding)
    if json:
        print_json({**_row_json(row), "log": [_entry_json(entry) for entry in entries]})
        return
    for name, value in _row_json(row).items():
        console.print(f"[dim]{name:>14}[/] {escape(str(value))}")
    for entry in entries:
        console.print(_sentence(entry))


@review.command()
def assign(
    findings: Findings,
    to: Annotated[str, typer.Option(help="Who looks into it; empty: nobody.", show_default=False)],
    due: Annotated[datetime | None, typer.Option(help="When it is due (UTC).", show_default="as before")] = None,
    comment: Comment = "",
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Give findings to somebody, who then has them in review."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        seen, due_at = _seen(tx, person, settings, findings), due and due.replace(tzinfo=UTC)
        reviews.assign(tx, person, settings, seen, assignee=to, due_at=due_at, comment=comment)
    console.print(f"{_count(seen)} assigned to {escape(to)}" if to else f"{_count(seen)} released")


@review.command()
def decide(
    findings: Findings,
    decision: Annotated[Decision, typer.Argument(help="What it is.")],
    reason: Annotated[Reason, typer.Option(help="Why; each kind has its own.", show_default=False)],
    comment: Comment,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Decide findings, all of them or none; what retires a model becomes a request for a second person."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        seen = _seen(tx, person, settings, findings)
        actions = reviews.decide(tx, person, settings, seen, decision=decision, reason=reason, comment=comment)
    waits = ": a second person approves it" if Action.REQUESTED in actions else ""
    console.print(f"{_count(seen)} {', '.join(sorted(set(actions)))}{waits}")


@review.command()
def approve(
    findings: Findings,
    comment: Comment,
    refuse: Annotated[bool, typer.Option("--refuse", help="Turn it down instead, or withdraw one's own.")] = False,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Agree to what somebody else requested; nobody approves their own."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        seen = _seen(tx, person, settings, findings)
        answer = reviews.refuse if refuse else reviews.approve
        answer(tx, person, settings, seen, comment=comment)
    console.print(f"{_count(seen)} {'refused' if refuse else 'approved'}")


@review.command()
def reopen(
    findings: Findings,
    comment: Comment,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Take back what was decided."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        seen = _seen(tx, person, settings, findings)
        reviews.reopen(tx, person, settings, seen, comment=comment)
    console.print(f"{_count(seen)} reopened")


@review.command()
def log(
    reviewer: Annotated[str | None, typer.Option(help="Only theirs.", show_default=False)] = None,
    rule: Annotated[str | None, typer.Option(help="Only what this rule did.", show_default=False)] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this time (UTC) on.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="How many.", min=1)] = 50,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show who did what, when and on which numbers, newest first."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        since = since and since.replace(tzinfo=UTC)
        entries = reviews.log(tx, person, settings, reviewer=reviewer, rule=rule, since=since, limit=limit)
    if json:
        print_json([_entry_json(entry) for entry in entries])
        return
    for entry in entries:
        console.print(f"{_sentence(entry)} [dim]finding {entry.review_id}, {entry.hash[:12]}[/]")


@review.command()
def verify(
    holding: Annotated[
        str | None, typer.Option(help="A head noted down earlier, which must still be there.", show_default=False)
    ] = None,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Compute the log's chain of hashes anew. The head, noted down elsewhere, proves later that nothing was cut off."""
    with _desk(data_dir, database_url, as_) as (tx, person, _):
        chain = reviews.verify(tx, person, holding=holding)
    if json:
        print_json({**asdict(chain), "is_whole": chain.broken is None})
    elif chain.broken is None:
        console.print(f"{chain.entries} entries, each as it was written; head {chain.head or 'none'}")
    if chain.broken is not None:
        what = f"Entry {chain.broken} of the log" if chain.broken else f"The entry {(holding or '')[:12]}…"
        what += " is not what was written" if chain.broken else " is missing"
        raise GovernanceError(what, hint="Somebody changed the database past its triggers: ask who owns it.")


@review.command()
def rules(as_: As = None, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show the delegated rules of the settings, and how many findings each has decided."""
    with _desk(data_dir, database_url, as_) as (tx, person, settings):
        found = [
            (rule, reviews.count_by_rule(tx, person, settings, rule.name))
            for rule in parse_rules(settings.review.rules)
        ]
    if json:
        print_json([{**asdict(rule), "kinds": sorted(rule.kinds), "decided": count} for rule, count in found])
        return
    table = Table("rule", "kinds", "models", "tags", "reason", "by", "decided")
    for rule, count in found:
        tags = ", ".join(f"{key}={value}" for key, value in rule.tags)
        texts = (rule.name, ", ".join(sorted(rule.kinds)), rule.models, tags, rule.reason, rule.by)
        table.add_row(*map(escape, texts), str(count))
    console.print(table if found else "[dim]No rules: a person decides everything.[/]")


@contextmanager
def _desk(
    data_dir: DataDir, database_url: DatabaseUrl, as_: str | None
) -> Iterator[tuple[Transaction, Person, Settings]]:
    settings = settings_from(data_dir, database_url=database_url)
    person = at_terminal(settings, as_=as_)
    with Database(settings.database_url) as database, database.transaction() as tx:
        yield tx, person, settings


def _seen(tx: Transaction, person: Person, settings: Settings, ids: Sequence[int]) -> dict[int, int]:
    """Return the findings' revisions of now: there is no page on which somebody could have seen another."""
    return {one: reviews.get(tx, person, settings, one).revision for one in ids}


def _count(seen: dict[int, int]) -> str:
    return "1 finding" if len(seen) == 1 else f"{len(seen)} findings"


def _measure(row: ReviewRow) -> str:
    return "" if row.finding.measure is None else f"{row.finding.measure:.4f}"


def _sentence(entry: LogEntry) -> str:
    who = f"{entry.reviewer} by rule {entry.rule}" if entry.rule else entry.reviewer
    what = f"{entry.action} {entry.assignee}".rstrip() + (f", {entry.reason}" if entry.reason else "")
    about = " and ".join(_called(subject) for subject in (entry.subject, entry.other_subject) if subject)
    said = f" “{entry.comment}”" if entry.comment else ""
    return f"[dim]{entry.decided_at:%Y-%m-%d %H:%M:%S}[/] [bold]{escape(who)}[/] {escape(f'{what}: {about}{said}')}"


def _called(subject: str) -> str:
    """Return `name/version` of `registry:name/version@time`."""
    return subject.partition(":")[2].rpartition("@")[0] or subject


def _row_json(row: ReviewRow) -> dict[str, Any]:
    return {
        "finding": row.id,
        "kind": row.finding.kind,
        "severity": row.severity,
        "status": row.review.status,
        "versions": [version_json(version) for version in row.versions],
        "measure": row.finding.measure,
        "threshold": row.finding.threshold,
        "evidence": dict(row.finding.evidence),
        "is_found": row.is_found,
        "owner": row.owner,
        "assignee": row.assignee,
        "requested_by": row.review.requested_by,
        "due_at": row.due_at.isoformat(),
        "first_seen": row.first_seen.isoformat(),
        "last_measured": row.last_measured.isoformat(),
    }


def _entry_json(entry: LogEntry) -> dict[str, Any]:
    values = asdict(entry)
    return {**values, "decided_at": entry.decided_at.isoformat()}
