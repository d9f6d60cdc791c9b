"""JUnit XML: the format in which build servers show the results of tests. Pure functions."""

from __future__ import annotations

from xml.etree import ElementTree

from deltadex.checks.check import Outcome, VersionCheck, judged_by
from deltadex.escaping import xml_text
from deltadex.findings.kinds import KINDS
from deltadex.reviews.queries import ReviewRow
from deltadex.settings import Settings
from deltadex.types import FindingKind


def junit(check: VersionCheck, settings: Settings) -> str:
    """Return a test suite with one test per kind of finding asked for, as XML.

    A version that was not checked is an error of each test: no build server takes it for a pass.
    """
    cases = [_case(check, kind, settings) for kind in check.fail_on.kinds]
    counts = {name: sum(case.find(tag) is not None for case in cases) for name, tag in _COUNTED}
    suite = ElementTree.Element(
        "testsuite",
        {"name": f"deltadex check {xml_text(check.label)}", "tests": str(len(cases))}
        | {name: str(count) for name, count in counts.items()},
    )
    suite.extend(cases)
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


_COUNTED = (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))


def _case(check: VersionCheck, kind: FindingKind, settings: Settings) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"classname": xml_text(check.label), "name": KINDS[kind].label})
    found = [row for row in check.failing if row.finding.kind is kind]
    if found:
        failure = ElementTree.SubElement(case, "failure", {"message": xml_text(check.title(found[0])), "type": kind})
        failure.text = xml_text("\n".join(_line(check, row, settings) for row in found), multiline=True)
    elif check.outcome in (Outcome.NOT_READY, Outcome.NOT_MEASURED):
        ElementTree.SubElement(case, "error", {"message": xml_text(check.reason), "type": check.outcome})
    elif kind in check.unjudged:
        later = f"not judged yet, but by {judged_by(kind, check.label)}"
        ElementTree.SubElement(case, "skipped", {"message": xml_text(later)})
    return case


def _line(check: VersionCheck, row: ReviewRow, settings: Settings) -> str:
    numbers = "" if row.finding.measure is None else f", {row.finding.measure:.4f}"
    link = settings.finding_link(row.id)
    return f"{check.title(row)} ({row.severity}{numbers}), finding {row.id}{f': {link}' if link else ''}"
