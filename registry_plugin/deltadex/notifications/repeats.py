"""Sentences about a version that repeats another one, for its owner and for a tag in MLflow. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltadex.access import Person
from deltadex.escaping import message_text, printable
from deltadex.findings.kinds import KINDS
from deltadex.notifications.message import Message
from deltadex.types import FindingKind, VersionRow
from deltadex.vectors import short_similarity

#: Lines of one message; an import can bring many versions at once.
_LINES = 20
#: Kinds of which an owner hears as soon as they are found.
REPEATS = tuple(kind for kind, info in KINDS.items() if info.repeats)


@dataclass(frozen=True)
class Repeat:
    """A fresh version in a group of versions that repeat each other.

    Attributes
    ----------
    other
        The version that it repeats: the most similar one, or else the oldest one of the group.
    similarity
        Cosine similarity of both; None for equal weights.
    more
        How many versions the group has besides these two.
    link
        Address of the finding's page; None if the dashboard has none.
    """

    review_id: int
    kind: FindingKind
    version: VersionRow
    other: VersionRow
    similarity: float | None
    more: int
    link: str | None

    def sentence(self, viewer: Person) -> str:
        """Return the finding in words, without name and number of a version that the viewer may not see."""
        subject, verb = self.version.label, KINDS[self.kind].repeats
        if viewer.view(self.other).registered.ref.is_hidden:
            return f"{subject} {verb} a model that you may not see"
        number = "" if self.similarity is None else f" ({short_similarity(self.similarity)})"
        others = f" and {self.more} more" if self.more else ""
        return f"{subject} {verb} {self.other.label}{number}{others}"


def message_of(repeats: Sequence[tuple[Repeat, Person]]) -> Message:
    """Return the message to an owner, each line as its viewer may see it; it has no comments and no other addresses."""
    lines = [_line(one, viewer) for one, viewer in repeats[:_LINES]]
    if len(repeats) > _LINES:
        lines.append(f"… and {len(repeats) - _LINES} more")
    first = message_text(repeats[0][0].version.label)
    what = f"{first} repeats another model" if len(repeats) == 1 else f"{len(repeats)} new versions repeat others"
    return Message(f"Deltadex: {what}", "\n".join(lines))


def note_of(repeats: Sequence[Repeat], viewer: Person) -> str:
    """Return the text of the tag in MLflow, such as `behaves like contract-drafter/2 (.97), finding 12: https://…`.

    Parameters
    ----------
    viewer
        Who may read the version in MLflow, as far as that is known: others read the tag, too.
    """
    return "; ".join(printable(f"{one.sentence(viewer)}, {_place(one)}") for one in repeats)[:1000]


def _line(one: Repeat, viewer: Person) -> str:
    sentence = message_text(one.sentence(viewer))
    return f"{sentence}. Use that one, or say in the review why both are needed: {_place(one)}"


def _place(one: Repeat) -> str:
    return f"finding {one.review_id}" + (f": {one.link}" if one.link else "")
