"""The person who views a page, identified by login or address. The library decides on rights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st
from streamlit import runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from deltadex import access
from deltadex.access import Person
from deltadex.errors import AccessDenied
from deltadex.peer import is_own_program
from deltadex.settings import DEFAULT_WORKSPACE, Settings

#: Reverse proxies add at least one of these headers.
_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
#: After a login Streamlit always opens the first page; the browser tab stores the address that was requested.
_REMEMBER = "<script>sessionStorage.setItem('deltadex-came-for', location.href)</script>"
_RETURN = """<script>{
  const cameFor = sessionStorage.getItem('deltadex-came-for')
  sessionStorage.removeItem('deltadex-came-for')
  if (cameFor && cameFor !== location.href) location.replace(cameFor)
}</script>"""


def person(settings: Settings) -> Person:
    """Return the viewer of the page.

    Raises
    ------
    AccessDenied
        There is an access file, and the viewer is not in it or the login has expired.
    """
    # `?as=ann` lets one person act as several in the demo; the library ignores it except on a local machine.
    if name := st.query_params.get("as"):
        st.session_state["as"] = name
    return access.at_page(settings, claims=_claims(), address=_address(), as_=st.session_state.get("as"))


def memberships(settings: Settings, workspaces: Sequence[str]) -> tuple[str, ...]:
    """Return the workspaces in which the viewer has a role."""

    def has_role(workspace: str) -> bool:
        try:
            return bool(person(settings.within(workspace)))
        except AccessDenied:
            return False

    return tuple(filter(has_role, workspaces))


def choice(workspaces: Sequence[str]) -> str | None:
    """Return the workspace that the viewer has chosen, by `?workspace=legal` or on a page, or else the first one."""
    if name := st.query_params.get("workspace"):
        st.session_state["workspace"] = name
    chosen: str | None = st.session_state.get("workspace")
    if chosen in workspaces:
        return chosen
    return DEFAULT_WORKSPACE if DEFAULT_WORKSPACE in workspaces else next(iter(workspaces), None)


def choose(workspace: str) -> None:
    """Have the pages show a workspace from now on."""
    st.session_state["workspace"] = workspace
    st.query_params.pop("workspace", None)


def can_log_in() -> bool:
    """Return True if an identity provider is configured in Streamlit's secrets."""
    return bool(st.secrets.load_if_toml_exists() and "auth" in st.secrets)


def is_logged_in() -> bool:
    """Return True if the viewer has logged in, even if the login has expired since."""
    return _claims() is not None


def remember_link() -> None:
    """Store the address of this page until the viewer has logged in."""
    st.html(_REMEMBER, unsafe_allow_javascript=True)


def return_to_link() -> None:
    """Go to the stored address, if there is one."""
    st.html(_RETURN, unsafe_allow_javascript=True)


def _claims() -> Mapping[str, object] | None:
    claims = st.user.to_dict()
    return claims if claims.get("is_logged_in") else None


def _address() -> str:
    """Return the address of the browser. Streamlit gives None for this machine, where a proxy may run.

    No header proves that there is no proxy: one that sends none of its own passes on whatever a browser elsewhere says.
    """
    headers = st.context.headers
    host = headers.get("Host", "").rsplit(":", 1)[0]
    if any(name in headers for name in _PROXY_HEADERS) or host not in _LOCAL_HOSTS or not _is_own_browser():
        return st.context.ip_address or "proxied"
    return st.context.ip_address or _LOCAL_HOSTS[1]


def _is_own_browser() -> bool:
    """Return True if the page's connection comes from a program of the user whom the dashboard runs as."""
    context = get_script_run_ctx()
    client = runtime.get_instance().get_client(context.session_id) if context else None
    # Streamlit shows the address of the other end, but not its port.
    peer = getattr(getattr(client, "_websocket", None), "client", None)
    if peer is None:
        return False
    key = f"is-own-browser-{peer.port}"  # looked up once per connection
    if key not in st.session_state:
        st.session_state[key] = is_own_program(peer.port)
    return bool(st.session_state[key])
