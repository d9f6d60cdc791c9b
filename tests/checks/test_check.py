"""The gate: what fails it, what does not, and what is not known yet."""

from __future__ import annotations

import json
import re
import shlex
import threading
import time
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from deltadex.access import HIDDEN, Person, Role, system_user
from deltadex.checks.check import Outcome, VersionCheck, check, wait_for_check
from deltadex.checks.conditions import parse_fail_on
from deltadex.checks.junit import junit
from deltadex.checks.sarif import sarif
from deltadex.cli import app
from deltadex.cli.check import CheckFormat
from deltadex.embeddings import queries as embeddings
from deltadex.findings import queries as findings
from deltadex.findings.kinds import Reason
from deltadex.reviews import actions as reviews
from deltadex.reviews.reasons import Decision
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.taught import queries as taught
from deltadex.taught.queries import Taught, TaughtGiven
from deltadex.types import Finding, FindingKind, State
from deltadex.versions import queries as versions
from deltadex.versions import transitions
from tests.importing import imported_by
from tests.safety import states
from tests.safety.test_queries import measured
from tests.stored import ADMIN, REGISTRY, discovered, embedded, embedding, grouped

SETTINGS = Settings(registry=REGISTRY, dashboard_url="http://dash")
LEGAL = np.array([1.0, 0.0])
#: A name that is markup in SARIF, XML and the terminal.
ODD = "legal [bold](x) {0} <b>&\ufffe"


@pytest.fixture
def company(database: Database) -> Database:
    """A version that repeats another one, one that does not, one that failed and one under way."""
    with database.transaction() as tx:
        first = embedded(tx, "contract-drafter", LEGAL, version=2)
        second = embedded(tx, "legal-drafter", LEGAL + 0.01, version=3)
        embedded(tx, "sql-writer", np.array([0.0, 1.0]))
        grouped(tx, [first, second], 0.97)
        broken = discovered(tx, "broken")
        transitions.mark_ended(tx, broken, state=State.FAILED, reason="truncated")
        discovered(tx, "new")
        reviews.follow(tx, SETTINGS)
    return database


def parsed(text: str) -> ElementTree.Element:
    """Return the only test suite of a document."""
    [suite] = ElementTree.fromstring(text)  # noqa: S314 - we have just written it
    return suite


def checked(database: Database, label: str, fail_on: str = "any", viewer: Person = ADMIN) -> VersionCheck:
    name, _, number = label.rpartition("/")
    conditions = parse_fail_on(fail_on)
    return database.run(lambda tx: check(tx, viewer, SETTINGS, name, int(number), fail_on=conditions))


def test_a_version_that_repeats_another_is_found_and_one_that_does_not_passes(company: Database) -> None:
    found = checked(company, "legal-drafter/3", "near_duplicate,wrong_base")
    assert found.outcome is Outcome.FOUND
    assert [row.finding.kind for row in found.failing] == [FindingKind.NEAR_DUPLICATE]
    assert checked(company, "sql-writer/1", "near_duplicate").outcome is Outcome.PASSED
    other = checked(company, "legal-drafter/3", "wrong_base")
    assert (other.outcome, len(other.others)) == (Outcome.PASSED, 1)


def test_a_dismissed_finding_fails_nothing_and_is_told(company: Database) -> None:
    with company.transaction() as tx:
        [row] = reviews.listing(tx, ADMIN, SETTINGS, kinds=[FindingKind.NEAR_DUPLICATE])
        seen, reason = {row.id: row.revision}, Reason.DIFFERENT_PURPOSE
        reviews.decide(tx, ADMIN, SETTINGS, seen, decision=Decision.DISMISSED, reason=reason, comment="for Austria")
    done = checked(company, "legal-drafter/3")
    assert (done.outcome, len(done.settled)) == (Outcome.PASSED, 1)
    [result] = sarif(done, SETTINGS)["runs"][0]["results"]
    assert result["suppressions"][0]["status"] == "accepted"


def test_what_could_not_be_embedded_never_passes(company: Database) -> None:
    assert checked(company, "broken/1").outcome is Outcome.FOUND
    done = checked(company, "broken/1", "near_duplicate")
    assert done.outcome is Outcome.NOT_MEASURED
    assert "truncated" in done.reason


def test_what_is_under_way_unknown_or_judged_later_is_not_ready(company: Database) -> None:
    assert checked(company, "new/1").outcome is Outcome.NOT_READY
    assert checked(company, "no-such-model/1").outcome is Outcome.NOT_READY
    assert checked(company, "sql-writer/1", "same_task").outcome is Outcome.NOT_READY
    assert set(checked(company, "sql-writer/1", "any").unjudged) == {
        FindingKind.SAME_TASK, FindingKind.SAFETY_COLLAPSED, FindingKind.PROBES_DISAGREE, FindingKind.TAUGHT,
    }  # fmt: skip
    assert checked(company, "sql-writer/1", "probes_disagree").outcome is Outcome.NOT_READY
    asked = checked(company, "sql-writer/1", "safety_collapsed")
    assert asked.outcome is Outcome.NOT_READY
    assert asked.reason == "safety_collapsed is not judged yet, but by `deltadex safety sql-writer/1 --measure`"


