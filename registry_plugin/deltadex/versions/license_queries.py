"""Queries of the licences that versions and their bases declare."""

from __future__ import annotations

from dataclasses import dataclass

from deltadex.store.database import Transaction


@dataclass(frozen=True)
class DeclaredLicenses:
    """The licences of a version and of its base, in lower case.

    Attributes
    ----------
    of_finetune, of_base
        Empty if none is declared; None if that was not read yet.
    """

    of_finetune: str | None = None
    of_base: str | None = None


def save(tx: Transaction, version_id: int, found: DeclaredLicenses) -> None:
    """Store the licences of a version that was read."""
    tx.execute(
        "update model_versions set license = %s, base_license = %s where id = %s",
        [found.of_finetune or "", found.of_base or "", version_id],
    )


def of_version(tx: Transaction, version_id: int) -> DeclaredLicenses:
    """Return the licences of a version; unknown ones if there is no such version."""
    row = tx.execute("select license, base_license from model_versions where id = %s", [version_id]).fetchone()
    return DeclaredLicenses(*row) if row else DeclaredLicenses()
