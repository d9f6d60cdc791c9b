"""The client against real HTTP servers that answer well, late, at length, elsewhere, or not at all."""

from __future__ import annotations

import logging
import time

import pytest

from deltadex.endpoint.client import MAX_ANSWER_BYTES, ChatEndpoint
from deltadex.errors import EndpointError, SettingsError
from deltadex.setting_groups import EndpointSettings
from tests.chat_servers import Peer, in_turn, said, serving
from tests.conftest import unused_port

KEY = "sk-hunter2"


def endpoint(url: str, **settings: object) -> ChatEndpoint:
    given = EndpointSettings(**{"url": url, "model": "tiny", "api_key": KEY, "timeout_seconds": 20, **settings})
    made = ChatEndpoint.of(given)
    return ChatEndpoint(made.url, made.model, made.api_key, made.timeout_seconds, made.max_tokens, pause_seconds=0.01)


def ask(url: str, **settings: object) -> str:
    client = endpoint(url, **settings)
    return client.send(client.request("Be brief.", "What is 2 + 2?"))


def test_a_completion_is_asked_for_and_read() -> None:
    with serving(in_turn(said("4"))) as peer:
        assert ask(peer.url + "/", max_tokens=99) == "4"
    [request] = peer.requests
    assert request["path"] == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("tiny", 99, 0)
    assert [message["content"] for message in request["messages"]] == ["Be brief.", "What is 2 + 2?"]
    assert peer.headers[0]["authorization"] == f"Bearer {KEY}"


def test_without_a_key_none_is_sent() -> None:
    with serving(in_turn(said("4"))) as peer:
        ask(peer.url, api_key=None)
    assert "authorization" not in peer.headers[0]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_endpoint_is_asked_again(status: int) -> None:
    with serving(in_turn((status, {}, b"busy"), (status, {}, b"busy"), said("4"))) as peer:
        assert ask(peer.url) == "4"
    assert len(peer.requests) == 3


def test_an_endpoint_that_stays_busy_is_an_error_for_later() -> None:
    with serving(in_turn((429, {}, b""))) as peer, pytest.raises(EndpointError, match="answers 429") as late:
        ask(peer.url)
    assert late.value.retryable
    assert len(peer.requests) == 3


def test_a_pause_that_the_endpoint_asks_for_is_kept_or_refused() -> None:
    with serving(in_turn((429, {"retry-after": "1"}, b""), said("4"))) as peer:
        started = time.monotonic()
        assert ask(peer.url) == "4"
    assert time.monotonic() - started >= 1
    with serving(in_turn((429, {"retry-after": "3600"}, b""))) as peer, pytest.raises(EndpointError):
        ask(peer.url, timeout_seconds=5)
    assert len(peer.requests) == 1


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(in_turn(said("stolen"))) as other,
        serving(in_turn((307, {"location": f"{other.url}/chat/completions"}, b""))) as peer,
        pytest.raises(EndpointError, match="redirects"),
    ):
        ask(peer.url)
    assert other.requests == []


def test_an_answer_has_a_limit() -> None:
    with (
        serving(in_turn((200, {}, b" " * (MAX_ANSWER_BYTES + 1)))) as peer,
        pytest.raises(EndpointError, match="longer than"),
    ):
        ask(peer.url)


def slow(_: Peer) -> tuple[int, dict[str, str], bytes]:
    time.sleep(1)
    return said("late")  # type: ignore[return-value]


def test_a_late_answer_is_an_error_for_later() -> None:
    with serving(slow) as peer, pytest.raises(EndpointError, match=r"within 0\.2 s") as late:
        ask(peer.url, timeout_seconds=0.2)
    assert late.value.retryable


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"choices": []}', b'{"choices": [{"message": {"content": 4}}]}'])
def test_anything_else_is_no_completion(content: bytes) -> None:
    with serving(in_turn((200, {}, content))) as peer, pytest.raises(EndpointError, match="not that of a chat"):
        ask(peer.url)


def test_nobody_there_is_an_error_for_later() -> None:
    with pytest.raises(EndpointError, match="can't be reached") as late:
        ask(f"http://127.0.0.1:{unused_port()}/v1")
    assert late.value.retryable


def test_the_key_is_in_no_message_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(in_turn((429, {}, b""), (400, {}, f"bad key {KEY}".encode()))) as peer:
        with pytest.raises(EndpointError, match="bad key …") as refused:
            ask(peer.url)
        assert KEY not in refused.value.message
    with serving(in_turn((401, {}, b""))) as peer, pytest.raises(EndpointError) as refused:
        ask(peer.url)
    assert "API_KEY" in refused.value.hint
    assert KEY not in caplog.text
    assert KEY not in repr(endpoint(peer.url))


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "No endpoint is set"),
        ("ftp://host/v1", "not one of http"),
        ("host/v1", "not one of http"),
        ("https://user:hunter2@host/v1", "holds a password"),
    ],
)
def test_an_address_that_can_not_be_used_is_a_setting_to_correct(url: str | None, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as wrong:
        ChatEndpoint.of(EndpointSettings(url=url, model="tiny"))
    assert "hunter2" not in wrong.value.message
