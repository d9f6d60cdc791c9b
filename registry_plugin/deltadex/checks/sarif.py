"""SARIF 2.1.0 (OASIS): the format in which code hosts show the results of static analyses. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version as version_of
from typing import Any
from urllib.parse import quote

from deltadex.checks.check import Outcome, VersionCheck, judged_by
from deltadex.escaping import printable, sarif_text
from deltadex.findings.kinds import KINDS, Severity
from deltadex.reviews.queries import ReviewRow
from deltadex.settings import Settings
from deltadex.types import FindingKind

_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_PROJECT = "https://github.com/deltadex/deltadex"
_LEVELS: Mapping[Severity, str] = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note"}


def sarif(check: VersionCheck, settings: Settings) -> dict[str, Any]:
    """Return the log of one run: failing findings as results, dismissed ones as suppressed results.

    The place of a result is the model version, as MLflow addresses it: `models:/name/version`.
    """
    kinds = list(check.fail_on.kinds)
    settled = [one for one in check.settled if one.finding.kind in kinds]
    results = [_result(check, one, kinds, settings) for one in (*check.failing, *settled)]
    run = {
        "tool": {"driver": _driver(kinds)},
        "automationDetails": {"id": f"deltadex/{printable(check.label)}"},
        "invocations": [_invocation(check)],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _driver(kinds: list[FindingKind]) -> dict[str, Any]:
    rules = [
        {
            "id": kind,
            "name": "".join(word.capitalize() for word in kind.split("_")),
            "shortDescription": {"text": KINDS[kind].label},
            "defaultConfiguration": {"level": _LEVELS[KINDS[kind].severity]},
        }
        for kind in kinds
    ]
    return {"name": "Deltadex", "version": version_of("deltadex"), "informationUri": _PROJECT, "rules": rules}


def _invocation(check: VersionCheck) -> dict[str, Any]:
    is_judged = check.outcome in (Outcome.PASSED, Outcome.FOUND)
    if is_judged:
        level, said = (
            "note",
            [f"{KINDS[kind].label} is not judged yet: {judged_by(kind, check.label)}" for kind in check.unjudged],
        )
    else:
        level, said = "error", [f"{check.label} was not checked: {check.reason}"]
    notes = [{"level": level, "message": {"text": sarif_text(each)}} for each in said]
    return {"executionSuccessful": is_judged, "toolExecutionNotifications": notes}


def _result(check: VersionCheck, row: ReviewRow, kinds: list[FindingKind], settings: Settings) -> dict[str, Any]:
    finding, link = row.finding, settings.finding_link(row.id)
    uri = f"models:/{quote(check.label, safe='/')}"
    numbers = {"measure": finding.measure, "threshold": finding.threshold}
    is_settled = row in check.settled
    return {
        "ruleId": finding.kind,
        "ruleIndex": kinds.index(finding.kind),
        "level": _LEVELS[row.severity],
        "message": {"text": sarif_text(check.title(row))},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": uri}},
                "logicalLocations": [{"fullyQualifiedName": printable(check.label), "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"deltadex/v1": f"{settings.registry}:{row.id}:{check.label}"},
        **({"hostedViewerUri": link} if link else {}),
        **({"suppressions": [{"kind": "external", "status": "accepted"}]} if is_settled else {}),
        "properties": {
            "finding": row.id,
            "severity": row.severity,
            "status": row.review.status,
            **{name: value for name, value in numbers.items() if value is not None},
        },
    }
