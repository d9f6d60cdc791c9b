"""Each kind of witness against the real thing: a file, git's own server, S3 with object lock, OpenSSL's authority."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from deltadex.errors import SettingsError, WitnessError
from deltadex.setting_groups import NotifySettings
from deltadex.settings import Settings
from deltadex.witness.configured import witnesses_of
from deltadex.witness.head import LogHead, file_name, parse_head
from deltadex.witness.kinds import Witness, parse_address
from tests.witness.conftest import git, make_authority, reply, serving

NOW = datetime(2026, 11, 30, 2, 30, tzinfo=UTC)


def head(entries: int = 3, *, registry: str = "acme", at: datetime = NOW) -> LogHead:
    ownership = f"7:{entries:064x}" if entries > 1 else ""
    return LogHead(registry, entries, f"{entries:064x}", at, ownership=ownership)


def witness(address: str, **values: object) -> Witness:
    [found] = witnesses_of(Settings(witnesses=[address], **values))
    return found


def held(one: Witness, registry: str = "acme") -> list[LogHead]:
    found = one.held(registry)
    assert found is not None
    return sorted(found.heads, key=lambda each: each.entries)


# --- a folder


def test_a_folder_only_grows_and_heals_a_line_that_was_cut_off(heads: Path) -> None:
    one = witness(f"folder:{heads}")
    one.publish(head(1))
    path = heads / "acme.jsonl"
    with path.open("a") as file:
        file.write('{"registry": "acme", "ent')  # the machine went down here
    before = path.read_text()
    one.publish(head(2))
    assert path.read_text().startswith(before + "\n")
    assert held(one) == [head(1), head(2)]
    assert one.held("acme").unreadable == 1


def test_a_missing_folder_is_not_made_and_a_link_not_followed(heads: Path, tmp_path: Path) -> None:
    with pytest.raises(WitnessError, match="no such folder"):
        witness(f"folder:{tmp_path}/not-mounted").publish(head())
    (heads / "acme.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WitnessError):
        witness(f"folder:{heads}").publish(head())
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_or_a_device_in_a_folder_does_not_stop_the_watcher(heads: Path) -> None:
    os.mkfifo(heads / "other.jsonl")
    one = witness(f"folder:{heads}")
    assert "can't be told" in one.caution()
    (heads / "acme.jsonl").symlink_to("/dev/zero")
    with pytest.raises(WitnessError, match="not a plain file"):
        one.held("acme")


def test_a_folder_whose_files_are_append_only_still_takes_heads(heads: Path) -> None:
    one = witness(f"folder:{heads}")
    one.publish(head(1))
    path = heads / "acme.jsonl"
    if subprocess.run(["chattr", "+a", str(path)], check=False, capture_output=True).returncode:
        assert one.caution() != ""
        pytest.skip("this file system has no append-only attribute")
    try:
        assert one.caution() == ""
        one.publish(head(2))
        with pytest.raises(PermissionError):
            path.write_text("")
        assert held(one) == [head(1), head(2)]
    finally:
        subprocess.run(["chattr", "-a", str(path)], check=True)
    assert "chattr +a" in one.caution()


def test_a_registrys_name_leaves_no_folder(heads: Path) -> None:
    one = witness(f"folder:{heads}")
    for name in ("../up", "a/b", "..", "ü", "a b"):
        one.publish(head(registry=name))
        assert held(one, name) == [head(registry=name)]
    assert len(list(heads.iterdir())) == 5
    assert file_name("a/b") != file_name("a_b")


# --- git


def test_a_git_remote_gets_a_commit_per_head_and_keeps_those_that_later_commits_hide(remote: Path) -> None:
    one = witness(f"git+file://{remote}#branch=audit/heads")
    assert held(one) == []
    for entries in (1, 2):
        one.publish(head(entries))
    one.publish(head(3, registry="other"))
    assert git(remote, "ls-tree", "--name-only", "audit/heads").split() == ["acme.json", "other.json"]
    hiding = git(remote, "commit-tree", git(remote, "mktree").strip(), "-p", "audit/heads", "-m", "tidy up").strip()
    git(remote, "update-ref", "refs/heads/audit/heads", hiding)
    assert held(one) == [head(1), head(2)]
    assert held(one, "other") == [head(3, registry="other")]


def test_a_push_that_the_remote_refuses_is_an_error_that_shows_no_password(remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(WitnessError, match="rejected") as caught:
        witness(f"git+file://{remote}").publish(head())
    assert caught.value.retryable
    with pytest.raises(WitnessError) as caught:
        witness("git+http://ada:hunter2@127.0.0.1:9/heads.git").publish(head())
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message.startswith("git+http://127.0.0.1:9/heads.git: ")


def test_a_push_that_lost_a_race_is_made_again_after_the_others(remote: Path) -> None:
    one = witness(f"git+file://{remote}")
    one.publish(head(1))
    hook, other = remote / "hooks" / "pre-receive", remote / "raced"
    # While the first push is under way, another head arrives.
    hook.write_text(
        f"#!/bin/sh\n[ -e {other} ] && exit 0\ntouch {other}\nunset GIT_QUARANTINE_PATH\n"
        "new=$(echo raced | git commit-tree deltadex-heads^{tree} -p deltadex-heads)\n"
        "git update-ref refs/heads/deltadex-heads $new\n"
    )
    hook.chmod(0o755)
    one.publish(head(2))
    assert other.exists()
    assert held(one) == [head(1), head(2)]
    assert "raced" in git(remote, "log", "--format=%s", "deltadex-heads")


# --- S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """Address of a store that speaks S3."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A bucket with object lock."""
    values = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (values | {"MLFLOW_S3_ENDPOINT_URL": s3}).items():
        monkeypatch.setenv(name, value)
    name = f"heads-{abs(hash(request.node.name))}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def test_a_bucket_holds_locked_heads_also_those_under_a_deletion_marker(bucket: str, s3: str) -> None:
    one = witness(f"s3://{bucket}/audit#days=30")
    for entries in (1, 2):
        one.publish(head(entries))
    assert held(one) == [head(1), head(2)]
    client = boto3.client("s3", endpoint_url=s3)
    [first, _] = client.list_object_versions(Bucket=bucket)["Versions"]
    lock = client.head_object(Bucket=bucket, Key=first["Key"], VersionId=first["VersionId"])
    assert lock["ObjectLockMode"] == "COMPLIANCE"
    assert 29 <= (lock["ObjectLockRetainUntilDate"] - datetime.now(UTC)).days <= 30
    with pytest.raises(ClientError, match="AccessDenied"):
        client.delete_object(Bucket=bucket, Key=first["Key"], VersionId=first["VersionId"])
    client.delete_object(Bucket=bucket, Key=first["Key"])
    assert len(client.list_objects_v2(Bucket=bucket)["Contents"]) == 1
    assert held(one) == [head(1), head(2)]