def test_private_probes_of_workers_without_a_seed_are_never_waited_for(company: Database) -> None:
    with company.transaction() as tx:
        [row] = versions.find(tx, REGISTRY, "sql-writer", 1)
        measured(tx, states.base(), row.id)
    done = checked(company, "sql-writer/1", "probes_disagree")
    assert done.outcome is Outcome.NOT_MEASURED
    assert "no private seed" in done.reason


def test_what_was_measured_on_earlier_weights_is_not_measured(company: Database) -> None:
    with company.transaction() as tx:
        [row] = versions.find(tx, REGISTRY, "sql-writer", 1)
        for digest, outcome in (("before", Outcome.NOT_READY), (row.weights_digest or "", Outcome.PASSED)):
            search = taught.ask(tx, REGISTRY, row.id, TaughtGiven(), texts=1, by="ann")
            taught.begin(tx, search, flow_run_id="run")
            taught.finish(tx, search, Taught((), (), 1, 1, is_whole=True), weights_digest=digest, seconds=1)
            done = check(tx, ADMIN, SETTINGS, "sql-writer", 1, fail_on=parse_fail_on("taught"))
            assert done.outcome is outcome


def test_what_is_found_about_a_registered_model_is_found_for_each_version(database: Database) -> None:
    with database.transaction() as tx:
        first, _ = (embedded(tx, "support", np.ones(3), version=number) for number in (1, 2))
        found = Finding(FindingKind.NOT_ATTESTED, first, evidence={"reason": "there is none"})
        findings.replace(tx, [found], version_id=first, recipe_id=None, kinds=[FindingKind.NOT_ATTESTED])
        embedded(tx, "another", np.ones(3))
        reviews.follow(tx, SETTINGS)
        for name, number, outcome in (
            ("support", 1, Outcome.FOUND), ("support", 2, Outcome.FOUND), ("another", 1, Outcome.PASSED),
        ):  # fmt: skip
            assert check(tx, ADMIN, SETTINGS, name, number, fail_on=parse_fail_on("not_attested")).outcome is outcome


def test_a_drift_is_the_newer_versions_only(database: Database) -> None:
    with database.transaction() as tx:
        ids = [embedded(tx, "support", vector, version=at) for at, vector in ((1, LEGAL), (2, LEGAL[::-1]))]
        tx.execute(
            "insert into findings (kind, model_version_id, other_id, measure, threshold, evidence)"
            " values ('drift', %s, %s, 0.9, 0.5, '{}')",
            [ids[1], ids[0]],
        )
        reviews.follow(tx, SETTINGS)
    assert checked(database, "support/2", "drift").outcome is Outcome.FOUND
    assert checked(database, "support/1", "drift").outcome is Outcome.PASSED


def test_waiting_ends_when_the_version_is_judged_and_not_before(company: Database) -> None:
    conditions, said = parse_fail_on("near_duplicate"), []

    def read(tx):
        return check(tx, ADMIN, SETTINGS, "new", 1, fail_on=conditions)

    def embed_later() -> None:
        time.sleep(1)
        with company.transaction() as tx:
            [row] = versions.find(tx, REGISTRY, "new", 1)
            embeddings.save(
                tx, row.id, embedding(np.array([0.5, -0.5])), base_name="base", artifact_uri="runs:/a", is_weak=False
            )

    thread = threading.Thread(target=embed_later)
    thread.start()
    done = wait_for_check(company, read, seconds=30, on_progress=said.append)
    thread.join()
    assert done.outcome is Outcome.PASSED
    assert said
    assert {one.outcome for one in said} == {Outcome.NOT_READY}
    began = time.monotonic()
    late = wait_for_check(company, read=lambda tx: said[0], seconds=0.5, on_progress=said.append)
    assert late.outcome is Outcome.NOT_READY
    assert time.monotonic() - began < 10


def test_a_hidden_model_is_told_without_its_name_and_numbers(company: Database) -> None:
    viewer = Person("eve", Role.VIEWER, models=("legal-*",))
    done = checked(company, "legal-drafter/3", viewer=viewer)
    texts = json.dumps(sarif(done, SETTINGS), ensure_ascii=False) + junit(done, SETTINGS)
    assert done.outcome is Outcome.FOUND
    assert HIDDEN in texts
    assert "contract-drafter" not in texts
    assert "0.97" not in texts
    assert checked(company, "contract-drafter/2", viewer=viewer).outcome is Outcome.NOT_READY


def test_odd_names_are_data_in_every_format(database: Database) -> None:
    with database.transaction() as tx:
        first, second = embedded(tx, ODD, LEGAL), embedded(tx, "other", LEGAL)
        grouped(tx, [first, second])
        reviews.follow(tx, SETTINGS)
    done = checked(database, "other/1")
    [result] = sarif(done, SETTINGS)["runs"][0]["results"]
    assert r"\[bold\](x) {{0}} <b>&" in result["message"]["text"]
    [case] = parsed(junit(done, SETTINGS)).iter("failure")
    assert "legal [bold](x) {0} <b>&" in case.attrib["message"]


