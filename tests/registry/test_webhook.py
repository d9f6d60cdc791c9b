"""Webhook deliveries: only recent ones signed with our secret wake the watcher."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from deltadex.registry.receiver import DeliveryRefused, receiver, verify
from deltadex.registry.webhook import register_webhook
from deltadex.setting_groups import WebhookSettings

SECRET = "s3cret"
SETTINGS = WebhookSettings(secret=SECRET, max_body_bytes=1000)


def signed(body: bytes, *, at: float, delivery: str = "d1", secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(at))
    digest = hmac.new(secret.encode(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": timestamp,
        "x-mlflow-signature": "v1," + base64.b64encode(digest).decode(),
    }


def test_a_true_delivery_is_accepted() -> None:
    assert verify(signed(b"{}", at=1000), b"{}", SETTINGS, now=1299) == "d1"


@pytest.mark.parametrize("now", [1301, 699])
def test_a_delivery_outside_the_window_is_refused(now: float) -> None:
    with pytest.raises(DeliveryRefused, match="too old"):
        verify(signed(b"{}", at=1000), b"{}", SETTINGS, now=now)


@given(st.binary(max_size=50), st.binary(max_size=50), st.text(max_size=5))
def test_any_change_is_refused(body: bytes, other: bytes, delivery: str) -> None:
    headers = signed(body, at=1000)
    if other != body:
        with pytest.raises(DeliveryRefused):
            verify(headers, other, SETTINGS, now=1000)
    if delivery != "d1":
        with pytest.raises(DeliveryRefused):
            verify({**headers, "x-mlflow-delivery-id": delivery}, body, SETTINGS, now=1000)
    with pytest.raises(DeliveryRefused):
        verify({**headers, "x-mlflow-timestamp": "1001"}, body, SETTINGS, now=1000)


def test_nothing_is_accepted_without_a_secret_or_without_headers() -> None:
    with pytest.raises(DeliveryRefused):
        verify(signed(b"", at=1000, secret=""), b"", WebhookSettings(), now=1000)
    with pytest.raises(DeliveryRefused):
        verify({}, b"", SETTINGS, now=1000)


def test_the_same_delivery_wakes_once() -> None:
    woken: list[None] = []
    client = TestClient(receiver(SETTINGS, lambda: woken.append(None)))
    headers = signed(b"{}", at=time.time())
    answers = [client.post("/webhook", content=b"{}", headers=headers).status_code for _ in range(10)]
    assert answers == [200] * 10
    assert len(woken) == 1


@pytest.mark.parametrize(("body", "secret", "status"), [(b"{}", "wrong", 401), (b"x" * 1001, SECRET, 413)])
def test_a_bad_delivery_is_refused_and_does_not_wake_the_watcher(body: bytes, secret: str, status: int) -> None:
    woken: list[None] = []
    client = TestClient(receiver(SETTINGS, lambda: woken.append(None)))
    answer = client.post("/webhook", content=body, headers=signed(body, at=time.time(), secret=secret))
    assert answer.status_code == status
    assert not woken


def test_registering_twice_leaves_one_webhook(registry) -> None:
    for port in (7001, 7002):
        register_webhook(registry, SETTINGS.model_copy(update={"port": port}))
    ours = [webhook for webhook in registry.client.list_webhooks() if webhook.name == "deltadex"]
    assert [webhook.url for webhook in ours] == ["http://127.0.0.1:7002/webhook"]
    registry.client.delete_webhook(ours[0].webhook_id)
