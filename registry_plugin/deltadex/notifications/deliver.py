"""Delivery of notifications after the commit.

Each rule stores its position in the stream of events, so that nothing is lost while a channel is down. A message may be
sent twice if the process dies between sending it and storing that; none is lost.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import partial

from deltadex.errors import ChannelError
from deltadex.notifications import queries as deliveries
from deltadex.notifications.channels import send
from deltadex.notifications.message import check_rules, matching_notices, message
from deltadex.notifications.queries import Position
from deltadex.setting_groups import NotificationRule
from deltadex.settings import Settings, workspace_of
from deltadex.store import clock
from deltadex.store.database import Database

log = logging.getLogger(__name__)


def notify(settings: Settings, database: Database) -> int:
    """Send one message per rule with the events since its last one; return the number of messages.

    Only one process may run this at a time; the watcher holds a lock.
    """
    if not settings.notify.rules:
        return 0
    check_rules(settings.notify)
    now, workspace = database.run(deliveries.latest), workspace_of(settings.registry)
    rules = [rule for rule in settings.notify.rules if any(fnmatchcase(workspace, one) for one in rule.workspaces)]
    return sum(_notify_rule(settings, database, rule, now) for rule in rules)


def _notify_rule(settings: Settings, database: Database, rule: NotificationRule, now: Position) -> bool:
    registry = settings.registry
    before = database.run(partial(deliveries.position, registry=registry, rule=rule.name, start=now))
    if before.sent_at and before.sent_at + timedelta(hours=rule.digest_hours) > database.run(clock.now):
        return False
    recent = database.run(partial(deliveries.notices_between, registry=registry, after=before, until=now))
    notices = matching_notices(rule, recent)
    error = ""
    if notices:
        try:
            send(rule.channel, settings.notify.channels[rule.channel], message(notices, link=settings.dashboard_url))
        except ChannelError as failure:
            log.warning("not sent rule=%s channel=%s events=%d", rule.name, rule.channel, len(notices))
            error = failure.message
        record = partial(
            deliveries.record, registry=registry, rule=rule.name, channel=rule.channel, events=len(notices), error=error
        )
        database.run(record)
    if not error:
        database.run(partial(deliveries.advance, registry=registry, rule=rule.name, to=now, sent=bool(notices)))
    return bool(notices) and not error
