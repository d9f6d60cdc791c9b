"""Faults of TLS certificates, as connection errors tell them in their text."""

from __future__ import annotations

import re

_REASON = re.compile(r"certificate verify failed:? ?(?P<reason>[^(\[]*)", re.IGNORECASE)
#: Python's reasons for a certificate of an authority that the client does not know.
_UNKNOWN_AUTHORITY = re.compile(r"unable to get (local )?issuer|self.signed", re.IGNORECASE)
#: The text of `requests`.
_MISSING_FILE = re.compile(r"TLS CA certificate bundle, invalid path: (?P<path>\S+)")
#: Alerts of a server that asks for a certificate of the client.
_OF_CLIENT = re.compile(r"ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA)|certificate required", re.IGNORECASE)


def certificate_fault(text: str) -> str | None:
    """Return what is wrong with a certificate, in a few words; None if the error is about something else."""
    if found := _REASON.search(text):
        reason = found["reason"].strip(" ,.:'")
        if not reason or _UNKNOWN_AUTHORITY.search(reason):
            return "its certificate is not trusted"
        return f"its certificate is not accepted: {reason}"
    if _OF_CLIENT.search(text):
        return "it asks for a client certificate"
    if found := _MISSING_FILE.search(text):
        return f"the file of trusted authorities is missing: {found['path']}"
    return None
