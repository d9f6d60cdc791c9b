"""A decision log with entries, and the witnesses' own servers: a git remote, a store with object lock, an authority."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deltadex.setting_groups import DatabaseSettings
from deltadex.settings import Settings
from deltadex.store.database import Database
from tests.stored import REGISTRY
from tests.witness import forging

_CONFIG = """
[ca]
basicConstraints = critical,CA:true
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[tsa]
basicConstraints = critical,CA:false
keyUsage = critical,digitalSignature
extendedKeyUsage = critical,timeStamping
authorityKeyIdentifier = keyid
[tsa_config]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha512
ess_cert_id_alg = sha256
"""


@pytest.fixture
def store(database: Database) -> Database:
    """A database with one finding and three entries of the log."""
    forging.with_finding(database)
    forging.decide(database, 3)
    return database


@pytest.fixture
def settings_with(store: Database, tmp_path: Path) -> Callable[..., Settings]:
    """Settings with these witnesses."""

    def build(*witnesses: str, **values: object) -> Settings:
        return Settings(
            registry=REGISTRY,
            data_dir=tmp_path / "data",
            database=DatabaseSettings(url=store.url),
            witnesses=witnesses,
            **values,
        )

    return build


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """An empty folder for heads."""
    folder = tmp_path / "heads"
    folder.mkdir()
    return folder


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A bare git repository that refuses to rewrite or delete its branches, as a server does."""
    folder = tmp_path / "heads.git"
    git(tmp_path, "init", "--quiet", "--bare", str(folder))
    git(folder, "config", "receive.denyNonFastForwards", "true")
    git(folder, "config", "receive.denyDeletes", "true")
    return folder


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Address and root certificate of a time stamp authority: OpenSSL's, behind HTTP."""
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            answer = reply(folder, query)
            self.send_response(200)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as port:
        yield f"tsa+http://127.0.0.1:{port}/tsr", folder / "ca.pem"


def make_authority(folder: Path) -> None:
    """Make the keys and certificates of an authority."""
    config = folder / "openssl.cnf"
    config.write_text(_CONFIG.format(folder=folder))
    (folder / "serial").write_text("01\n")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-config", str(config))
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n" + config.read_text())
    openssl(
        folder, "req", "-x509", *new, "-subj", "/CN=root", "-extensions", "ca", "-keyout", "ca.key", "-out", "ca.pem"
    )
    openssl(folder, "req", *new, "-subj", "/CN=authority", "-keyout", "tsa.key", "-out", "tsa.csr")
    openssl(
        folder, "x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", str(config), "-extensions", "tsa", "-out", "tsa.pem",
    )  # fmt: skip


def reply(folder: Path, query: bytes) -> bytes:
    """Return the answer of OpenSSL's authority."""
    (folder / "query").write_bytes(query)
    openssl(folder, "ts", "-reply", "-queryfile", "query", "-section", "tsa_config", "-config", "openssl.cnf",
            "-out", "answer")  # fmt: skip
    return (folder / "answer").read_bytes()


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


class serving:
    """Serve HTTP on a free port during the block."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
