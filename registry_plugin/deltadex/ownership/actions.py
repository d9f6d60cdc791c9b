"""Changes of what people state about a registered model, and attestations. Every call checks the person's rights."""

from __future__ import annotations

from collections.abc import Mapping

from deltadex.access import Person, Right, read_directory
from deltadex.errors import AccessDenied, FindingChanged, IllegalStep
from deltadex.ownership import queries, reads
from deltadex.ownership.attestation import Ownership
from deltadex.ownership.facts import FactOrigin, OwnershipField, checked
from deltadex.settings import Settings
from deltadex.store import clock
from deltadex.store.database import Transaction


def edit(
    tx: Transaction,
    person: Person,
    settings: Settings,
    name: str,
    changes: Mapping[OwnershipField, str | None],
    *,
    seen: Ownership | None = None,
) -> Ownership:
    """State facts about a registered model, all or none; return what is known of it now.

    What is stated wins over the tags of MLflow, and is written there by the watcher.

    Parameters
    ----------
    changes
        The new values; None takes back what was stated, so that the tag applies.
    seen
        What the person saw; None: what is known now.

    Raises
    ------
    AccessDenied
        The person may not decide, or may not see the model.
    IllegalStep
        A value is not allowed.
    FindingChanged
        Another person has changed a value since.
    """
    person.require(Right.DECIDE)
    now = _known(tx, person, settings, name)
    today = clock.now(tx).date()
    for field, text in changes.items():
        former, stated = _stated(seen or now, field), None if text is None else checked(field, text, today=today)
        if stated != former:
            queries.record(
                tx, settings.registry, name, field, former=former, stated=stated, statement={},
                person=person.name, identity=person.identity,
            )  # fmt: skip
    return _known(tx, person, settings, name)


def attest(
    tx: Transaction, person: Person, settings: Settings, name: str, *, seen: Ownership | None = None
) -> Ownership:
    """Attest that the person knows a model, and that its use is as stated; return what is known of it now.

    Raises
    ------
    AccessDenied
        The person is not the owner and may not speak for them, or may not see the model.
    IllegalStep
        The model has no owner, no tier or no intended use that could be attested.
    FindingChanged
        Something else is stated than the person saw.
    """
    person.require(Right.LOOK)
    now = _known(tx, person, settings, name)
    missing = [field.words for field in OwnershipField if not now.fact(field).value and field != "review_by"]
    if missing:
        raise IllegalStep(
            f"{name} has no {' and no '.join(missing)}: there is nothing to attest",
            hint=f"`deltadex own {name}` sets it.",
        )
    _require_owner(person, settings, now)
    if seen is not None and _attested(seen) != _attested(now):
        raise FindingChanged(f"{name} has changed: it is not what you saw", hint="Look at it again, then attest.")
    queries.record(
        tx, settings.registry, name, "attestation", former=None, stated=None, statement=_attested(now),
        person=person.name, identity=person.identity,
    )  # fmt: skip
    return _known(tx, person, settings, name)


def may_attest(person: Person, settings: Settings, known: Ownership) -> bool:
    """Return True if a person may attest a model: its owner, or who may speak for them."""
    try:
        _require_owner(person, settings, known)
    except AccessDenied:
        return False
    return True


def _require_owner(person: Person, settings: Settings, known: Ownership) -> None:
    """Raise AccessDenied unless the person is the owner, an admin, or a reviewer where the owner is a listed group.

    A tag in MLflow alone gives no right: a person who is named by one has to be a reviewer too. Without an access file,
    a reviewer attests for all.
    """
    is_owner = known.owner in (person.name, person.identity)
    if person.may(Right.ADMINISTER) or (is_owner and known.owner_fact.origin is FactOrigin.STATED):
        return
    person.require(Right.DECIDE)
    directory = read_directory(settings)
    if not is_owner and directory is not None and known.owner not in directory.groups:
        raise AccessDenied(
            f"{known.model} is owned by {known.owner}, who attests it",
            hint=f"If {person.name} owns it now, `deltadex own {known.model} --owner …` says so first. A reviewer may "
            "attest for a team that is a group of the access file.",
        )


def _known(tx: Transaction, person: Person, settings: Settings, name: str) -> Ownership:
    known = reads.of_model(tx, person, settings, name)
    if known is None:
        raise AccessDenied(f"The registered model {name} is not known", hint="`deltadex models` lists them.")
    return known


def _stated(known: Ownership, field: OwnershipField) -> str | None:
    fact = known.fact(field)
    return fact.value if fact.origin is FactOrigin.STATED else None


def _attested(known: Ownership) -> dict[str, str]:
    return {"owner": known.owner, "tier": known.tier_fact.value, "intended_use": known.intended_use}
