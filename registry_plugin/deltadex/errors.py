"""The exceptions that Deltadex raises.

DeltadexError
├── SettingsError            a setting is missing or wrong
├── CheckpointError          the files themselves are at fault and need a person's attention → `failed`
│   ├── BrokenCheckpoint     truncated, empty or inconsistent files
│   │   └── IncompleteCheckpoint     files are missing; a new version's may still be on their way
│   └── UnsupportedCheckpoint    complete, but not embeddable → `unsupported`
│       ├── NoLanguageModel  a model of another kind, such as a classifier of images → `skipped`
│       ├── BaseNotFound     no base is declared, or its location is not configured
│       └── BaseMismatch     the declared base does not fit the weights; becomes a `wrong_base` finding
├── EmbeddingError           the forward pass failed or returned non-finite numbers
├── Shortage                 this machine has too little memory (or that of its GPU), disk or time, or no access to
│                            an artifact store → `waiting`
├── GovernanceError          a review or access rule forbids an action
│   ├── AccessDenied         the person lacks permission
│   ├── IllegalStep          the finding's state does not allow this step
│   └── FindingChanged       another person or a new measurement changed the finding: reload it
├── EvidenceError            an evidence pack can't be made, or is not what its signature or its log says
├── ExamplesError            examples of a task, or prompts, cannot be read
├── RegistryError            MLflow refused or is unreachable
├── StoreError               Postgres refused or is unreachable
├── SchedulerError           Prefect refused or is unreachable
├── ChannelError             a notification was not accepted
├── WitnessError             a witness of the decision log refused or is unreachable
├── EndpointError            an OpenAI-compatible endpoint refused, failed or was unreachable
└── StackError               a service of the embedded stack did not start or stop
"""

import errno
from enum import StrEnum
from typing import Any


class Resource(StrEnum):
    """A resource that settings or machines limit."""

    MEMORY = "memory"
    GPU = "gpu memory"
    DISK = "disk"
    TIME = "time"
    #: Its limit is a point in time: a worker reads the credentials of stores when it starts.
    STORE = "artifact store"


class DeltadexError(Exception):
    """An error with a next step.

    Parameters
    ----------
    message
        The problem, with the object and the value.
    hint
        The next step for the reader.
    retryable
        True if the same call may succeed later without any change.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword-only parts when an error crosses a process border."""
        keywords = {name: value for name, value in vars(self).items() if name != "message"}
        return (_rebuild, (type(self), self.message, keywords))


def _rebuild(cls: type[DeltadexError], message: str, keywords: dict[str, Any]) -> DeltadexError:
    return cls(message, **keywords)


class SettingsError(DeltadexError):
    """A setting is missing or wrong."""


class CheckpointError(DeltadexError):
    """The checkpoint's own files are at fault."""


class BrokenCheckpoint(CheckpointError):
    """Files are truncated, empty or contradict each other."""


class IncompleteCheckpoint(BrokenCheckpoint):
    """Files are missing: the upload was cut short, or is still under way."""


class UnsupportedCheckpoint(CheckpointError):
    """A complete artifact that Deltadex does not embed."""


class NoLanguageModel(UnsupportedCheckpoint):
    """A model of another kind, which the registry holds for others."""


class BaseNotFound(UnsupportedCheckpoint):
    """No base is declared, or the declared base cannot be located."""


class BaseMismatch(UnsupportedCheckpoint):
    """The declared base does not fit the finetune's weights.

    Parameters
    ----------
    measure, threshold
        The relative weight distance, and the distance from which models count as unrelated; None where names or
        shapes already rule the base out.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retryable: bool = False,
        measure: float | None = None,
        threshold: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.measure = measure
        self.threshold = threshold


class EmbeddingError(DeltadexError):
    """The forward pass failed."""


class Shortage(DeltadexError):
    """A version needs more of a resource than this machine allows, and waits for one that has it.

    Parameters
    ----------
    resource
        The resource that ran out.
    more_than
        The limit that was not enough, in bytes or seconds; 0 if it is not known, so that any machine may try again. Of
        an artifact store, the time of the refusal in seconds since the epoch.
    """

    def __init__(
        self, message: str, *, resource: Resource, more_than: float, hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.resource = Resource(resource)
        self.more_than = more_than


def is_disk_full(error: Exception) -> bool:
    """Return whether a disk, or this user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


class GovernanceError(DeltadexError):
    """A review or access rule forbids an action."""


class AccessDenied(GovernanceError):
    """The person lacks permission, or is not identified."""


class IllegalStep(GovernanceError):
    """The finding's state does not allow this step."""


class FindingChanged(GovernanceError):
    """The finding has changed since the person saw it."""


class EvidenceError(DeltadexError):
    """An evidence pack can't be made, or one that was given is not what it says."""


class ExamplesError(DeltadexError):
    """Examples of a task, or prompts, are missing, malformed, too many or too long."""


class RegistryError(DeltadexError):
    """MLflow refused or could not be reached."""


class MissingRight(RegistryError):
    """Deltadex's account in MLflow may not do this."""


class StoreError(DeltadexError):
    """Postgres refused or could not be reached."""


class SchedulerError(DeltadexError):
    """Prefect refused or could not be reached."""


class ChannelError(DeltadexError):
    """A notification channel did not accept a message."""


class WitnessError(DeltadexError):
    """A witness of the decision log refused a head, gave a wrong answer or could not be reached."""


class TimeStampError(DeltadexError):
    """An authority of time stamps refused, could not be reached, or its time stamp does not hold."""


class EndpointError(DeltadexError):
    """An OpenAI-compatible endpoint refused, failed or could not be reached."""


class StackError(DeltadexError):
    """A service of the embedded stack did not start or stop."""
