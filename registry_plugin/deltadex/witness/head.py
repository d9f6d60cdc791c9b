"""A head of the decision log with that of the ownership history, as witnesses hold it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

#: Longest line that is read as a head. One with two time stamps and their certificates has about 15 kB.
MAX_LINE = 1 << 16
_HASH = re.compile(r"[0-9a-f]{64}")
_LABEL = re.compile(r"[1-9]\d{0,17}:[0-9a-f]{64}")
_STATEMENT = "deltadex head"


@dataclass(frozen=True)
class LogHead:
    """A head of the log: it proves every entry up to its number.

    Attributes
    ----------
    registry
        `Settings.registry` of the watcher that published it.
    entries
        Number of entries.
    hash
        Hash of the last of them, hex SHA-256.
    at
        Time of publication by the clock of the database.
    stamps
        RFC 3161 responses over `statement`, in base64, by the name of the authority.
    ownership
        `number:hash` of the last entry of the ownership history then; empty if it had none, or if it was not published.
    """

    registry: str
    entries: int
    hash: str
    at: datetime
    stamps: Mapping[str, str] = field(default_factory=dict)
    ownership: str = ""

    @property
    def of_ownership(self) -> LogHead | None:
        """The head of the ownership history as one by itself, which no time stamp is over; None if there is none."""
        number, _, digest = self.ownership.partition(":")
        return replace(self, entries=int(number), hash=digest, stamps={}, ownership="") if number else None

    @property
    def label(self) -> str:
        """`number:hash`, as `deltadex review verify --head` takes it."""
        return f"{self.entries}:{self.hash}"

    @property
    def place(self) -> tuple[int, str]:
        """Number and hash, equal for every publication of one head."""
        return self.entries, self.hash

    def statement(self) -> bytes:
        """Return the text that a time stamp is over, without the time, which the authority states."""
        return json.dumps([_STATEMENT, self.registry, self.entries, self.hash]).encode()

    def line(self) -> str:
        """Return the head as one line of JSON."""
        at = self.at.astimezone(UTC).isoformat()
        values: dict[str, Any] = {"registry": self.registry, "entries": self.entries, "hash": self.hash, "at": at}
        optional = {"ownership": self.ownership, "stamps": dict(self.stamps)}
        return json.dumps(values | {name: value for name, value in optional.items() if value})


@dataclass(frozen=True)
class Held:
    """Heads that a witness holds, and the number of its records that can't be read as one."""

    heads: tuple[LogHead, ...]
    unreadable: int = 0


def parse_head(line: str) -> LogHead:
    """Return the head of one line of JSON.

    Raises
    ------
    ValueError
        The line is no head.
    """
    if len(line) > MAX_LINE:
        raise ValueError("too long for a head")
    try:
        values = json.loads(line)
        registry, entries, digest = values["registry"], values["entries"], values["hash"]
        at, stamps = datetime.fromisoformat(values["at"]), values.get("stamps", {})
        ownership = values.get("ownership", "")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no head") from error
    texts = (registry, digest, ownership, *stamps, *stamps.values()) if isinstance(stamps, dict) else (None,)
    if not all(isinstance(text, str) for text in texts) or not _HASH.fullmatch(digest):
        raise ValueError("no head")
    if type(entries) is not int or entries < 1 or at.tzinfo is None:
        raise ValueError("no head")
    if ownership and not _LABEL.fullmatch(ownership):
        raise ValueError("no head")
    return LogHead(registry, entries, digest, at.astimezone(UTC), stamps, ownership)


def parse_lines(lines: list[str], registry: str) -> Held:
    """Return the heads of one registry among lines of JSON; empty lines are none."""
    heads, unreadable = list[LogHead](), 0
    for line in filter(None, map(str.strip, lines)):
        try:
            head = parse_head(line)
        except ValueError:
            unreadable += 1
            continue
        if head.registry == registry:
            heads.append(head)
    return Held(tuple(heads), unreadable)


def file_name(registry: str) -> str:
    """Return a name for a registry's file or folder at a witness: a digest tells apart what then looks alike."""
    plain = re.sub(r"[^\w.-]", "_", registry, flags=re.ASCII).strip(".")
    return registry if plain == registry else f"{plain}-{hashlib.sha256(registry.encode()).hexdigest()[:8]}"
