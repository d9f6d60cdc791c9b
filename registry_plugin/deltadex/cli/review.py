"""The command `review`: findings, decisions about them, and the decision log."""

from __future__ import annotations

import json as json_format
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from deltadex.access import Person
from deltadex.cli import witnesses
from deltadex.cli.options import DatabaseUrl, DataDir, Json
from deltadex.cli.reading import print_json, reading, version_json
from deltadex.cli.terminal import plain
from deltadex.errors import GovernanceError
from deltadex.escaping import printable
from deltadex.findings.kinds import Reason, Severity
from deltadex.reports.colors import SEVERITY_COLORS
from deltadex.reviews import actions as reviews
from deltadex.reviews import chain as proofs
from deltadex.reviews.checklist import checklist
from deltadex.reviews.delegation import parse_rules
from deltadex.reviews.filters import FindingFilter, FindingOrder, ordered
from deltadex.reviews.lifecycle import UNDECIDED, Action, Status
from deltadex.reviews.queries import LogEntry, ReviewRow
from deltadex.reviews.reasons import NEEDS_APPROVAL, Decision
from deltadex.reviews.titles import label, title
from deltadex.settings import Settings
from deltadex.store.database import Transaction
from deltadex.types import FindingKind

console = Console(highlight=False)

review = typer.Typer(
    name="review", help="List, assign and decide findings, and audit the decision log.", no_args_is_help=True
)

review.command()(witnesses.witnesses)
review.command()(witnesses.publish)

As = Annotated[
    str | None, typer.Option("--as", metavar="NAME", help="Act as another person. Only without an access file.")
]
Finding = Annotated[int, typer.Argument(metavar="FINDING", help="A number from `deltadex review list`.")]
Findings = Annotated[list[int], typer.Argument(metavar="FINDING…", help="Numbers from `deltadex review list`.")]
Entry = Annotated[int, typer.Argument(metavar="ENTRY", help="An id from `deltadex review log`.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Explanation, kept in the decision log.")]


