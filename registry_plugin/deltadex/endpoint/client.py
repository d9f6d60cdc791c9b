"""One chat completion from an OpenAI-compatible endpoint: bounded in bytes and time, never redirected."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from deltadex.errors import EndpointError, SettingsError
from deltadex.setting_groups import EndpointSettings

#: An answer of a few thousand tokens has kilobytes.
MAX_ANSWER_BYTES = 1 << 20
#: The shortest text of an error that helps; a longer one may repeat what was sent.
_SHOWN_OF_ERROR = 200
_LONGEST_PAUSE = 30.0
_HINT = "DELTADEX_ENDPOINT__URL is the address before /chat/completions, such as https://host/v1."

log = logging.getLogger(__name__)


class _Message(BaseModel):
    content: str


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    """The part of an answer that is read; endpoints add fields of their own."""

    choices: tuple[_Choice, ...]


@dataclass(frozen=True)
class ChatEndpoint:
    """An OpenAI-compatible endpoint.

    Attributes
    ----------
    url
        Address of its chat completions.
    pause_seconds
        Pause before the second attempt; it doubles with each.
    """

    url: httpx.URL
    model: str
    api_key: SecretStr | None
    timeout_seconds: float
    max_tokens: int
    attempts: int = 3
    pause_seconds: float = 1.0

    @classmethod
    def of(cls, settings: EndpointSettings) -> ChatEndpoint:
        """Return the endpoint that the settings name.

        Raises
        ------
        SettingsError
            Address or model is not set, or the address is not one of HTTP.
        """
        if settings.url is None or settings.model is None:
            missing = "URL" if settings.url is None else "MODEL"
            raise SettingsError(
                "No endpoint is set", hint=f"Set DELTADEX_ENDPOINT__{missing}; the README lists its settings."
            )
        return cls(
            _address(settings.url), settings.model, settings.api_key, settings.timeout_seconds, settings.max_tokens
        )

    @property
    def host(self) -> str:
        """Host and port, as the log has them."""
        return self.url.netloc.decode()

    @property
    def is_encrypted(self) -> bool:
        """True if texts are encrypted on their way."""
        return self.url.scheme == "https"

    def request(self, instruction: str, text: str) -> bytes:
        """Return the exact body of a request: an instruction, and a text that the instruction is about."""
        messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
        body = {"model": self.model, "messages": messages, "max_tokens": self.max_tokens, "temperature": 0.0}
        return json.dumps(body, ensure_ascii=False).encode()

    def send(self, body: bytes) -> str:
        """Send a body and return the text of the answer.

        Raises
        ------
        EndpointError
            The endpoint refused, could not be reached, or gave no answer that can be read. Retryable if it was too
            busy or out of reach after several attempts.
        """
        deadline = time.monotonic() + self.timeout_seconds
        for attempt in range(1, self.attempts + 1):
            try:
                return _text_of(self._attempt(body, deadline))
            except _Busy as busy:
                pause = min(busy.pause or self.pause_seconds * 2 ** (attempt - 1), _LONGEST_PAUSE)
                pause *= random.uniform(1, 1.2)  # noqa: S311 - so that clients do not come back together
                if attempt == self.attempts or time.monotonic() + pause > deadline:
                    raise EndpointError(
                        f"{self.host} {busy.reason}, after {attempt} attempts",
                        hint="Try again later.",
                        retryable=True,
                    ) from busy
                log.info("endpoint busy host=%s attempt=%d pause=%.1f", self.host, attempt, pause)
                time.sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _attempt(self, body: bytes, deadline: float) -> bytes:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key.get_secret_value()}"
        left = max(0.001, deadline - time.monotonic())
        try:
            # Redirects are not followed: they would carry the texts to a host that nobody agreed to.
            with (
                httpx.Client(timeout=left, follow_redirects=False) as client,
                client.stream("POST", self.url, content=body, headers=headers) as response,
            ):
                content = self._read(response, deadline)
                self._require_answer(response, content)
                return content
        except httpx.TimeoutException as error:
            raise self._late() from error
        except httpx.TransportError as error:
            raise _Busy(f"can't be reached: {type(error).__name__}") from error

    def _read(self, response: httpx.Response, deadline: float) -> bytes:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > MAX_ANSWER_BYTES:
                raise EndpointError(
                    f"The answer of {self.host} is longer than {MAX_ANSWER_BYTES:,} bytes",
                    hint="Is this the address of chat completions?",
                )
            if time.monotonic() > deadline:  # a byte now and then would never time out
                raise self._late()
        return bytes(content)

    def _require_answer(self, response: httpx.Response, content: bytes) -> None:
        code = response.status_code
        if code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Busy(f"answers {code}", _seconds(response.headers.get("retry-after", "")))
        if response.is_redirect:
            raise EndpointError(f"{self.host} redirects to another address, which is not followed", hint=_HINT)
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise EndpointError(f"{self.host} refuses the key ({code})", hint="Correct DELTADEX_ENDPOINT__API_KEY.")
        if code != HTTPStatus.OK:
            said = content[:_SHOWN_OF_ERROR].decode("utf-8", "replace")
            raise EndpointError(f"{self.host} answers {code}: {self._without_key(said)}", hint=_HINT)

    def _without_key(self, text: str) -> str:
        key = self.api_key.get_secret_value() if self.api_key else ""
        return text.replace(key, "…") if key else text

    def _late(self) -> EndpointError:
        return EndpointError(
            f"{self.host} gave no answer within {self.timeout_seconds:g} s",
            hint="Raise DELTADEX_ENDPOINT__TIMEOUT_SECONDS, or take a faster model.",
            retryable=True,
        )


class _Busy(Exception):
    """An attempt failed in a way that another one may not."""

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause


def _address(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise SettingsError("The endpoint's address can't be read", hint=_HINT) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError("The endpoint's address is not one of http or https", hint=_HINT)
    if parsed.userinfo:  # it would be logged with the host
        raise SettingsError("The endpoint's address holds a password", hint="Set DELTADEX_ENDPOINT__API_KEY instead.")
    return parsed.copy_with(path=f"{parsed.path.rstrip('/')}/chat/completions", query=None, fragment=None)


def _seconds(text: str) -> float:
    """Return the pause that an endpoint asks for; 0 where it names none, or a date."""
    return float(text) if text.isdecimal() else 0.0


def _text_of(content: bytes) -> str:
    try:
        completion = _Completion.model_validate_json(content)
        return completion.choices[0].message.content
    except (ValidationError, IndexError) as error:
        raise EndpointError("The answer is not that of a chat completion", hint=_HINT) from error


def texts_bytes(texts: Sequence[str]) -> int:
    """Return the size of texts in UTF-8."""
    return sum(len(text.encode()) for text in texts)
