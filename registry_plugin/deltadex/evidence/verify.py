"""Verification of a pack: its signature, the digests of its files, and the part of the decision log in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from deltadex.errors import DeltadexError, EvidenceError
from deltadex.evidence import decisions, ml_bom
from deltadex.evidence.opened import opened, read_index, read_json
from deltadex.evidence.pack import INDEX
from deltadex.evidence.signing import SIGNATURE, TIME_STAMP, check_signature, fingerprint_of
from deltadex.evidence.time_stamp import stamped_at
from deltadex.reviews.chain import heads_of_part, verify_part

_HINT = "Ask for another copy."
_EMPTY = "of an empty log"


class CheckOf(StrEnum):
    """Checks of a pack, in order."""

    SIGNATURE = "signature"
    TIME = "time"
    DIGESTS = "digests"
    CHAIN = "log"
    BOM = "bill of materials"


@dataclass(frozen=True)
class PackCheck:
    """The result of one check: what was found, or what is wrong.

    Attributes
    ----------
    is_passed
        None if it was not checked, for want of a key or of root certificates.
    """

    of: CheckOf
    is_passed: bool | None
    says: str

    @property
    def is_failed(self) -> bool:
        """True if something is wrong."""
        return self.is_passed is False


@dataclass(frozen=True)
class PackHeading:
    """The subject of a pack, as the pack itself states it: untrusted until it is verified.

    Attributes
    ----------
    head
        The head of the log that the pack says it leads to; empty for an empty log.
    """

    label: str
    registry: str
    asked_by: str
    made_at: str
    head: str


def verify_pack(
    path: Path, *, public_key: Path | None, head: str = "", time_roots: Path | None = None
) -> tuple[PackCheck, ...]:
    """Check a pack, and return the result of each check. One that fails keeps none of the others from being made.

    Parameters
    ----------
    public_key
        The house's public key (PEM), which came on another way than the pack; None checks no signature, and says so.
    head
        A head of the log that was noted or published, `number:hash`: the part of the log must pass through it, with
        all decisions about the version before it.
    time_roots
        Root certificates (PEM) of the authority whose time stamp must be there; None believes no time.

    Raises
    ------
    EvidenceError
        This is no pack, or a package is missing.
    SettingsError
        `public_key` is no public key.
    """
    fingerprint = fingerprint_of(public_key) if public_key else ""
    unchecked = {CheckOf.SIGNATURE: public_key is None, CheckOf.TIME: time_roots is None}
    with opened(path) as folder:
        index = read_index(folder)
        checks: dict[CheckOf, Callable[[], str]] = {
            CheckOf.SIGNATURE: lambda: _signature(folder, public_key, fingerprint),
            CheckOf.TIME: lambda: _time(folder, index, time_roots, is_signature_checked=public_key is not None),
            CheckOf.DIGESTS: lambda: _digests(folder, index),
            CheckOf.CHAIN: lambda: _chain(folder, index, head),
            CheckOf.BOM: lambda: _bom(folder),
        }
        return tuple(_result(of, check, is_passed=None if unchecked.get(of) else True) for of, check in checks.items())


def heading_of(path: Path) -> PackHeading:
    """Return the subject of a pack; raises EvidenceError if this is no pack."""
    with opened(path) as folder:
        index = read_index(folder)
    told = {name: str(index.get(name, "")) for name in ("registry", "asked_by", "made_at")}
    return PackHeading(f"{index.get('model')}/{index.get('version')}", **told, head=str(index.get("log_head", "")))


def _result(of: CheckOf, check: Callable[[], str], *, is_passed: bool | None) -> PackCheck:
    try:
        return PackCheck(of, is_passed=is_passed, says=check())
    except DeltadexError as error:
        return PackCheck(of, is_passed=False, says=error.message)


def _signature(folder: Path, public_key: Path | None, fingerprint: str) -> str:
    if public_key is None:
        return "not checked: no key was given, so anyone may have made this pack"
    check_signature(folder, public_key)
    return f"by the key {public_key.name}, SHA-256 {fingerprint}"


def _time(folder: Path, index: Mapping[str, Any], roots: Path | None, *, is_signature_checked: bool) -> str:
    stated = f"{index.get('made_at')} by the clock of the machine that made it"
    if roots is None:
        there = "; a time stamp is there, and not checked without --tsa-ca" if (folder / TIME_STAMP).exists() else ""
        return f"{stated}, which no authority vouches for{there}"
    try:
        answer, signature = ((folder / name).read_bytes() for name in (TIME_STAMP, SIGNATURE))
    except OSError as error:
        raise EvidenceError("There is no time stamp of a signature", hint=_HINT) from error
    vouched = f"before {stamped_at(answer, signature, roots):%Y-%m-%d %H:%M:%S} UTC, which the authority vouches for"
    if not is_signature_checked:
        return f"there is a signature of {vouched}; whether it is one of these files was not checked; {stated}"
    return f"signed {vouched}; {stated}"


def _digests(folder: Path, index: Mapping[str, Any]) -> str:
    listed = index.get("files")
    if not isinstance(listed, dict):
        raise EvidenceError(f"{INDEX} lists no files", hint=_HINT)
    there = {one.name for one in folder.iterdir()} - {INDEX, SIGNATURE, TIME_STAMP}
    if there != set(listed):
        odd = sorted(there.symmetric_difference(listed))
        raise EvidenceError(f"Not what {INDEX} lists: {', '.join(odd)} (added or missing)", hint=_HINT)
    for name, digest in listed.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise EvidenceError(f"{name} was changed: it has not the digest in {INDEX}", hint=_HINT)
    return f"{len(listed)} files as {INDEX} lists them"


def _chain(folder: Path, index: Mapping[str, Any], head: str) -> str:
    told = read_json(folder, decisions.PATH)
    part = told.get("log")
    if not isinstance(part, dict):
        raise EvidenceError(f"{decisions.PATH} has no part of the log", hint=_HINT)
    reached = verify_part(part)
    if reached != part.get("head") or reached != index.get("log_head"):
        raise EvidenceError(
            f"The log leads to the head {reached or _EMPTY}, and the pack says {index.get('log_head') or _EMPTY}: an "
            "entry was changed, added, removed or exchanged",
            hint=_HINT,
        )
    shown = [decisions.summary(one) for one in part["entries"] if not isinstance(one, str)]
    if told.get("decisions") != shown:
        raise EvidenceError("The decisions that are shown are not those of the log", hint=_HINT)
    if not head:
        return (
            f"{len(shown)} decisions, in a log that leads to the head {reached or _EMPTY}; compare it with a head that "
            "you noted or that the house published (--head)"
        )
    if head not in heads_of_part(part):
        raise EvidenceError(
            f"The log in the pack does not pass through the head {head}: it was rewritten, or the pack ends "
            f"before it, at {reached or _EMPTY}",
            hint=_HINT,
        )
    entries_before = int(head.partition(":")[0]) - int(part["start"]["number"])
    if after := sum(not isinstance(one, str) for one in part["entries"][entries_before:]):
        raise EvidenceError(
            f"{len(shown)} decisions, {after} of them after the head {head}, which does not prove these: give "
            "a head that the house published later (--head)",
            hint=_HINT,
        )
    return f"{len(shown)} decisions, proven by the head {head}"


def _bom(folder: Path) -> str:
    try:
        ml_bom.validate((folder / ml_bom.PATH).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvidenceError(f"{ml_bom.PATH} can't be read: {error}", hint=_HINT) from error
    return "valid CycloneDX 1.7"
