"""MLflow's webhook: a wake-up call for the poller, verified and then forgotten.

Nothing in a delivery is believed: whatever it says, the watcher reads the registry. So a forged, replayed or
invented event can at most cause one look at the registry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from mlflow.entities.webhook import WebhookEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from deltadex.errors import RegistryError
from deltadex.mlflow_edge.connection import registry_errors
from deltadex.mlflow_edge.registry import Registry
from deltadex.settings import WebhookSettings

NAME = "deltadex"
EVENTS = ("registered_model.created", "model_version.created")
_REMEMBERED = 10_000

log = logging.getLogger(__name__)


class DeliveryRefused(RegistryError):
    """A delivery that MLflow with our secret did not send just now."""


def verify(headers: Mapping[str, str], body: bytes, settings: WebhookSettings, *, now: float) -> str:
    """Check signature and age of a delivery and return its id.

    Parameters
    ----------
    headers
        Looked up without regard to case by Starlette; plain mappings need lower-case names.
    body
        The raw bytes that were signed.
    now
        Seconds since the epoch.

    Raises
    ------
    DeliveryRefused
        No secret is set, the signature is wrong, or the delivery is older than `max_age_seconds`.
    """
    if settings.secret is None:
        raise DeliveryRefused("No webhook secret is set", hint="Set DELTADEX_WEBHOOK__SECRET and run `deltadex init`.")
    delivery = headers.get("x-mlflow-delivery-id", "")
    timestamp = headers.get("x-mlflow-timestamp", "")
    signed = f"{delivery}.{timestamp}.".encode() + body
    digest = hmac.new(settings.secret.get_secret_value().encode(), signed, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    if not hmac.compare_digest(expected, headers.get("x-mlflow-signature", "").encode()):
        raise DeliveryRefused("The signature is wrong", hint="Does MLflow's webhook have the same secret?")
    # The timestamp is part of what was signed, so it is a number once the signature holds.
    if abs(now - float(timestamp)) > settings.max_age_seconds:
        raise DeliveryRefused("The delivery is too old", hint="Check the clocks of both machines.")
    return delivery


def receiver(settings: WebhookSettings, wake: Callable[[], None]) -> Starlette:
    """Return the web application: `POST /webhook` calls `wake` once per delivery, `GET /health` answers."""
    seen: OrderedDict[str, None] = OrderedDict()

    async def deliver(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > settings.max_body_bytes:
                return JSONResponse({"error": "the body is too large"}, status_code=413)
        try:
            delivery = verify(request.headers, body, settings, now=time.time())
        except DeliveryRefused as refused:
            log.warning("webhook refused reason=%r", refused.message)
            return JSONResponse({"error": refused.message, "hint": refused.hint}, status_code=401)
        if delivery not in seen:
            seen[delivery] = None
            if len(seen) > _REMEMBERED:
                seen.popitem(last=False)
            wake()
        return JSONResponse({"status": "ok"})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/webhook", deliver, methods=["POST"]), Route("/health", health)])


def register_webhook(registry: Registry, settings: WebhookSettings) -> str:
    """Create or update our webhook in MLflow and return the address it calls. Idempotent.

    Raises
    ------
    RegistryError
        MLflow refuses: a file store, a managed service, or a target it is not allowed to call.
    """
    url = settings.url or f"http://{settings.host}:{settings.port}/webhook"
    secret = settings.secret.get_secret_value() if settings.secret else None
    events = [WebhookEvent.from_str(event) for event in EVENTS]
    with registry_errors("registering the webhook"):
        ours = [webhook for webhook in registry.client.list_webhooks() if webhook.name == NAME]
        if ours:
            registry.client.update_webhook(ours[0].webhook_id, url=url, secret=secret, events=events, status="ACTIVE")
        else:
            registry.client.create_webhook(NAME, url, events, secret=secret, description="Wakes Deltadex's watcher")
    return url
