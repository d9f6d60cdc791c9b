"""Test messages to notification channels from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from deltadex.store.database import Database
from tests.cli.test_main import deltadex
from tests.notifications.test_deliver import Receiver, receiver

__all__ = ["receiver"]


def test_a_test_message_says_which_channels_work(receiver: Receiver, tmp_path: Path, database: Database) -> None:
    channels = {"good": receiver.url, "dead": "json://user:s3cret@127.0.0.1:9/"}
    given = {"DELTADEX_DATA_DIR": str(tmp_path), "DELTADEX_NOTIFY__CHANNELS": json.dumps(channels)}
    assert deltadex("notify", "test", "good", **given).returncode == 0
    assert [message["title"] for message in receiver.messages] == ["Deltadex: test message"]
    both = deltadex("notify", "test", **given)
    assert both.returncode == 1
    assert "✓ good" in both.stdout
    assert "✗ dead" in both.stdout
    assert "s3cret" not in both.stdout + both.stderr
    assert "no channel nobody" in deltadex("notify", "test", "nobody", **given).stderr
    log = deltadex("notify", "log", "--json", DELTADEX_DATABASE__URL=database.url, **given)
    assert json.loads(log.stdout) == []
