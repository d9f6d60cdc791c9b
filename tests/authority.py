"""A private certificate authority, and TLS in front of a server that has none, as at a company's gateway."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import unused_port

#: https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate as a file, and the key that signs."""

    file: Path
    _certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, folder: Path, name: str) -> Authority:
        """Make an authority and write its certificate to `name`.pem."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, _named(name), key).add_extension(x509.BasicConstraints(True, None), critical=True)
        certificate = builder.sign(key, hashes.SHA256())
        file = folder / f"{name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(file, certificate, key)

    def server(self, folder: Path, *, host: str = "127.0.0.1") -> tuple[Path, Path]:
        """Write certificate and key of a server to files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address(host))] if host[0].isdigit() else [x509.DNSName(host)]
        builder = _builder(host, self._certificate.subject, key)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        chain, secret = folder / f"{host}.crt", folder / f"{host}.key"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        secret.chmod(0o600)
        return chain, secret


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
    )


@contextmanager
def behind_tls(port: int, certificate: Path, key: Path, *, is_postgres: bool = False) -> Iterator[int]:
    """Serve a local port over TLS for the length of a block, and yield the new port.

    Parameters
    ----------
    is_postgres
        Clients ask for encryption first, in the protocol of Postgres. The wheel's own server is built without TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening, loop, opened = unused_port(), asyncio.new_event_loop(), set[asyncio.StreamWriter]()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.add(writer)
        if is_postgres:
            assert await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST
            writer.write(b"S")
            try:
                await writer.start_tls(context)
            except (ConnectionError, ssl.SSLError):  # the client does not trust us
                return
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        opened.add(to_writer)
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))

    async def end(server: asyncio.Server) -> None:
        server.close()
        for writer in opened:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=5) if others else None

    at_once = None if is_postgres else context
    server = loop.run_until_complete(asyncio.start_server(forward, "127.0.0.1", listening, ssl=at_once))
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        asyncio.run_coroutine_threadsafe(end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    with suppress(ConnectionError, ssl.SSLError):
        writer.close()
