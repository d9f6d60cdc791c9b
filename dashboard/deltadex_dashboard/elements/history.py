"""One entry in the browser's history per step, so that one press of Back undoes it."""

from __future__ import annotations

import streamlit as st

# Streamlit 1.67 makes two entries when a link leads to another page: the new query under the old path, then the new
# address. The second one replaces the first here. Any input between them means that they are two steps.
_SCRIPT = """<script>
if (!window.deltadexSteps) {
  window.deltadexSteps = true
  const push = history.pushState.bind(history)
  let first = null
  for (const kind of ["pointerdown", "keydown", "popstate"])
    window.addEventListener(kind, () => { first = null }, true)
  history.pushState = (state, title, url) => {
    const to = new URL(url, location.href), stays = to.pathname === location.pathname
    if (first !== null && first === to.search && !stays) history.replaceState(state, title, url)
    else push(state, title, url)
    first = stays ? to.search : null
  }
}
</script>"""


def one_entry_per_step() -> None:
    """Let each step to another page be one entry of the browser's history."""
    st.html(_SCRIPT, unsafe_allow_javascript=True)
