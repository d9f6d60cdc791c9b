"""`augment` and `endpoint log`: files, agreement before anything is sent, and the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deltadex.engine.examples import read_examples
from deltadex.store.database import Database
from tests import tiny_models
from tests.chat_servers import in_turn, said, serving
from tests.cli.test_main import deltadex

FACTS = [("DNS", "names of hosts"), ("TLS", "encryption on the way"), ("NTP", "the time of a network")] * 3


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    file = tmp_path / "examples.jsonl"
    lines = [json.dumps({"prompt": f"What is {term}{n}?", "completion": text}) for n, (term, text) in enumerate(FACTS)]
    file.write_text("\n".join(lines))
    return file


@pytest.fixture
def variables(database: Database, tmp_path: Path) -> dict[str, str]:
    given = {"DATABASE__URL": database.url, "REGISTRY": "acme", "DATA_DIR": str(tmp_path), "ENDPOINT__MODEL": "tiny"}
    return {f"DELTADEX_{name}": value for name, value in given.items()}


def test_rules_need_no_service(examples: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = deltadex("augment", str(examples), "--output", str(output), DELTADEX_DATA_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "reversed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert len(read_examples(output.read_text())) > len(FACTS)
    none = deltadex(
        "augment", str(examples), "--no-local", "--output", str(output), "--json", DELTADEX_DATA_DIR=str(tmp_path)
    )
    assert json.loads(none.stdout)["made"] == {"rephrased": 0, "reversed": 0, "inferred": 0}


def test_wrong_options_are_usage_errors(examples: Path, tmp_path: Path) -> None:
    for options in (["--compare"], ["--base", "b"], ["--output", str(tmp_path / "no" / "out")]):
        given = ["--output", str(tmp_path / "out")] if "--output" not in options else []
        assert deltadex("augment", str(examples), *given, *options, DELTADEX_DATA_DIR=str(tmp_path)).returncode == 2


def test_nothing_is_sent_before_somebody_agrees(examples: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    output = tmp_path / "out.jsonl"
    command = ["augment", str(examples), "--output", str(output), "--global", "--json"]
    inference = json.dumps({"prompt": "What are DNS0 and TLS1?", "completion": "names of hosts", "sources": [1, 2]})
    with serving(in_turn(said(inference))) as peer:
        variables["DELTADEX_ENDPOINT__URL"] = peer.url
        refused = deltadex(*command, **variables)
        assert (refused.returncode, peer.requests, output.exists()) == (1, [], False)
        assert "you did not agree" in refused.stderr
        assert "Nothing was sent" in deltadex("endpoint", "log", **variables).stdout
        done = deltadex(*command, "--yes", **variables)
        assert len(peer.requests) == 1
    assert done.returncode == 0, done.stderr
    for said_ in (refused.stderr, done.stderr):
        assert "What is DNS0?" in said_
        assert "9 texts" in said_
        assert peer.url.split("/")[2] in said_.replace("\n", "")
    assert json.loads(done.stdout)["made"]["inferred"] == 1
    [row] = json.loads(deltadex("endpoint", "log", "--json", **variables).stdout)
    assert (row["purpose"], row["model"], row["bytes"]) == ("augment examples", "tiny", len(peer.bodies[0]))
    table = deltadex("endpoint", "log", **variables).stdout
    assert row["sha256"][:8] in table
    assert max(map(len, table.splitlines())) <= 80


def test_without_endpoint_or_store_global_is_a_stated_error(examples: Path, tmp_path: Path) -> None:
    command = ["augment", str(examples), "--output", str(tmp_path / "out"), "--global", "--yes"]
    off = deltadex(*command, DELTADEX_DATA_DIR=str(tmp_path))
    assert (off.returncode, "No endpoint is set" in off.stderr) == (1, True)
    with serving(in_turn(said("x"))) as peer:
        named = {"DELTADEX_ENDPOINT__URL": peer.url, "DELTADEX_ENDPOINT__MODEL": "m"}
        no_log = deltadex(*command, DELTADEX_DATA_DIR=str(tmp_path), **named)
    assert (no_log.returncode, "No database is set" in no_log.stderr, peer.requests) == (1, True, [])


def test_compare_trains_with_and_without(examples: Path, tmp_path: Path) -> None:
    base, output = tiny_models.build_base(tmp_path / "base"), tmp_path / "out.jsonl"
    command = ["augment", str(examples), "--output", str(output), "--base", str(base), "--compare"]
    done = deltadex(*command, "--json", DELTADEX_DATA_DIR=str(tmp_path), DELTADEX_FIND__STEPS="3")
    assert done.returncode == 0, done.stderr
    effect = json.loads(done.stdout)["effect"]
    assert effect["held_out"] == 2
    assert effect["similarity"] < 1
    assert "held-out" in effect["verdict"]
    sources = [json.loads(line)["sources"] for line in output.read_text().splitlines()[len(FACTS) :]]
    assert {3, 7} & {place for each in sources for place in each} == set()


def test_find_augments_only_examples() -> None:
    refused = deltadex("find", "contracts", "--augment")
    assert (refused.returncode, "--augment goes with --examples" in refused.stderr) == (2, True)
