"""Who looks at a page: by the login, or the person at this machine. What they may do is the library's to say."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from deltadex import people
from deltadex.governance.access import Person
from deltadex.settings import Settings

#: Whatever else stands before the dashboard adds one of these.
_PROXIED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")
_HERE = ("localhost", "127.0.0.1", "[::1]")
#: Streamlit sends everybody who logs in to the first page; the tab remembers which one they came for.
_REMEMBER = "<script>sessionStorage.setItem('deltadex-came-for', location.href)</script>"
_RETURN = """<script>{
  const cameFor = sessionStorage.getItem('deltadex-came-for')
  sessionStorage.removeItem('deltadex-came-for')
  if (cameFor && cameFor !== location.href) location.replace(cameFor)
}</script>"""


def person(settings: Settings) -> Person:
    """Return who looks.

    Raises
    ------
    AccessDenied
        People are listed, and this is none of them or the login has expired.
    """
    # On the demo's machine one person can be two: `?as=ann`. The library refuses it everywhere else.
    if asked := st.query_params.get("as"):
        st.session_state["as"] = asked
    return people.at_page(settings, claims=_claims(), address=_address(), as_=st.session_state.get("as"))


def can_log_in() -> bool:
    """Whether an identity provider is configured in Streamlit's secrets."""
    return bool(st.secrets.load_if_toml_exists() and "auth" in st.secrets)


def is_logged_in() -> bool:
    """Whether a provider said who this is, be it long ago."""
    return _claims() is not None


def remember_link() -> None:
    """Keep the address of this page until the person is logged in."""
    st.html(_REMEMBER, unsafe_allow_javascript=True)


def return_to_link() -> None:
    """Go to the address that was kept, if one was."""
    st.html(_RETURN, unsafe_allow_javascript=True)


def _claims() -> Mapping[str, object] | None:
    claims = st.user.to_dict()
    return claims if claims.get("is_logged_in") else None


def _address() -> str:
    """Return where the browser is. Streamlit says None for this machine, where a proxy may be as well."""
    headers = st.context.headers
    host = headers.get("Host", _HERE[0]).rsplit(":", 1)[0]
    if any(name in headers for name in _PROXIED) or host not in _HERE:
        return st.context.ip_address or "proxied"
    return st.context.ip_address or _HERE[1]
