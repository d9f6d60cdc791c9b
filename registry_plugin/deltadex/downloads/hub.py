"""Downloads of bases from a hub mirror: any server with the Hugging Face Hub's API at the configured address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import requests

from deltadex.downloads.cache import Hold
from deltadex.downloads.resume import FetchedFiles, ListedFile, resume
from deltadex.errors import BaseNotFound, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub import ModelInfo

_REPOSITORY_NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_TIMEOUT_SECONDS = (10, 120)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


def is_hub_name(declared: str) -> bool:
    """Return True if a declared base can be a hub repository: `owner/name`."""
    return bool(_REPOSITORY_NAME.fullmatch(declared))


def hub_files(hub_url: str, name: str, hold: Hold, *, parallel: int = 4) -> FetchedFiles:
    """Return a model's files on a hub mirror, at the current commit of its main branch, kept in the cache.

    Raises
    ------
    BaseNotFound
        The mirror lacks the model, refuses access, or is unreachable; only the last is retryable.
    SettingsError
        huggingface_hub is not installed.
    """
    source = HubSource(hub_url, name)
    return FetchedFiles(source, hold(f"hub {source.where}, {source.commit}"), parallel=parallel)


class HubSource:
    """One commit of a model on a hub mirror. Implements `deltadex.downloads.resume.Source`.

    URLs, headers (with the machine's own token, such as `HF_TOKEN`) and response types come from huggingface_hub. The
    requests do not, because its client refuses them under `HF_HUB_OFFLINE`, which Deltadex sets for all its processes.

    Attributes
    ----------
    commit
        Commit of the main branch at construction; all files come from it.
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
        except (requests.RequestException, KeyError, TypeError) as error:  # invalid JSON is a RequestException too
            raise self._unreachable(error) from error

    def listing(self) -> Mapping[str, ListedFile]:
        """Return every file; files stored with Git LFS have a digest."""
        files = self._info.siblings or ()
        return {file.rfilename: ListedFile(file.size, file.lfs.sha256 if file.lfs else None) for file in files}

    def download(self, path: str, partial: Path) -> None:
        """Download one file, resuming with range requests."""
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(self._name, path, revision=self.commit, endpoint=self._hub_url)
        try:
            resume(lambda headers: self._get(url, headers), partial)
        except requests.RequestException as error:
            raise self._unreachable(error) from error

    def _get(self, url: str, headers: Mapping[str, str], **options: Any) -> requests.Response:
        all_headers = {**_hub_headers(), **headers}
        response = requests.get(url, headers=all_headers, stream=True, timeout=_TIMEOUT_SECONDS, **options)
        if response.ok or response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return response
        response.close()
        if response.status_code in _REFUSED:
            raise BaseNotFound(
                f"The hub mirror refuses {self.where}: HTTP {response.status_code}",
                hint="Add it to the mirror, give the worker an HF_TOKEN with access, or map it in DELTADEX_BASES.",
            )
        raise requests.HTTPError(f"HTTP {response.status_code}", response=response)

    def _unreachable(self, error: Exception) -> BaseNotFound:
        return BaseNotFound(
            f"The hub mirror could not be reached for {self.where}: {str(error)[:300]}",
            hint="Is the mirror at DELTADEX_HUB_URL up, and does it implement the Hugging Face Hub's API?",
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
