"""Setup of the store, the flows and the webhook (`deltadex init`). Idempotent."""

from __future__ import annotations

from importlib.metadata import version

from deltadex.app import App
from deltadex.errors import MissingRight, RegistryError
from deltadex.ingest import tenants
from deltadex.registry.mcp_listing import list_mcp_server
from deltadex.registry.webhook import register_webhook
from deltadex.store.database import Database
from deltadex.store.migrate import migrate
from deltadex.store.roles import logins_of


def initialise(app: App) -> list[str]:
    """Migrate the store, deploy the flows, list the MCP server, register the webhook; return a line for each step.

    Without the right to register a webhook it goes on: polling finds every version, too.
    """
    logins = logins_of(app.settings.database)
    with Database(app.settings.database_url) as owned:
        applied = migrate(owned, logins=logins)
    lines = [f"store: {', '.join(applied) if applied else 'up to date'}"]
    lines.append(f"logins: {', '.join(logins) if logins else 'one for all services, see docs/store.md'}")
    app.scheduler.deploy()
    lines.append(f"flows: deployed to the work pool {app.settings.work_pool!r}")
    if app.settings.mcp.url is not None:
        lines.append(f"MCP server: {_listed(app, app.settings.mcp.url)}")
    webhook = app.settings.webhook
    if webhook.secret is None:
        lines.append("webhook: none, polling only (set DELTADEX_WEBHOOK__SECRET to have one)")
        return lines
    try:
        lines += [
            f"webhook{_of(one)}: MLflow calls {register_webhook(one.registry, webhook)}" for one in tenants.each(app)
        ]
    except MissingRight as error:
        lines.append(f"webhook: not registered, only an admin of MLflow may; polling goes on ({error.message})")
    return lines


def _listed(app: App, url: str) -> str:
    """Return what became of the entry in MLflow's registry of MCP servers; nothing else depends on it."""
    try:
        return f"listed in MLflow as {list_mcp_server(app.registry, url, version=version('deltadex'))}"
    except RegistryError as error:
        return f"not listed in MLflow ({error.message})"


def _of(app: App) -> str:
    return "" if tenants.is_default(app) else f" of {app.registry.workspace}"
