"""Telling people, after the commit: each rule remembers how far it has told, so a channel that is away loses nothing.

A message may come twice where we die between sending it and writing that down; none is lost.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from functools import partial

from deltadex.channels import send
from deltadex.errors import ChannelError
from deltadex.governance.notices import check_rules, fitting, message
from deltadex.settings import NotificationRule, Settings
from deltadex.store import deliveries
from deltadex.store.database import Database
from deltadex.store.deliveries import Position

log = logging.getLogger(__name__)


def notify(settings: Settings, database: Database) -> int:
    """Send what each rule has to tell since it told last, one message a rule; return how many were sent.

    One process at a time: the reconciler holds a lock.
    """
    if not settings.notify.rules:
        return 0
    check_rules(settings.notify)
    now = database.run(deliveries.latest)
    return sum(_tell(settings, database, rule, now) for rule in settings.notify.rules)


def _tell(settings: Settings, database: Database, rule: NotificationRule, now: Position) -> bool:
    registry = settings.registry
    before = database.run(partial(deliveries.position, registry=registry, rule=rule.name, start=now))
    if before.sent_at and before.sent_at + timedelta(hours=rule.digest_hours) > datetime.now(UTC):
        return False
    news = fitting(rule, database.run(partial(deliveries.news, registry=registry, after=before, until=now)))
    error = ""
    if news:
        try:
            send(rule.channel, settings.notify.channels[rule.channel], message(news, link=settings.dashboard_url))
        except ChannelError as failure:
            log.warning("not sent rule=%s channel=%s events=%d", rule.name, rule.channel, len(news))
            error = failure.message
        noted = partial(
            deliveries.note, registry=registry, rule=rule.name, channel=rule.channel, events=len(news), error=error
        )
        database.run(noted)
    if not error:
        database.run(partial(deliveries.advance, registry=registry, rule=rule.name, to=now, sent=bool(news)))
    return bool(news) and not error
