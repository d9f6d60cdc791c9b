"""Protection of connections to Postgres: what libpq agreed on, and what its errors say about certificates."""

from __future__ import annotations

import re

import psycopg

#: Values of `sslmode` under which the server's certificate is checked.
_CHECKED = ("verify-ca", "verify-full")
#: Texts of libpq and of the server.
_FAULTS = (
    r"certificate verify failed",
    r"does not match host name",
    r"root certificate file .* does not exist",
    r"could not (read|load) .*certificate",
    r"does not support SSL",
    r"certificate (file|authentication)",
    r"no encryption",
    r"tlsv1 alert|sslv3 alert|certificate required",
)
_FAULT = re.compile("|".join(_FAULTS))
HINT = (
    "This service's DELTADEX_DATABASE__…URL takes libpq's options: ?sslmode=verify-full&sslrootcert=/path/ca.pem, with "
    "sslcert and sslkey if the server asks for a client certificate. PGSSLMODE and PGSSLROOTCERT do the same."
)


def tls_fault(text: str) -> str | None:
    """Return the line of a connection error that is about certificates or encryption; None if there is none."""
    return next((line.strip(" -") for line in text.splitlines() if _FAULT.search(line)), None)


def transport(connection: psycopg.Connection) -> str:
    """Return how a connection is protected, in a few words."""
    pgconn = connection.pgconn
    if not pgconn.ssl_in_use:
        return "within this machine" if _is_local(pgconn.host, pgconn.hostaddr) else "not encrypted"
    options = {one.keyword: one.val for one in pgconn.info}
    mode = (options.get(b"sslmode") or b"prefer").decode()
    if mode not in _CHECKED:
        return f"encrypted, certificate not checked (sslmode={mode})"
    root = (options.get(b"sslrootcert") or b"~/.postgresql/root.crt").decode()
    return f"encrypted, certificate checked (sslmode={mode}, sslrootcert={root})"


def _is_local(host: bytes, address: bytes) -> bool:
    return host.startswith(b"/") or address in (b"127.0.0.1", b"::1")
