"""A witness that is a bucket with object lock, at any store that speaks S3."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from deltadex.errors import SettingsError, WitnessError
from deltadex.settings import Settings
from deltadex.witness.head import Held, LogHead, file_name
from deltadex.witness.kinds import Address

_DAYS = 3650
_MODES = ("COMPLIANCE", "GOVERNANCE", "NONE")
_SECONDS = 10
_TIME = "%Y%m%dT%H%M%SZ"
_KEY = re.compile(
    r"(?P<entries>\d{12})-(?P<at>\d{8}T\d{6}Z)-(?P<hash>[0-9a-f]{64})"
    r"(-(?P<owned>[1-9]\d{0,17})-(?P<owned_hash>[0-9a-f]{64}))?\.json"
)


class BucketWitness:
    """One object per publication, locked until a day in the future; its key says all that a comparison needs.

    Credentials, region and address are those of boto3 (`AWS_…`), or else MLflow's `MLFLOW_S3_ENDPOINT_URL`.
    """

    def __init__(self, address: Address, settings: Settings) -> None:  # noqa: ARG002 - as every kind
        self.name = address.shown
        self.least_pause = address.pause(0)
        self._bucket, _, prefix = address.place.removeprefix("//").partition("/")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._days, self._mode = address.number("days", _DAYS), address.options.get("mode", _MODES[0]).upper()
        if not self._bucket:
            raise SettingsError(f"Witness {self.name}: no bucket", hint="Write it as s3://bucket/path.")
        if self._mode not in _MODES:
            raise SettingsError(f"Witness {self.name}: unknown mode {self._mode}", hint=f"Modes: {', '.join(_MODES)}.")

    def publish(self, head: LogHead) -> LogHead:
        """Store a head under a lock.

        Raises
        ------
        WitnessError
            boto3 is missing, the bucket has no object lock, or the store refused or could not be reached.
        """
        lock: dict[str, Any] = {}
        if self._mode != "NONE":
            until = datetime.now(UTC) + timedelta(days=self._days)
            lock = {"ObjectLockMode": self._mode, "ObjectLockRetainUntilDate": until}
        body, key = head.line().encode(), self._folder(head.registry) + key_of(head)
        self._call("put_object", Key=key, Body=body, ContentType="application/json", **lock)
        return head

    def held(self, registry: str) -> Held:
        """Return the heads in the bucket, also those under a deletion marker; raises WitnessError as `publish`."""
        heads, unreadable, folder = list[LogHead](), 0, self._folder(registry)
        for key in self._keys(folder):
            try:
                heads.append(head_of(registry, key.removeprefix(folder)))
            except ValueError:
                unreadable += 1
        return Held(tuple(heads), unreadable)

    def caution(self) -> str:
        """Return that objects are not locked, or so that some accounts may lift the lock."""
        return {
            "NONE": "its objects are not locked",
            "GOVERNANCE": "accounts with s3:BypassGovernanceRetention can lift its locks",
        }.get(self._mode, "")

    def _keys(self, folder: str) -> Iterator[str]:
        marks: dict[str, Any] = {}
        while True:
            page = self._call("list_object_versions", Prefix=folder, **marks)
            yield from (version["Key"] for version in page.get("Versions", ()))
            if not page.get("IsTruncated"):
                return
            marks = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}

    def _folder(self, registry: str) -> str:
        return f"{self._prefix}{file_name(registry)}/"

    def _call(self, operation: str, **arguments: Any) -> Any:
        client = self._client  # before what comes with boto3 is imported
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(client, operation)(Bucket=self._bucket, **arguments)
        except ClientError as error:
            code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
            raise WitnessError(
                f"{self.name}: {code}: {text}",
                hint="The bucket must exist with object lock, and this account may put, list and lock objects there.",
            ) from error
        except BotoCoreError as error:
            raise WitnessError(
                f"{self.name}: {error}",
                hint="Set AWS_… or MLFLOW_S3_ENDPOINT_URL where the watcher runs.",
                retryable=True,
            ) from error

    @cached_property
    def _client(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise WitnessError(f"{self.name}: boto3 is missing", hint="Install deltadex[s3].") from error
        config = Config(connect_timeout=_SECONDS, read_timeout=_SECONDS, retries={"total_max_attempts": 2})
        return boto3.client("s3", config=config, endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None)


def key_of(head: LogHead) -> str:
    """Return the last part of a head's key; keys sort by number of entries, then time."""
    owned = f"-{head.ownership.replace(':', '-')}" if head.ownership else ""
    return f"{head.entries:012}-{head.at.astimezone(UTC).strftime(_TIME)}-{head.hash}{owned}.json"


def head_of(registry: str, name: str) -> LogHead:
    """Return the head that the last part of a key names; raises ValueError if it names none."""
    found = _KEY.fullmatch(name)
    if found is None:
        raise ValueError("no head")
    at = datetime.strptime(found["at"], _TIME).replace(tzinfo=UTC)
    ownership = f"{found['owned']}:{found['owned_hash']}" if found["owned"] else ""
    return LogHead(registry, int(found["entries"]), found["hash"], at, ownership=ownership)
