"""A hub mirror: a real HTTP server for huggingface_hub's own client."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

NAME = "acme/base-7b"


@dataclass
class Mirror:
    """A mirror of one model at one commit; large files are served from elsewhere, as on the hub."""

    folder: Path
    port: int
    commit: str = "c0ffee" * 6 + "0123"
    token: str | None = None
    wrong_digest: bool = False
    down: bool = False
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/api/models/acme/base-7b/revision/main", self.info),
                Route("/acme/base-7b/resolve/{commit}/{path:path}", self.resolve),
                Route("/storage/{path:path}", self.storage),
            ]
        )

    def info(self, request: Request) -> Response:
        if self.down:
            return Response(status_code=503)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return Response(status_code=401, headers={"X-Error-Code": "RepoNotFound"})
        assert request.query_params.get("blobs") == "true"
        return JSONResponse({"id": NAME, "sha": self.commit, "siblings": [*map(self.sibling, self.files())]})

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def sibling(self, path: Path) -> dict[str, object]:
        size, name = path.stat().st_size, path.relative_to(self.folder).as_posix()
        entry: dict[str, object] = {"rfilename": name, "size": size, "blobId": "0" * 40}
        if path.suffix == ".safetensors":
            digest = "0" * 64 if self.wrong_digest else hashlib.sha256(path.read_bytes()).hexdigest()
            entry["lfs"] = {"size": size, "sha256": digest, "pointerSize": 130}
        return entry

    def resolve(self, request: Request) -> Response:
        path = request.path_params["path"]
        self.asked.append(path)
        if request.path_params["commit"] != self.commit or not (self.folder / path).is_file():
            return Response(status_code=404)
        return RedirectResponse(f"/storage/{path}", 302) if path.endswith(".safetensors") else self.file(path)

    def storage(self, request: Request) -> Response:
        self.asked.append(f"{request.url.path} {request.headers.get('Range')}")
        return self.file(request.path_params["path"])

    def file(self, path: str) -> Response:
        return FileResponse(self.folder / path)


@contextmanager
def running_mirror(folder: Path) -> Iterator[Mirror]:
    """Serve a folder as `acme/base-7b`."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        mirror = Mirror(folder, listening.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(mirror.app(), lifespan="off", log_level="warning"))
        thread = Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield mirror
        server.should_exit = True
        thread.join()
