"""The router: `streamlit run app.py`. Every page has a path of its own, so that a link to it can be shared."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from deltadex.errors import DeltadexError
from deltadex_dashboard import reads, view

_HERE = Path(__file__).parent
# A file of ours: Streamlit would fetch an icon by name from elsewhere.
_MARK = str(_HERE / "mark.svg")


def _page(name: str, title: str, *, is_first: bool = False) -> st.Page:
    return st.Page(_HERE / "pages" / f"{name}.py", title=title, url_path=name, default=is_first)


st.set_page_config("Deltadex", page_icon=_MARK, layout="wide")
st.logo(_MARK)
page = st.navigation(
    [
        _page("overview", "Overview", is_first=True),
        _page("map", "Map"),
        _page("model", "Model"),
        _page("duplicates", "Duplicates"),
        _page("drift", "Drift"),
    ],
    position="top",
)
try:
    snapshot = reads.snapshot()
    page.run()
    view.follow(snapshot.revision)
except DeltadexError as error:
    view.trouble(error)
