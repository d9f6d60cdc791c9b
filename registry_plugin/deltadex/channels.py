"""Sending messages, by Apprise: Slack, Teams, e-mail and dozens more behind one kind of URL."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from deltadex.errors import ChannelError
from deltadex.governance.notices import Message


def send(name: str, url: SecretStr, message: Message) -> None:
    """Send a message.

    Parameters
    ----------
    name
        What people call the channel: its URL holds tokens, and is never shown.

    Raises
    ------
    ChannelError
        Apprise can't read the URL, or the service did not take the message.
    """
    # Takes half a second, and only those who send need it.
    import apprise

    # It logs hosts and answers of services, in which tokens may be.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    channel = apprise.Apprise()
    if not channel.add(url.get_secret_value()):
        raise ChannelError(f"The URL of the channel {name} can't be read", hint="Apprise's wiki shows each service's.")
    if not channel.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT):
        raise ChannelError(
            f"The channel {name} did not take the message", hint="Try `deltadex notify test`.", retryable=True
        )
