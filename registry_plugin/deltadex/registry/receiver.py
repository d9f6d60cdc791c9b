"""Receiver of MLflow's webhook, which wakes the watcher, as a program of its own: it holds no credentials.

The content of a delivery is ignored: the watcher always reads the registry itself. So a forged or replayed event can at
most cause one extra read, and a flood at most delays the wake-up until the next poll.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from deltadex.errors import RegistryError
from deltadex.setting_groups import WebhookSettings

_MAX_SEEN = 10_000
_MAX_HEADER_BYTES = 16_384

log = logging.getLogger(__name__)


class DeliveryRefused(RegistryError):
    """The delivery has a wrong signature or is too old, or no secret is set."""


def verify(headers: Mapping[str, str], body: bytes, settings: WebhookSettings, *, now: float) -> str:
    """Check signature and age of a delivery and return its id.

    Parameters
    ----------
    headers
        Starlette's are case-insensitive; plain mappings need lower-case names.
    body
        The raw bytes that were signed.
    now
        Seconds since the epoch.

    Raises
    ------
    DeliveryRefused
        No secret is set, the signature is wrong, or the delivery is older than `max_age_seconds`.
    """
    if settings.secret is None or not settings.secret.get_secret_value():
        raise DeliveryRefused("No webhook secret is set", hint="Set DELTADEX_WEBHOOK__SECRET and run `deltadex init`.")
    delivery = headers.get("x-mlflow-delivery-id", "")
    timestamp = headers.get("x-mlflow-timestamp", "")
    signed = f"{delivery}.{timestamp}.".encode() + body
    digest = hmac.new(settings.secret.get_secret_value().encode(), signed, hashlib.sha256).digest()
    expected = b"v1," + base64.b64encode(digest)
    if not hmac.compare_digest(expected, headers.get("x-mlflow-signature", "").encode()):
        raise DeliveryRefused("The signature is wrong", hint="Does MLflow's webhook use the same secret?")
    # The signature covers the timestamp, so after the check it is known to be a number.
    if not abs(now - float(timestamp)) <= settings.max_age_seconds:  # written so that nan is too old
        raise DeliveryRefused("The delivery is too old", hint="Check the clocks of both machines.")
    return delivery


def receiver(settings: WebhookSettings, wake: Callable[[], None]) -> Starlette:
    """Return the web application: `POST /webhook` calls `wake` once per delivery, `GET /health` responds."""
    seen: OrderedDict[str, None] = OrderedDict()
    refusals: set[str] = set()
    rates: OrderedDict[str, tuple[float, float]] = OrderedDict()

    async def deliver(request: Request) -> Response:
        if not _is_within_rate(rates, request.client.host if request.client else "", settings.max_per_second):
            return JSONResponse({"error": "too many deliveries"}, status_code=429)
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > settings.max_body_bytes:
                return JSONResponse({"error": "the body is too large"}, status_code=413)
        try:
            delivery = verify(request.headers, body, settings, now=time.time())
        except DeliveryRefused as refused:
            if refused.message not in refusals:  # once for each reason: a flood must not fill the log
                log.warning("webhook refused reason=%r", refused.message)
                refusals.add(refused.message)
            return JSONResponse({"error": refused.message, "hint": refused.hint}, status_code=401)
        if delivery not in seen:
            seen[delivery] = None
            if len(seen) > _MAX_SEEN:
                seen.popitem(last=False)
            wake()
        return JSONResponse({"status": "ok"})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/webhook", deliver, methods=["POST"]), Route("/health", health)])


def _is_within_rate(rates: OrderedDict[str, tuple[float, float]], address: str, per_second: float) -> bool:
    """Count a request; each address has a bucket of requests that fills up within two seconds."""
    now, full = time.monotonic(), 2 * per_second
    left, at = rates.pop(address, (full, now))
    left = min(full, left + (now - at) * per_second)
    rates[address] = (max(left - 1, 0), now)
    if len(rates) > _MAX_SEEN:
        rates.popitem(last=False)
    return left >= 1


class _ImpatientProtocol(H11Protocol):
    """HTTP with a limit on the life of each connection and on their number, which uvicorn lacks.

    Deliveries take milliseconds. If too many connections are open, the oldest is closed: a client that only holds them
    open keeps no other out.
    """

    max_connections: int
    max_seconds: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._opened = self.loop.time()
        self._end = self.loop.call_later(self.max_seconds, transport.abort)
        if len(self.connections) > self.max_connections:
            min(self.connections, key=lambda one: getattr(one, "_opened", 0.0)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)


class _Server(uvicorn.Server):
    """Calls `wake` once it listens, too."""

    def __init__(self, config: uvicorn.Config, wake: Callable[[], None]) -> None:
        super().__init__(config)
        self._wake = wake

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._wake()


def serve(settings: WebhookSettings, wake: Callable[[], None], stopped: Callable[[], object]) -> None:
    """Serve the receiver until `stopped` returns, which runs in a thread of its own."""
    limits = {"max_connections": settings.max_connections, "max_seconds": settings.max_seconds}
    protocol = type("Protocol", (_ImpatientProtocol,), limits)
    config = uvicorn.Config(
        receiver(settings, wake), host=settings.host, port=settings.port, http=protocol, ws="none", lifespan="off",
        log_level="warning", proxy_headers=False, h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
    )  # fmt: skip
    server = _Server(config, wake)

    def wait() -> None:
        stopped()
        server.should_exit = True

    threading.Thread(target=wait, daemon=True).start()
    server.run()


def _main() -> None:
    """Serve with the settings in the first line of the input until the input ends; write a line per delivery."""
    settings = WebhookSettings.model_validate_json(sys.stdin.buffer.readline())
    os.set_blocking(sys.stdout.fileno(), False)

    def wake() -> None:
        with suppress(BlockingIOError):  # the watcher has thousands of lines to read, and will wake
            os.write(sys.stdout.fileno(), b"\n")

    def stopped() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass

    serve(settings, wake, stopped)


if __name__ == "__main__":
    _main()
