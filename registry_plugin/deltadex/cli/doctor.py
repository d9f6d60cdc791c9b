"""The command `doctor`: checks of all connections, with hints."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import typer
from rich.console import Console

from deltadex.cli.options import DatabaseUrl, DataDir, Json, PrefectUrl, TrackingUri, settings_from
from deltadex.cli.reading import print_json
from deltadex.cli.terminal import plain
from deltadex.errors import DeltadexError
from deltadex.settings import Settings

console = Console(highlight=False)
_FIRST_POLL_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    is_healthy: bool
    says: str
    hint: str = ""


def doctor(
    json: Json = False,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    database_url: DatabaseUrl = None,
    prefect_api_url: PrefectUrl = None,
) -> None:
    """Check every connection and show how to fix failures. Exits with 0 only if all are healthy."""
    settings = settings_from(
        data_dir, tracking_uri=tracking_uri, database_url=database_url, prefect_api_url=prefect_api_url
    )
    checks = list(_checks(settings))
    if json:
        print_json([asdict(check) for check in checks])
    for check in () if json else checks:
        console.print(
            f"{'[green]✓[/]' if check.is_healthy else '[red]✗[/]'} [bold]{check.name}[/]: {plain(check.says)}"
        )
        if check.hint:
            console.print(f"  [dim]→ {plain(check.hint)}[/]")
    if not all(check.is_healthy for check in checks):
        raise typer.Exit(1)


def _checks(settings: Settings) -> Iterator[Check]:
    for name, check in (
        ("store", _store),
        ("registry", _registry),
        ("rights", _rights),
        ("scheduler", _scheduler),
        ("watcher", _watcher),
        ("engine", _engine),
        ("witnesses", _witnesses),
    ):
        yield _run(name, check, settings)


def _run(name: str, check: Callable[[Settings], str], settings: Settings) -> Check:
    try:
        return Check(name, True, check(settings))
    except DeltadexError as error:
        return Check(name, False, error.message, error.hint)


def _store(settings: Settings) -> str:
    from deltadex.store import roles
    from deltadex.store.database import Database

    with Database(settings.database_url) as database:
        says = database.check()
    for login in ("writer", "reader", "dashboard"):
        with Database(settings.url_of(login)) as database, database.connect() as tx:
            if not roles.is_separated(tx):
                return f"{says}; logins are not separated, the {login} has the rights of the owner: see docs/store.md"
    return f"{says}; the logins of the services own nothing"


def _registry(settings: Settings) -> str:
    from deltadex.app import registry_of
    from deltadex.ingest.tenants import watched

    registry = registry_of(settings)
    with registry.bound():
        says = registry.check()
    return f"{says}, workspaces: {', '.join(watched(registry, settings))}" if settings.workspaces else says


def _rights(settings: Settings) -> str:
    from deltadex.app import registry_of
    from deltadex.registry.rights import try_rights

    registry = registry_of(settings)
    with registry.bound():
        return try_rights(registry)


def _scheduler(settings: Settings) -> str:
    from deltadex.scheduler import load_scheduler

    return load_scheduler(settings).check()


def _watcher(settings: Settings) -> str:
    """Return how long ago the registry, or each of its workspaces, was polled."""
    if not settings.workspaces:
        return _polled(settings)
    from deltadex.app import registry_of
    from deltadex.ingest.tenants import watched

    registry = registry_of(settings)
    with registry.bound():
        names = watched(registry, settings)
    said = {name: _polled(settings.within(name)) for name in names}
    return "; ".join(f"{name}: {says}" for name, says in said.items())


def _polled(settings: Settings) -> str:
    from deltadex.ingest import queries as watchers
    from deltadex.store import clock
    from deltadex.store.database import Database

    with Database(settings.url_of("reader")) as database:
        # A new watcher polls within seconds: wait for its first poll.
        deadline = time.monotonic() + _FIRST_POLL_SECONDS
        while True:
            with database.transaction() as tx:
                row, now = watchers.read(tx, settings.registry), clock.now(tx)
            if row.polled_at or time.monotonic() > deadline:
                break
            time.sleep(1)
    start_hint, which = "Start a watcher: `deltadex watch`.", _which(settings)
    if row.polled_at is None:
        raise DeltadexError(f"{which} was never polled", hint=start_hint)
    if row.error:
        raise DeltadexError(f"the last round of {which} failed: {row.error}")
    age = (now - row.polled_at).total_seconds()
    if age > 10 * settings.watch.poll_seconds + 30:
        raise DeltadexError(f"{which} was last polled {age:.0f} s ago", hint=start_hint)
    return f"polled {age:.0f} s ago"


def _which(settings: Settings) -> str:
    return f"the workspace {settings.workspace}" if settings.workspace else "the registry"


def _engine(settings: Settings) -> str:
    parts = ("torch", "transformers", "peft")
    missing = [name for name in parts if importlib.util.find_spec(name) is None]
    if len(missing) == len(parts):
        return "none here, as on every machine that only watches or shows"
    if missing:
        raise DeltadexError(f"{', '.join(missing)} not installed here", hint="Workers need deltadex[embed,flows].")
    sealed = "" if settings.sealing_key else "; artifacts are not sealed here, see DELTADEX_ARTIFACT_KEY"
    return f"torch, transformers and peft are installed here{sealed}"


def _witnesses(settings: Settings) -> str:
    from deltadex.store.database import Database
    from deltadex.witness.compare import STAMPED
    from deltadex.witness.configured import witnesses_of
    from deltadex.witness.queries import states

    names = [witness.name for witness in witnesses_of(settings)]
    if not names:
        return "none is set: a log of decisions that was cut off or rewritten can't be told, see docs/witness.md"
    with Database(settings.url_of("reader")) as database, database.transaction() as tx:
        known = states(tx, settings.registry)
    found = [known[name] for name in (*names, STAMPED) if name in known]
    for one in found:
        if one.contradiction:
            raise DeltadexError(f"{one.name}: {one.contradiction}", hint="`deltadex review verify` asks all witnesses.")
    for one in found:
        if one.error:
            raise DeltadexError(f"the head was not published to {one.name}: {one.error}")
    taken = sum(one.published_at is not None for one in found)
    cautions = "".join(f"; {one.name}: {one.caution}" for one in found if one.caution)
    return f"{taken} of {len(names)} hold a head of the decision log{cautions}"
