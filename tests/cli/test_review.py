"""Review of a finding from the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from deltadex.reviews import actions as reviews
from deltadex.settings import Settings
from deltadex.store.database import Database
from deltadex.types import State
from deltadex.versions import transitions
from tests.cli.test_main import deltadex
from tests.stored import REGISTRY, discovered

RULE = {"name": "toys", "kinds": ["failed"], "tags": {"project": "sandbox"}, "reason": "sandbox", "comment": "toy"}


@pytest.fixture
def run(database: Database, tmp_path: Path) -> Callable[..., Any]:
    """Run `deltadex review` on two versions that failed, and read its JSON."""
    with database.transaction() as tx:
        for name in ("broken", "toy"):
            version_id = discovered(tx, name, tags={"project": "sandbox"} if name == "toy" else {})
            transitions.mark_ended(tx, version_id, state=State.FAILED, reason="truncated")
        reviews.follow(tx, Settings(registry=REGISTRY))

    def run(*arguments: str, code: int = 0, **given: str) -> Any:
        environment = {
            "DELTADEX_DATABASE__URL": database.url, "DELTADEX_DATA_DIR": str(tmp_path), "DELTADEX_REGISTRY": REGISTRY,
        }  # fmt: skip
        result = deltadex("review", *arguments, **{**environment, **given})
        assert result.returncode == code, result.stderr
        return json.loads(result.stdout) if "--json" in arguments else result.stdout + result.stderr

    return run


def test_the_whole_life_of_a_finding_with_two_people(run: Callable[..., Any]) -> None:
    first, second = (row["finding"] for row in run("list", "--json"))
    assert "broken/1" in run("list", "--severity", "high")
    run("assign", str(first), str(second), "--to", "ada", "--as", "ben")
    assert [row["finding"] for row in run("list", "--assignee", "ada", "--status", "in_review", "--json")] == [
        first,
        second,
    ]
    retire = ("decide", str(first), "accepted", "--reason", "retire", "-m", "nobody needs it")
    assert "waits for a second person" in run(*retire, "--as", "ada")
    assert "waits for" in run("list")
    assert "ada asked for this and can't approve it too" in run(
        "approve", str(first), "-m", "yes", "--as", "ada", code=1
    )
    assert "1 finding approved" in run("approve", str(first), "-m", "yes", "--as", "ben")
    assert "1 finding reopened" in run("reopen", str(first), "-m", "after all", "--as", "ben")
    both = ("decide", str(first), str(second), "dismissed", "--reason")
    assert "can't be dismissed with the reason retrain" in run(*both, "retrain", "-m", "x", code=1)
    assert "2 findings dismissed" in run(*both, "not_needed", "-m", "x")
    assert run("list", "--json") == []
    shown = run("show", str(first), "--json")
    assert (shown["status"], shown["versions"]) == ("dismissed", [{"name": "broken", "version": 1}])
    actions = ["assigned", "requested", "approved", "reopened", "dismissed"]
    assert [entry["action"] for entry in shown["log"]] == actions
    assert [entry["action"] for entry in run("log", "--reviewer", "ada", "--json")] == ["requested"]
    said = " ".join(run("log").split())
    assert "ada requested, retire: broken/1 “nobody needs it” finding 1" in said


def test_the_log_is_verified_against_a_head_noted_down(run: Callable[..., Any], database: Database) -> None:
    first = run("list", "--json")[0]["finding"]
    run("assign", str(first), "--to", "ada")
    head = run("verify", "--json")["head"]
    run("assign", str(first), "--to", "ben")
    assert run("verify", "--head", head, "--json")["is_whole"]
    assert "The entry 000000000000… is missing" in run("verify", "--head", "0" * 64, code=4)
    assert "with the whole hash" in run("verify", "--head", head[:12], code=2)
    with database.transaction() as tx:
        tx.execute("alter table decisions disable trigger user")
        tx.execute("update decisions set assignee = 'eve' where assignee = 'ada'")
    assert "was changed" in run("verify", code=4)


def test_a_comment_is_erased_and_both_proofs_lead_to_their_heads(run: Callable[..., Any], tmp_path: Path) -> None:
    first = run("list", "--json")[0]["finding"]
    run("decide", str(first), "dismissed", "--reason", "not_needed", "-m", "Jo Miller left.", "--as", "ben")
    [entry] = run("log", "--json")
    assert (entry["reviewer"], entry["identity"]) == ("ben", f"uid {os.getuid()} as ben")
    head = run("verify", "--json")["head"]
    proof = tmp_path / "proof.json"
    proof.write_text(run("prove", str(entry["id"])))
    assert "1 entry is erased" in run("erase", str(entry["id"]), "-m", "Jo asked for it.")
    assert "Jo Miller" not in run("log") + run("show", str(first))
    assert "(comment erased)" in run("log")
    assert run("verify", "--proof", str(proof), "--head", head, "--json")["is_expected"]
    assert "another head" in run("verify", "--proof", str(proof), "--head", f"1:{0:064}", code=4)
    assert run("verify", "--head", head, "--json")["is_whole"]
    assert "erased already" in run("erase", str(entry["id"]), "-m", "again", code=1)
    proof.write_text("{}")
    assert "incomplete" in run("verify", "--proof", str(proof), code=1)


def test_a_finding_that_was_changed_past_the_log_is_named(run: Callable[..., Any], database: Database) -> None:
    first = run("list", "--json")[0]["finding"]
    with database.transaction() as tx:
        tx.execute("update reviews set status = 'dismissed' where id = %s", [first])
    assert f"Finding {first} (dismissed) is not as the log left it (open)" in run("verify", code=4)


def test_a_person_with_their_own_database_user_decides_as_that_user(
    run: Callable[..., Any], database: Database
) -> None:
    urls = {}
    with database.connect() as tx:
        for name in ("terminal_ada", "terminal_ben"):
            tx.execute(SQL("drop role if exists {}").format(Identifier(name)))
            tx.execute(SQL("create role {} login password 'p' in role deltadex_reader").format(Identifier(name)))
            urls[name] = {"DELTADEX_DATABASE__URL": make_conninfo(database.url, user=name, password="p")}
    first = str(run("list", "--json")[0]["finding"])
    run("decide", first, "accepted", "--reason", "retire", "-m", "old", "--as", "ceo", **urls["terminal_ada"])
    refused = run("approve", first, "-m", "yes", "--as", "board", code=1, **urls["terminal_ada"])
    assert "terminal_ada can't approve their own request" in " ".join(refused.split())
    assert "1 finding approved" in run("approve", first, "-m", "yes", "--as", "board", **urls["terminal_ben"])
    assert [entry["reviewer"] for entry in run("log", "--json")] == ["terminal_ben", "terminal_ada"]


def test_rules_show_what_they_did(run: Callable[..., Any], database: Database) -> None:
    rules = json.dumps([{**RULE, "by": "ada"}])
    settings = Settings(registry=REGISTRY, review={"rules": json.loads(rules)})
    with database.transaction() as tx:
        reviews.follow(tx, settings)
    [shown] = run("rules", "--json", DELTADEX_REVIEW__RULES=rules)
    assert (shown["name"], shown["by"], shown["decided"]) == ("toys", "ada", 1)
    assert "ada by rule toys" in run("log", "--rule", "toys")
    assert len(run("list", "--json")) == 1


def test_with_a_list_of_people_the_user_of_this_machine_counts(run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "people.json").write_text('{"people": {"somebody-else": {"role": "admin"}}}')
    listed = {"DELTADEX_ACCESS__FILE": str(tmp_path / "people.json")}
    assert "has no role here" in run("list", code=1, **listed)
    assert "--as is only allowed" in run("list", "--as", "somebody-else", code=1, **listed)
