"""Packs about all versions with an alias, such as everything that is in production."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from deltadex.access import Person, at_terminal
from deltadex.errors import DeltadexError, EvidenceError
from deltadex.evidence.pack import EvidencePack, evidence_pack, write_pack, zip_name
from deltadex.evidence.signing import PackSigner, TimeStamper, required_signer
from deltadex.evidence.time_stamp import time_stamper_of
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import VersionRow
from deltadex.versions import reads as versions


def packs_with_alias(
    tx: Transaction, viewer: Person, settings: Settings, alias: str, *, after: str = ""
) -> list[EvidencePack]:
    """Return the packs of all versions with an alias that the viewer may see.

    Parameters
    ----------
    after
        As in `deltadex.evidence.pack.evidence_pack`.

    Raises
    ------
    EvidenceError
        One of the versions, which the message names, can't be packed.
    DeltadexError
        There is no version with this alias.
    """
    found = [
        _named_pack(tx, viewer, settings, row, after=after)
        for name in versions.names(tx, viewer, settings.registry)
        for row in versions.find(tx, viewer, settings.registry, name)
        if alias in row.registered.aliases
    ]
    if not found:
        raise DeltadexError(f"No version that you may see has the alias {alias}", hint="`deltadex models` lists them.")
    return found


def _named_pack(tx: Transaction, viewer: Person, settings: Settings, row: VersionRow, *, after: str) -> EvidencePack:
    try:
        return evidence_pack(tx, viewer, settings, row.id, after=after)
    except DeltadexError as error:
        raise EvidenceError(f"{row.label} can't be packed: {error.message}", hint=error.hint) from error
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        hint = "This is a bug in Deltadex: please report it."
        raise EvidenceError(f"{row.label} can't be packed: {error}", hint=hint) from error


def write_packs(
    packs: Sequence[EvidencePack], folder: Path, *, signer: PackSigner | None, time_stamper: TimeStamper | None
) -> list[Path]:
    """Write packs as ZIP files of a folder; raises as `deltadex.evidence.pack.write_pack` does."""
    return [write_pack(pack, folder / zip_name(pack.label), signer=signer, time_stamper=time_stamper) for pack in packs]


def write_again(settings: Settings, database: Database, alias: str) -> list[Path]:
    """Write signed packs of this moment, as the user of this machine may see them, into a new folder.

    It is named by the time, in the packs' folder of the settings.

    Raises
    ------
    AccessDenied
        There is an access file, and the user is not in it.
    SettingsError
        There is no key that signs.
    DeltadexError
        No version has this alias, or a pack can't be written.
    """
    viewer, signer = at_terminal(settings), required_signer(settings)
    with database.transaction() as tx:
        packs = packs_with_alias(tx, viewer, settings, alias)
    folder = (settings.evidence.packs_folder or settings.data_dir / "packs") / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return write_packs(packs, folder, signer=signer, time_stamper=time_stamper_of(settings))
