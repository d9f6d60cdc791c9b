"""Sending messages through Apprise, which addresses Slack, Teams, e-mail and many other services by URL."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from deltadex.errors import ChannelError
from deltadex.notifications.message import Message


def send(name: str, url: SecretStr, message: Message) -> None:
    """Send a message.

    Parameters
    ----------
    name
        Name of the channel for error messages; its URL contains tokens and is never shown.

    Raises
    ------
    ChannelError
        Apprise can't read the URL, or the service did not accept the message.
    """
    # The import takes half a second.
    import apprise

    # Apprise logs hosts and responses, which may contain tokens.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    channel = apprise.Apprise()
    if not channel.add(url.get_secret_value()):
        raise ChannelError(
            f"The URL of the channel {name} can't be read", hint="Apprise's wiki documents the URL of each service."
        )
    if not channel.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT):
        raise ChannelError(
            f"The channel {name} did not accept the message", hint="Try `deltadex notify test`.", retryable=True
        )