@review.command("list")
def list_(
    status: Annotated[
        list[Status] | None,
        typer.Option(help="Only findings with this status. Repeatable.", show_default="open, in_review"),
    ] = None,
    kind: Annotated[list[FindingKind] | None, typer.Option(help="Only findings of this kind. Repeatable.")] = None,
    severity: Annotated[list[Severity] | None, typer.Option(help="Only findings of this severity. Repeatable.")] = None,
    assignee: Annotated[
        str | None, typer.Option(help="Only findings of this person; empty: unassigned findings.", show_default=False)
    ] = None,
    text: Annotated[str, typer.Option(help="Only findings whose title, kind or owner has these words.")] = "",
    owner: Annotated[str, typer.Option(help="Only findings about a version of this owner.")] = "",
    team: Annotated[str, typer.Option(help="Only findings about a version of this team.")] = "",
    domain: Annotated[str, typer.Option(help="Only findings about a version of this declared domain.")] = "",
    older_than: Annotated[int, typer.Option(metavar="DAYS", help="Only findings of this age.", min=0)] = 0,
    order: Annotated[FindingOrder, typer.Option(help="Order of the findings.")] = FindingOrder.URGENT,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List findings, the most severe first, then by due date."""
    conditions = FindingFilter(
        text=text, owner=owner, team=team, domain=domain, assignee=assignee, older_than_days=older_than
    )
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
        rows = reviews.listing(
            tx,
            person,
            settings,
            statuses=status or UNDECIDED,
            kinds=kind or tuple(FindingKind),
            severities=severity or tuple(Severity),
        )
    rows = ordered((row for row in rows if conditions.matches(row)), order)
    if json:
        print_json([_row_json(row) for row in rows])
        return
    table = Table("#", Column("finding", overflow="fold", ratio=1), Column("status", no_wrap=True), show_lines=True)
    for row in rows:
        color, measure = SEVERITY_COLORS[row.severity].terminal, _measure(row)
        facts = f"[{color}]{row.severity}[/] [dim]{row.finding.kind}{f', {measure}' if measure else ''}[/]"
        row_status = "waits for approval" if row.review.requested_by else row.review.status.replace("_", " ")
        whose = [f"[dim]{plain(row.assignee)}[/]"] if row.assignee else []
        due = f"[red]overdue {row.due_at:%Y-%m-%d}[/]" if row.is_overdue else f"[dim]due {row.due_at:%Y-%m-%d}[/]"
        states = [row_status, *whose, due]
        table.add_row(str(row.id), f"{plain(title(row))}\n{facts}", "\n".join(states))
    console.print(table if rows else "[dim]No findings.[/]")


@review.command()
def show(
    finding: Finding,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show one finding with its numbers and its log."""
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
        row = reviews.get(tx, person, settings, finding)
        entries = reviews.history(tx, person, settings, finding)
    if json:
        print_json({**_row_json(row), "log": [_entry_json(entry) for entry in entries]})
        return
    for name, value in _facts(row).items():
        console.print(f"[dim]{name:>14}[/] {plain(value)}")
    for member in row.plan.members:
        facts = [member.why, f"weights {member.weights_digest[:12]}" if member.weights_digest else ""]
        console.print(f"[dim]{member.role:>14}[/] {plain(' · '.join(filter(None, [member.version, *facts])))}")
    for entry in entries:
        console.print(_sentence(entry))


@review.command()
def assign(
    findings: Findings,
    to: Annotated[str, typer.Option(help="The new assignee; empty: unassign.", show_default=False)],
    due: Annotated[datetime | None, typer.Option(help="Due date (UTC).", show_default="unchanged")] = None,
    comment: Comment = "",
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Assign findings to a person. Their status becomes in_review."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
        seen, due_at = _seen(tx, person, settings, findings), due and due.replace(tzinfo=UTC)
        reviews.assign(tx, person, settings, seen, assignee=to, due_at=due_at, comment=comment)
    console.print(f"{_count(seen)} assigned to {plain(to)}" if to else f"{_count(seen)} unassigned")


@review.command()
def decide(
    findings: Findings,
    decision: Annotated[Decision, typer.Argument(help="The decision.")],
    reason: Annotated[Reason, typer.Option(help="The reason; each kind allows its own.", show_default=False)],
    comment: Comment,
    keep: Annotated[
        str | None,
        typer.Option(metavar="NAME/VERSION", help="Of one group: keep this version.", show_default="as proposed"),
    ] = None,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Decide findings, all or none. A decision that retires a model needs a second person's approval."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
        seen = _seen(tx, person, settings, findings)
        keepers = None if keep is None else {findings[0]: _member(tx, person, settings, findings, keep)}
        actions = reviews.decide(
            tx, person, settings, seen, decision=decision, reason=reason, comment=comment, keepers=keepers
        )
        rows = [reviews.get(tx, person, settings, one) for one in findings]
    waits = ": waits for a second person's approval" if Action.REQUESTED in actions else ""
    console.print(f"{_count(seen)} {', '.join(sorted(set(actions)))}{waits}")
    for row in rows:
        if row.plan.targets and reason in NEEDS_APPROVAL:
            console.print(plain(row.plan.reason))


@review.command()
def approve(
    findings: Findings,
    comment: Comment,
    refuse: Annotated[bool, typer.Option("--refuse", help="Refuse instead, or withdraw your own request.")] = False,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Approve requests of another person."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
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
    """Reopen decided findings."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
        seen = _seen(tx, person, settings, findings)
        reviews.reopen(tx, person, settings, seen, comment=comment)
    console.print(f"{_count(seen)} reopened")


@review.command()
def log(
    reviewer: Annotated[str | None, typer.Option(help="Only entries of this person.", show_default=False)] = None,
    rule: Annotated[str | None, typer.Option(help="Only entries of this rule.", show_default=False)] = None,
    since: Annotated[datetime | None, typer.Option(help="Only entries at this time (UTC) or later.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Maximum number of entries.", min=1)] = 50,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the decision log, newest first."""
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
        since = since and since.replace(tzinfo=UTC)
        entries = reviews.log(tx, person, settings, reviewer=reviewer, rule=rule, since=since, limit=limit)
    if json:
        print_json([_entry_json(entry) for entry in entries])
        return
    for entry in entries:
        console.print(
            f"{_sentence(entry)} [dim]finding {entry.review_id}, entry {entry.id}, {plain(entry.hash[:12])}[/]"
        )


@review.command()
def plan(
    findings: Annotated[list[int] | None, typer.Argument(metavar="FINDING…", show_default="all approved")] = None,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Print what is left to do of approved retirements, as commands of MLflow's client. Deltadex deletes nothing."""
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
        rows = reviews.listing(tx, person, settings, ids=findings, statuses=[Status.ACCEPTED])
        lists = [(row, checklist(row, settings.thresholds.deployed_tags)) for row in rows]
    lists = [(row, tasks) for row, tasks in lists if tasks]
    if json:
        print_json([{"finding": row.id, "tasks": [asdict(task) for task in tasks]} for row, tasks in lists])
        return
    for row, tasks in lists:
        console.print(f"[dim]# finding {row.id}: {plain(row.plan.reason)}[/]", soft_wrap=True)
        for task in tasks:
            console.print(f"[dim]# {plain(task.version)}: {plain(task.what)}{' (done)' if task.is_done else ''}[/]")
            if task.command:
                console.print(plain(task.command), soft_wrap=True)
    if not lists:
        console.print("[dim]No retirement is approved and still to be carried out.[/]")


def _whole_head(head: str | None) -> str | None:
    """Refuse a head that was cut or mistyped, which no log has."""
    if head and not re.fullmatch(r"(\d+:)?[0-9a-f]{64}", head):
        raise typer.BadParameter(f"{printable(head)} is no head: these are NUMBER:HASH, with the whole hash")
    return head


@review.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER:HASH",
            callback=_whole_head,
            show_default=False,
            help="An earlier head of the log or the history of ownership.",
        ),
    ] = None,
    proof: Annotated[
        typer.FileText | None,
        typer.Option(help="A file from `review prove`: shows the head that it leads to. Needs no database."),
    ] = None,
    backup: Annotated[
        Path | None,
        typer.Option(help="A file from `db backup`: verifies the log in it. Needs no database.", dir_okay=False),
    ] = None,
    as_: As = None,
    json: Json = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Verify the log and the history of ownership, that all is as they left it, and that witnesses hold no more.

    The watcher publishes heads to the witnesses of DELTADEX_WITNESSES; with them, or with `--head`, a log or a history
    that was cut off or rewritten is detected. Exits with 4 if anything is wrong, with 3 if a witness did not answer.
    """
    if proof is not None:
        _verify_proof(proof.read(), head, json=json)
        return
    if backup is not None:
        witnesses.report(*witnesses.verified_backup(backup, data_dir, head=head), json=json, may_be_shorter=True)
        return
    chain, owned, found = witnesses.verified(data_dir, database_url, as_=as_, head=head)
    witnesses.report(chain, found, owned=owned, json=json)


@review.command()
def prove(
    entry: Entry, as_: As = None, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """Print the proof of one log entry: of all others it has only digests. `verify --proof` checks it."""
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
        print_json(reviews.prove(tx, person, settings, entry), one_line=not json)


@review.command()
def erase(
    entries: Annotated[list[int], typer.Argument(metavar="ENTRY…", help="Ids from `deltadex review log`.")],
    comment: Comment,
    as_: As = None,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Erase the comments of log entries for good, on request. The log says so, and its proof stands. For admins."""
    with reading(data_dir, database_url, as_=as_, login="dashboard") as (tx, person, settings):
        reviews.erase(tx, person, settings, entries, comment=comment)
    console.print(f"the comment of {'1 entry' if len(set(entries)) == 1 else f'{len(set(entries))} entries'} is erased")


@review.command()
def rules(as_: As = None, json: Json = False, data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
    """Show the delegated rules of the settings, with the number of findings that each has decided."""
    with reading(data_dir, database_url, as_=as_) as (tx, person, settings):
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
        table.add_row(*map(plain, texts), str(count))
    console.print(table if found else "[dim]No rules: a person decides everything.[/]")


def _verify_proof(text: str, head: str | None, *, json: bool) -> None:
    try:
        proof = json_format.loads(text)
    except ValueError as error:
        raise GovernanceError(f"The proof is not JSON: {error}", hint="`deltadex review prove` writes one.") from error
    found = proofs.verify_proof(proof)
    if json:
        print_json({"head": found, "is_expected": None if head is None else found == head})
    else:
        console.print(f"it leads to the head {found}", soft_wrap=True)
    if head is not None and found != head:
        if not json:
            console.print("[bold red]The proof leads to another head.[/] Take the head of the day of the proof.")
        raise typer.Exit(witnesses.FOUND_SOMETHING)


def _member(tx: Transaction, person: Person, settings: Settings, findings: Sequence[int], name: str) -> int:
    """Return the id of the version of a group that is named so."""
    if len(findings) > 1:
        raise typer.BadParameter("names a version of one group: decide one finding at a time", param_hint="--keep")
    row = reviews.get(tx, person, settings, findings[0])
    found = next((version.id for version in row.members if version.label == name), None)
    if found is None:
        labels = ", ".join(version.label for version in row.members) or "none"
        raise typer.BadParameter(f"{name} is not in the group of finding {row.id}: {labels}", param_hint="--keep")
    return found


def _seen(tx: Transaction, person: Person, settings: Settings, ids: Sequence[int]) -> dict[int, int]:
    """Return the current revision of each finding: unlike a page, a command cannot show a stale one."""
    return {one: reviews.get(tx, person, settings, one).revision for one in ids}


def _count(seen: dict[int, int]) -> str:
    return "1 finding" if len(seen) == 1 else f"{len(seen)} findings"


def _measure(row: ReviewRow) -> str:
    return "" if row.finding.measure is None else f"{row.finding.measure:.4f}"


def _sentence(entry: LogEntry) -> str:
    actor = f"{entry.reviewer} by rule {entry.rule}" if entry.rule else entry.reviewer
    action = f"{entry.action} {entry.assignee}".rstrip() + (f", {entry.reason}" if entry.reason else "")
    comment = f" “{entry.comment}”" if entry.comment else " (comment erased)" if entry.is_erased else ""
    text = f"{action}: {entry.plan.reason or ' and '.join(entry.labels)}{comment}"
    return f"[dim]{entry.decided_at:%Y-%m-%d %H:%M:%S}[/] [bold]{plain(actor)}[/] {plain(text)}"


def _facts(row: ReviewRow) -> dict[str, Any]:
    """Return the facts of a finding for the terminal; the members of a group have lines of their own."""
    values = _row_json(row)
    evidence = {name: value for name, value in values["evidence"].items() if name != "members"}
    return {**values, "versions": ", ".join(label(version) for version in row.versions), "evidence": evidence}


def _row_json(row: ReviewRow) -> dict[str, Any]:
    return {
        "finding": row.id,
        "title": title(row),
        "kind": row.finding.kind,
        "severity": row.severity,
        "status": row.review.status,
        "versions": [version_json(version) for version in row.versions],
        "measure": row.finding.measure,
        "threshold": row.finding.threshold,
        "decision": row.plan.reason,
        "evidence": dict(row.finding.evidence),
        "is_found": row.is_found,
        "owner": row.owner,
        "tier": row.tier,
        "assignee": row.assignee,
        "requested_by": row.review.requested_by,
        "due_at": row.due_at.isoformat(),
        "is_overdue": row.is_overdue,
        "first_seen": row.first_seen.isoformat(),
        "last_measured": row.last_measured.isoformat(),
    }


def _entry_json(entry: LogEntry) -> dict[str, Any]:
    values = asdict(entry)
    return {**values, "decided_at": entry.decided_at.isoformat()}
