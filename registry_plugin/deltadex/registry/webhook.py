"""Registration of the webhook by which MLflow wakes the watcher; `receiver` is the other end."""

from __future__ import annotations

from mlflow.entities.webhook import WebhookEvent

from deltadex.registry.client import Registry
from deltadex.registry.connection import registry_errors
from deltadex.setting_groups import WebhookSettings

NAME = "deltadex"
EVENTS = ("registered_model.created", "model_version.created")


def register_webhook(registry: Registry, settings: WebhookSettings) -> str:
    """Create or update our webhook in MLflow and return the address it calls. Idempotent.

    Raises
    ------
    RegistryError
        MLflow refuses: it uses a file store, is a managed service, or may not call the URL.
    """
    url = settings.url or f"http://{settings.host}:{settings.port}/webhook"
    secret = settings.secret.get_secret_value() if settings.secret else None
    events = [WebhookEvent.from_str(event) for event in EVENTS]
    with registry_errors("registering the webhook"):
        ours = [webhook for webhook in registry.client.list_webhooks() if webhook.name == NAME]
        if ours:
            registry.client.update_webhook(ours[0].webhook_id, url=url, secret=secret, events=events, status="ACTIVE")
        else:
            registry.client.create_webhook(NAME, url, events, secret=secret, description="Wakes Deltadex's watcher")
    return url
