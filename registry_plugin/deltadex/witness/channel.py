"""A witness that is a channel of notifications: people, or their mailbox, hold the head."""

from __future__ import annotations

from datetime import UTC

from deltadex.errors import ChannelError, SettingsError, WitnessError
from deltadex.escaping import message_text
from deltadex.notifications.channels import send
from deltadex.notifications.message import Message
from deltadex.settings import Settings
from deltadex.witness.head import LogHead
from deltadex.witness.kinds import Address

#: Pause between two messages: a later head proves all entries that an earlier one does.
_MINUTES = 24 * 60


class ChannelWitness:
    """A channel of `DELTADEX_NOTIFY__CHANNELS`. It can't be asked: a person compares with what was sent."""

    def __init__(self, address: Address, settings: Settings) -> None:
        self.name = address.shown
        self.least_pause = address.pause(_MINUTES)
        self._channel = address.place
        if self._channel not in settings.notify.channels:
            raise SettingsError(
                f"Witness {self.name}: there is no such channel", hint="DELTADEX_NOTIFY__CHANNELS lists the channels."
            )
        self._url = settings.notify.channels[self._channel]

    def publish(self, head: LogHead) -> LogHead:
        """Send a head; raises WitnessError if the channel does not accept it."""
        try:
            send(self._channel, self._url, message_of(head))
        except ChannelError as error:
            raise WitnessError(f"{self.name}: {error.message}", hint=error.hint, retryable=error.retryable) from error
        return head

    def held(self, registry: str) -> None:
        """Return None: messages can't be read again."""

    def caution(self) -> str:
        """Return nothing: what the channel keeps is not known here."""
        return ""


def message_of(head: LogHead) -> Message:
    """Return the message of a head, with the command that checks it."""
    at = f"{head.at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    lines = (
        f"registry {message_text(head.registry)}: {head.entries} entries on {at}",
        *(f"deltadex review verify --head {label}" for label in (head.label, head.ownership) if label),
    )
    return Message("Deltadex: head of the decision log", "\n".join(lines))
