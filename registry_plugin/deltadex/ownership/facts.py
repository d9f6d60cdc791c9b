"""Facts about a registered model: what people state in Deltadex, or else what its tags in MLflow say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from deltadex.errors import IllegalStep
from deltadex.escaping import printable, storable
from deltadex.setting_groups import OwnershipSettings
from deltadex.types import RiskTier


class OwnershipField(StrEnum):
    """Fields of a registered model that people state."""

    OWNER = "owner"
    TIER = "tier"
    INTENDED_USE = "intended_use"
    REVIEW_BY = "review_by"

    @property
    def words(self) -> str:
        """Name of the field within a sentence."""
        return {"tier": "risk tier", "review_by": "review date"}.get(self, self.replace("_", " "))


class FactOrigin(StrEnum):
    """Origin of a fact, the one that wins first."""

    STATED = "stated in Deltadex"
    TAG = "tag of the registered model"
    VERSION_TAG = "tag of the newest version"
    NONE = "not known"


@dataclass(frozen=True)
class Fact:
    """One fact about a registered model.

    Attributes
    ----------
    value
        Untrusted text of bounded length; empty if nothing is known.
    tag
        The tag that says it; empty unless one does.
    remark
        A sentence about a tag that can't be read; empty if there is none.
    """

    value: str = ""
    origin: FactOrigin = FactOrigin.NONE
    tag: str = ""
    remark: str = ""


#: Characters of a value; more of a tag is cut off, more from a person is refused.
MOST_CHARACTERS: Mapping[OwnershipField, int] = {
    OwnershipField.OWNER: 200,
    OwnershipField.TIER: 50,
    OwnershipField.INTENDED_USE: 2_000,
    OwnershipField.REVIEW_BY: 50,
}
_TIERS = ", ".join(RiskTier)


def tags_of(settings: OwnershipSettings) -> Mapping[OwnershipField, Sequence[str]]:
    """Return the names of the tags of each field, the one that is written back first."""
    return {field: getattr(settings, f"{field}_tags") for field in OwnershipField}


def kept_tags(tags: Mapping[str, str], settings: OwnershipSettings) -> dict[str, str]:
    """Return the tags of a registered model that a field reads, cut to what can be stored."""
    return {
        name: storable(tags[name][: MOST_CHARACTERS[field]])
        for field, names in tags_of(settings).items()
        for name in names
        if name in tags
    }


def by_tags(tags: Mapping[str, str], field: OwnershipField, settings: OwnershipSettings) -> Fact:
    """Return what the tags of a registered model say of a field: the first tag that can be read."""
    remark = ""
    for name in tags_of(settings)[field]:
        if not (text := tags.get(name, "").strip()):
            continue
        try:
            return Fact(_read(field, text), FactOrigin.TAG, name, remark)
        except ValueError:
            expected = _TIERS if field is OwnershipField.TIER else "a date such as 2026-12-31"
            remark = remark or f"The tag {name} says {text!r}, which is not {expected}."
    return Fact(remark=remark)


def checked(field: OwnershipField, text: str, *, today: date) -> str:
    """Return what a person states, as it is stored.

    Raises
    ------
    IllegalStep
        It is empty, too long, no tier, no date, or a date in the past.
    """
    text, most = storable(text.strip()), MOST_CHARACTERS[field]
    if not text or len(text) > most:
        problem = f"has {len(text):,} characters" if text else "is empty"
        raise IllegalStep(f"The {field.words} {problem}", hint=f"It needs 1 to {most:,} characters.")
    if printable(text, multiline=field is OwnershipField.INTENDED_USE) != text:
        raise IllegalStep(f"The {field.words} has control characters", hint="Type it again, as plain text.")
    try:
        value = _read(field, text)
    except ValueError as error:
        expected = f"one of {_TIERS}" if field is OwnershipField.TIER else "a date such as 2026-12-31"
        raise IllegalStep(f"{text!r} is no {field.words}", hint=f"It is {expected}.") from error
    if field is OwnershipField.REVIEW_BY and date.fromisoformat(value) < today:
        raise IllegalStep(f"{value} is in the past", hint="The review date is the date of the next review.")
    return value


def _read(field: OwnershipField, text: str) -> str:
    """Return the value of a text. Raises ValueError if it has none."""
    if field is OwnershipField.TIER:
        return RiskTier(text.casefold()).value
    if field is OwnershipField.REVIEW_BY:
        return date.fromisoformat(text).isoformat()
    return text