def test_a_bucket_that_is_missing_or_has_no_lock_says_so(bucket: str, s3: str) -> None:
    with pytest.raises(WitnessError, match="NoSuchBucket") as caught:
        witness("s3://no-such-bucket").publish(head())
    assert "object lock" in caught.value.hint
    assert "not locked" in witness(f"s3://{bucket}#mode=none").caution()
    with pytest.raises(SettingsError, match="unknown mode"):
        witness(f"s3://{bucket}#mode=strict")


def test_a_store_that_is_away_is_tried_again(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(WitnessError) as caught:
        witness(f"s3://{bucket}").publish(head())
    assert caught.value.retryable


# --- an authority of time stamps


def test_a_time_stamp_is_verified_against_the_authoritys_root(authority: tuple[str, Path], tmp_path: Path) -> None:
    address, root = authority
    one = witness(f"{address}#ca={root}")
    stamped = one.publish(head())
    assert abs((one.time_of(stamped) - datetime.now(UTC)).total_seconds()) < 60
    assert parse_head(stamped.line()) == stamped
    # The stock tool verifies it, too.
    (tmp_path / "answer").write_bytes(base64.b64decode(stamped.stamps[address]))
    (tmp_path / "statement").write_bytes(head().statement())
    openssl = ["openssl", "ts", "-verify", "-in", "answer", "-data", "statement", "-CAfile", str(root)]
    assert subprocess.run(openssl, cwd=tmp_path, check=False, capture_output=True).returncode == 0


def test_a_time_stamp_of_another_head_or_authority_is_refused(authority: tuple[str, Path], tmp_path: Path) -> None:
    address, root = authority
    one = witness(f"{address}#ca={root}")
    stamped = one.publish(head(3))
    with pytest.raises(WitnessError, match="does not hold"):
        one.time_of(LogHead("acme", 4, "0" * 64, NOW, stamped.stamps))
    make_authority(tmp_path)
    forged = base64.b64encode(reply(tmp_path, (root.parent / "query").read_bytes())).decode()
    with pytest.raises(WitnessError, match="does not hold"):
        one.time_of(LogHead("acme", 3, head(3).hash, NOW, {address: forged}))
    with pytest.raises(WitnessError, match="no base64"):
        one.time_of(LogHead("acme", 3, head(3).hash, NOW, {address: "?"}))
    with pytest.raises(WitnessError, match="does not hold"):
        witness(f"{address}#ca={tmp_path}/ca.pem").publish(head())


def test_an_authority_without_a_root_is_asked_but_weaker(authority: tuple[str, Path]) -> None:
    one = witness(authority[0])
    assert "not verified" in one.caution()
    assert one.time_of(one.publish(head())) is not None
    with pytest.raises(WitnessError, match="something else"):
        one.time_of(LogHead("acme", 4, head(4).hash, NOW, one.publish(head(3)).stamps))


# --- a channel of notifications


def test_a_channel_gets_the_head_with_the_command_that_checks_it() -> None:
    received: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        notify = NotifySettings(channels={"board": SecretStr(f"json://127.0.0.1:{port}/")})
        one = witness("notify:board", notify=notify)
        assert one.publish(head()) == head()
    for label in (head().label, head().ownership):
        assert f"deltadex review verify --head {label}" in received[0]["message"]
    assert one.held("acme") is None
    with pytest.raises(WitnessError, match="did not accept"):
        one.publish(head())


# --- addresses


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("/mnt/heads", "begin with its kind"),
        ("ftp://host/heads", "ftp is no kind of witness"),
        ("folder:heads", "not an absolute path"),
        ("s3:///path", "no bucket"),
        ("folder:/mnt#days=3", "unknown option days"),
        ("folder:/mnt#minutes=soon", "minutes must be a number"),
        ("git+ssh://host/x#branch=--force", "not a branch"),
        ("notify:nobody", "no such channel"),
        ("tsa+https:", "no host"),
        ("tsa+https://host:x/", "no host"),
    ],
)
def test_a_wrong_address_is_refused(address: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        witness(address)


@pytest.mark.parametrize(
    "address",
    [
        "git+https:ada:hunter2@host/heads", "git+https:/ada:hunter2@host/heads", "git+https://ada:hun/ter2@host/heads",
        "tsa+https://ada:hun/ter2@host/tsr", "git+https://ada:hun#ter2@host/heads", "git+https://ada?hun/ter2@host/heads",
    ],
)  # fmt: skip
def test_a_password_that_is_taken_for_another_part_of_an_address_is_not_shown(address: str) -> None:
    with pytest.raises(SettingsError, match="without a host") as caught:
        witness(address)
    assert "ter2" not in f"{caught.value.message} {caught.value.hint}"


def test_an_at_sign_in_a_path_is_no_password() -> None:
    for place in ("host/@scope/heads.git", "host:8443/@scope/heads.git", "[::1]:8443/@scope/heads.git"):
        assert witness(f"git+https://{place}").name == f"git+https://{place}"
    assert witness("git+file:///mnt/@audit/heads.git").name == "git+file:///mnt/@audit/heads.git"


def test_errors_show_no_query_of_an_address() -> None:
    address = parse_address("git+https://ada:hunter2@host/heads.git?token=secret")
    said = address.without_secrets("fatal: unable to access 'https://ada:hunter2@host/heads.git?token=secret/'")
    assert said == "fatal: unable to access 'https://host/heads.git/'"


def test_one_witness_twice_is_refused_and_no_secret_shown() -> None:
    addresses = ["git+https://ada:hunter2@host/heads?token=x", "git+https://host/heads#branch=b"]
    with pytest.raises(SettingsError, match="twice") as caught:
        witnesses_of(Settings(witnesses=addresses))
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(Settings(witnesses=addresses))


@pytest.mark.parametrize(
    "line",
    [
        "", "[]", "{}", "3", "null", "[" * 2000,
        '{"registry": "a", "entries": 1, "hash": "x", "at": "2026-01-01T00:00Z"}',
        head().line().replace('"entries": 3', '"entries": true'), head().line().replace('"entries": 3', '"entries": 0'),
        head().line().replace("+00:00", ""), head().line()[:-1] + ', "stamps": [1]}',
        head().line()[:-1] + ', "stamps": 1}', head().line().replace('"7:', '"0:'), head().line().replace('"7:', '"'),
        head(1).line()[:-1] + ', "ownership": 7}',
        head().line() + " " * (1 << 16),
    ],
)  # fmt: skip
def test_a_line_that_is_no_head_is_told_apart(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        parse_head(line)
