"""Real OpenAI-compatible servers on this machine: one that runs a model, and one that answers as a test tells it.

`transformers serve` needs packages that the lock lacks (openai among them); this is the part of the protocol that
`deltadex.endpoint` speaks, over the same model classes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

#: Status, headers and body of an answer.
Reply = tuple[int, Mapping[str, str], bytes]


@dataclass
class Peer:
    """A running server, and the requests that it was sent."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)


def said(text: str) -> Reply:
    """The reply of a chat completion."""
    body = {"id": "1", "object": "chat.completion", "choices": [{"message": {"role": "assistant", "content": text}}]}
    return 200, {"content-type": "application/json"}, json.dumps(body).encode()


@contextmanager
def serving(answer: Callable[[Peer], Reply]) -> Iterator[Peer]:
    """Answer each request with what the function makes of all requests so far."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            peer.bodies.append(body)
            peer.requests.append({"path": self.path, **json.loads(body)})
            peer.headers.append({name.lower(): value for name, value in self.headers.items()})
            status, headers, content = answer(peer)
            self.send_response(status)
            for name, value in {"content-length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):  # the client has heard enough
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    peer = Peer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def in_turn(*replies: Reply) -> Callable[[Peer], Reply]:
    """Answer each request with the next reply, and all later ones with the last."""
    return lambda peer: replies[min(len(peer.requests), len(replies)) - 1]


@contextmanager
def serving_model(folder: Path) -> Iterator[Peer]:
    """Answer with the greedy text of the model in a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    lock = threading.Lock()

    def answer(peer: Peer) -> Reply:
        request = peer.requests[-1]
        text = _prompt(tokenizer, request["messages"])
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"][:, -400:]
        with lock, torch.inference_mode():
            new = min(request["max_tokens"], 32)
            written = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False
            )
        return said(tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True))

    with serving(answer) as peer:
        yield peer


def _prompt(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> str:
    if tokenizer.chat_template:
        return str(tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))
    return "\n\n".join(message["content"] for message in messages)
