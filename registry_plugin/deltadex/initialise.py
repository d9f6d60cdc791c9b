"""`deltadex init`: everything that must exist before the first version comes. Idempotent."""

from __future__ import annotations

from deltadex.mlflow_edge.webhook import register_webhook
from deltadex.services import Services
from deltadex.store.migrate import migrate


def initialise(services: Services) -> list[str]:
    """Migrate the store, deploy the flows, register the webhook where a secret is set; return what was done."""
    applied = migrate(services.database)
    done = [f"store: {', '.join(applied) if applied else 'up to date'}"]
    services.scheduler.deploy()
    done.append(f"flows: deployed to the work pool {services.settings.work_pool!r}")
    webhook = services.settings.webhook
    if webhook.secret is None:
        done.append("webhook: none, polling only (set DELTADEX_WEBHOOK__SECRET to have one)")
    else:
        done.append(f"webhook: MLflow calls {register_webhook(services.registry, webhook)}")
    return done
