"""An S3 that asks for credentials, by moto, and an MLflow server that keeps its artifacts there."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from mlflow.store.artifact import s3_artifact_repo
from moto.core import authorization
from moto.server import ThreadedMotoServer

from deltadex.settings import Settings
from deltadex.stack import specs
from deltadex.stack.process import Service
from tests.conftest import unused_port

#: The account of watcher, worker and MLflow may use buckets named company-…, and not another team's.
MODELS, FOREIGN = "company-models", "another-team"
_REGION = "us-east-1"
#: Variables that MLflow's client and boto3 read.
VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "MLFLOW_S3_ENDPOINT_URL")


@dataclass(frozen=True)
class ObjectStore:
    """A running S3 and the credentials of the account that watcher, worker and MLflow server use."""

    url: str
    key_id: str
    secret: str
    _owner: Any = field(repr=False)

    def list_keys(self, bucket: str = MODELS) -> list[str]:
        """Return the keys of all objects in a bucket."""
        pages = self._owner.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    @property
    def environment(self) -> Mapping[str, str]:
        """Return the variables that give a process access, as MLflow's documentation names them."""
        return {
            "MLFLOW_S3_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def running_object_store() -> Iterator[ObjectStore]:
    """Run an S3 whose requests are authenticated and authorised, with a bucket of ours and a foreign one."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    root = {"aws_access_key_id": "root", "aws_secret_access_key": "root", "region_name": _REGION, "endpoint_url": url}
    buckets, accounts = boto3.client("s3", **root), boto3.client("iam", **root)
    unauthenticated = authorization.settings.INITIAL_NO_AUTH_ACTION_COUNT
    try:
        for bucket in (MODELS, FOREIGN):
            buckets.create_bucket(Bucket=bucket)
        key = _new_account(
            accounts, "deltadex", {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::company-*"}
        )
        owner = _new_account(accounts, "owner", {"Effect": "Allow", "Action": "*", "Resource": "*"})
        ours = {"aws_access_key_id": owner["AccessKeyId"], "aws_secret_access_key": owner["SecretAccessKey"]}
        authorization.settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        yield ObjectStore(url, key["AccessKeyId"], key["SecretAccessKey"], boto3.client("s3", **{**root, **ours}))
    finally:
        authorization.settings.INITIAL_NO_AUTH_ACTION_COUNT = unauthenticated
        server.stop()


def _new_account(accounts: Any, name: str, statement: Mapping[str, str]) -> Mapping[str, str]:
    accounts.create_user(UserName=name)
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    accounts.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=policy)
    key: Mapping[str, str] = accounts.create_access_key(UserName=name)["AccessKey"]
    return key


@contextmanager
def mlflow_on(store: ObjectStore, data_dir: Path) -> Iterator[str]:
    """Run MLflow's server with the bucket as the destination of proxied artifacts, and yield its address."""
    spec = specs.mlflow_server(Settings(data_dir=data_dir, ports={"mlflow": unused_port()}))
    argv = (*spec.argv, "--artifacts-destination", f"s3://{MODELS}/proxied")
    service = Service(replace(spec, argv=argv, env={**spec.env, **store.environment}), data_dir / "mlflow.log")
    try:
        service.start()
        service.wait_up(120)
        assert spec.url is not None
        yield spec.url
    finally:
        service.stop()


def take_credentials(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str] | None = None) -> None:
    """Give this process other credentials than it had, as only the start of a new process does."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"AWS_EC2_METADATA_DISABLED": "true", **(variables or {})}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    s3_artifact_repo._cached_get_s3_client.cache_clear()