def test_sarif_has_what_its_schema_requires(company: Database) -> None:
    log = sarif(checked(company, "legal-drafter/3", "near_duplicate,wrong_base"), SETTINGS)
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    [result] = run["results"]
    assert (log["version"], run["tool"]["driver"]["name"]) == ("2.1.0", "Deltadex")
    assert [rule["id"] for rule in rules] == ["near_duplicate", "wrong_base"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "near_duplicate"
    assert result["level"] in {"none", "note", "warning", "error"}
    [place] = result["locations"]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "models:/legal-drafter/3"
    assert result["hostedViewerUri"] == "http://dash/inbox?finding=1"
    assert result["properties"]["measure"] == 0.97
    assert run["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
    [passed] = sarif(checked(company, "sql-writer/1"), SETTINGS)["runs"][0]["invocations"]
    assert passed["executionSuccessful"]
    notes = {each["message"]["text"] for each in passed["toolExecutionNotifications"]}
    assert "Taught secrets is not judged yet: `deltadex taught sql-writer/1 --search`" in notes, notes
    [waiting] = sarif(checked(company, "new/1"), SETTINGS)["runs"][0]["invocations"]
    assert waiting["executionSuccessful"] is False


def test_junit_has_a_test_per_kind_and_an_error_where_nothing_was_compared(company: Database) -> None:
    suite = parsed(junit(checked(company, "legal-drafter/3", "near_duplicate,drift"), SETTINGS))
    assert {key: suite.attrib[key] for key in ("tests", "failures", "errors")} == {
        "tests": "2", "failures": "1", "errors": "0",
    }  # fmt: skip
    [failure] = suite.iter("failure")
    assert "legal-drafter/3 behaves nearly like" in failure.attrib["message"]
    waiting = parsed(junit(checked(company, "new/1", "near_duplicate,drift"), SETTINGS))
    assert waiting.attrib["errors"] == "2"
    later = parsed(junit(checked(company, "sql-writer/1"), SETTINGS))
    assert later.attrib["skipped"] == "4"
    assert "deltadex taught sql-writer/1 --search" in [one.attrib["message"] for one in later.iter("skipped")][-1]


def test_the_command_answers_by_its_exit_code_and_in_every_format(company: Database, tmp_path: Path) -> None:
    variables = {
        "DELTADEX_DATABASE__URL": company.url, "DELTADEX_REGISTRY": REGISTRY, "DELTADEX_DATA_DIR": str(tmp_path),
    }  # fmt: skip

    def run(*arguments: str, **more: str):
        return CliRunner().invoke(app, ["check", *arguments], env={**variables, **more})

    found = run("legal-drafter/3", "--fail-on", "near_duplicate", "--format", "junit", "-o", str(tmp_path / "c.xml"))
    assert found.exit_code == 4
    assert "legal-drafter/3 behaves nearly like contract-drafter/2" in found.stdout
    assert parsed((tmp_path / "c.xml").read_text()).attrib["failures"] == "1"
    passed = run("sql-writer/1", "--fail-on", "near_duplicate", "--json")
    assert (passed.exit_code, json.loads(passed.stdout)["outcome"]) == (0, "passed")
    late = run("new/1", "--wait", "0.1")
    assert (late.exit_code, "it is discovered" in late.stdout) == (3, True)
    assert run("broken/1", "--fail-on", "near_duplicate").exit_code == 1
    wrong = run("new/1", "--fail-on", "duplicates")
    assert (wrong.exit_code, "near_duplicate" in wrong.output) == (2, True)
    (tmp_path / "people.json").write_text(
        json.dumps({"people": {system_user(): {"role": "viewer", "models": ["legal-*"]}}})
    )
    masked = run("legal-drafter/3", "--format", "sarif", DELTADEX_ACCESS__FILE=str(tmp_path / "people.json"))
    assert (masked.exit_code, "contract-drafter" in masked.stdout) == (4, False)


def test_it_needs_neither_torch_nor_mlflow() -> None:
    assert {"torch", "transformers", "mlflow"} & imported_by(
        "import deltadex.checks.check, deltadex.cli.check"
    ) == set()


def test_the_pipelines_of_the_docs_are_yaml_and_their_commands_are_right() -> None:
    text = (Path(__file__).parents[2] / "docs" / "check.md").read_text()
    github, gitlab = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))
    steps = [step["run"] for step in github["jobs"]["promote"]["steps"] if "run" in step]
    commands = [line for line in (*steps, *gitlab["check-model"]["script"]) if line.startswith("deltadex check")]
    assert len(commands) == 2
    for command in commands:
        chosen = dict(pairwise(shlex.split(command)))
        assert parse_fail_on(chosen["--fail-on"]).kinds
        assert chosen["--format"] in list(CheckFormat)
