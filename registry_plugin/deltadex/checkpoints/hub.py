"""Bases from a hub mirror: whatever answers the Hugging Face Hub's API at the address in the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests

from deltadex.checkpoints.cache import Hold
from deltadex.checkpoints.fetching import FetchedFiles, Listed, resume
from deltadex.errors import BaseNotFound, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import ModelInfo

_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_TIMEOUT_SECONDS = (10, 120)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def is_hub_name(declared: str) -> bool:
    """Tell whether a declared base can be the name of a hub's repository: `owner/name`."""
    return bool(_NAME.fullmatch(declared))


def hub_files(hub_url: str, name: str, hold: Hold, *, parallel: int = 4) -> FetchedFiles:
    """Return the files of a model on a hub mirror, at the commit that its main branch has now, kept in the cache.

    Raises
    ------
    BaseNotFound
        The mirror doesn't have it, doesn't give it to us, or can't be reached; the last is retryable.
    SettingsError
        huggingface_hub is not installed.
    """
    source = HubSource(hub_url, name)
    return FetchedFiles(source, hold(f"hub {source.where}, {source.commit}"), parallel=parallel)


class HubSource:
    """One commit of a model on a hub mirror. Implements `deltadex.checkpoints.fetching.Source`.

    Addresses, headers (with the machine's own token, as in `HF_TOKEN`) and answers are huggingface_hub's. The requests
    are ours: its client refuses them all where `HF_HUB_OFFLINE` is set, as it is for everything that Deltadex starts.

    Attributes
    ----------
    commit
        What the main branch was as the source was made; all files are of this commit.
    """

    def __init__(self, hub_url: str, name: str) -> None:
        self._hub_url = hub_url.rstrip("/")
        self._name = name
        self.where = f"{name} on {re.sub('//.*@', '//', self._hub_url)}"
        self._info = self._read_info()
        self.commit = str(self._info.sha)

    def _read_info(self) -> ModelInfo:
        url = f"{self._hub_url}/api/models/{self._name}/revision/main"
        try:
            with self._get(url, {}, params={"blobs": "true"}) as response:
                from huggingface_hub import ModelInfo

                return ModelInfo(**response.json())  # type: ignore[no-untyped-call]
        except (requests.RequestException, KeyError, TypeError) as error:  # no JSON is a RequestException, too
            raise self._unreachable(error) from error

    def listing(self) -> Mapping[str, Listed]:
        """Return every file; the digest of those that are large enough to be stored apart from git."""
        files = self._info.siblings or ()
        return {file.rfilename: Listed(file.size, file.lfs.sha256 if file.lfs else None) for file in files}

    def download(self, path: str, partial: Path) -> None:
        """Resume by ranges."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._name, path, revision=self.commit, endpoint=self._hub_url)
        try:
            resume(lambda headers: self._get(url, headers), partial)
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _get(self, url: str, headers: Mapping[str, str], **options: Any) -> requests.Response:
        ours = {**_hub_headers(), **headers}
        response = requests.get(url, headers=ours, stream=True, timeout=_TIMEOUT_SECONDS, **options)
        if response.ok or response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response
        response.close()
        if response.status_code in _REFUSED:
            raise BaseNotFound(
                f"The hub mirror does not give us {self.where}: HTTP {response.status_code}",
                hint="Put it there, give the worker an HF_TOKEN that may read it, or name its place in DELTADEX_BASES.",
            )
        raise requests.HTTPError(f"HTTP {response.status_code}", response=response)

    def _unreachable(self, error: Exception) -> BaseNotFound:
        return BaseNotFound(
            f"The hub mirror could not be asked for {self.where}: {str(error)[:300]}",
            hint="Is the mirror at DELTADEX_HUB_URL up, and does it answer the Hugging Face Hub's API?",
            retryable=True,
        )


def _hub_headers() -> dict[str, str]:
    try:
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]
    except ImportError as error:
        raise SettingsError(
            "DELTADEX_HUB_URL is set, but huggingface_hub is not installed here", hint="Install deltadex[embed]."
        ) from error
    return build_hf_headers(library_name="deltadex")
