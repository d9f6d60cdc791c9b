"""Keyed pseudonyms of the versions that the person who asks may not see."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from deltadex.errors import SettingsError
from deltadex.settings import Settings
from deltadex.types import VersionRow

_PURPOSE = b"deltadex evidence: pseudonyms of hidden versions"
_DIGITS = 16


@dataclass(frozen=True)
class Pseudonyms:
    """Names of versions in a pack.

    A hidden version is named by an HMAC-SHA-256 of its row's number. The same version has the same pseudonym in all
    packs of one house; without the key it can't be told which version it is, nor can names be tried.

    Attributes
    ----------
    key
        None if there is no key; then a hidden version can't be named.
    """

    key: bytes | None

    def name(self, row: VersionRow) -> str:
        """Return `name/version`, or the pseudonym of a row that is masked.

        Raises
        ------
        SettingsError
            The row is masked and there is no key.
        """
        if not row.registered.ref.is_hidden:
            return row.label
        if self.key is None:
            raise SettingsError(
                "The pack names versions that you may not see, and there is no key for pseudonyms",
                hint="Set DELTADEX_EVIDENCE__PSEUDONYM_KEY, of at least 32 characters.",
            )
        return f"hidden-{hmac.new(self.key, f'version {row.id}'.encode(), hashlib.sha256).hexdigest()[:_DIGITS]}"


def pseudonyms_of(settings: Settings) -> Pseudonyms:
    """Return the pseudonyms of a house, by its own key or by one derived from the key that seals embeddings."""
    own = settings.evidence.pseudonym_key
    if own is not None:
        return Pseudonyms(own.get_secret_value().encode())
    sealing = settings.sealing_key
    return Pseudonyms(None if sealing is None else hmac.new(sealing, _PURPOSE, hashlib.sha256).digest())
