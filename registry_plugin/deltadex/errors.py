"""Every stated error of Deltadex.

DeltadexError
├── SettingsError            a setting is missing or wrong
├── CheckpointError          a person should look: the files themselves are at fault → `failed`
│   ├── BrokenCheckpoint     truncated, empty or inconsistent files
│   └── UnsupportedCheckpoint    complete, but nothing we embed → `unsupported`
│       ├── BaseNotFound     the base is not declared, or nobody told us where it is
│       └── BaseMismatch     the declared base does not fit the weights; becomes a `wrong_base` finding
├── EmbeddingError           the forward pass failed or gave numbers that are not finite
├── Shortage                 this machine has too little memory, disk or time for a version → `waiting`
├── AnalysisError            there is too little, or too much, to answer a question from
├── GovernanceError          a rule about findings and people says no
│   ├── AccessDenied         this person may not
│   ├── IllegalStep          a finding that stands where it does can't become that
│   └── ChangedMeanwhile     somebody else, or a new measurement, was first: look again
├── ExamplesError            examples of a task can't be read
├── RegistryError            MLflow
├── StoreError               Postgres
├── SchedulerError           Prefect
├── ChannelError             a notification was not taken
└── StackError               a child process of the embedded stack
"""

from enum import StrEnum
from typing import Any


class Resource(StrEnum):
    """What settings and machines bound."""

    MEMORY = "memory"
    DISK = "disk"
    TIME = "time"


class DeltadexError(Exception):
    """An error with a next step.

    Parameters
    ----------
    message
        What went wrong, with which object, and which value.
    hint
        What the reader can do about it.
    retryable
        Whether the same call may succeed later without anybody changing anything.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword-only parts when an error crosses a process border."""
        named = {name: value for name, value in vars(self).items() if name != "message"}
        return (_rebuild, (type(self), self.message, named))


def _rebuild(cls: type[DeltadexError], message: str, named: dict[str, Any]) -> DeltadexError:
    return cls(message, **named)


class SettingsError(DeltadexError):
    """A setting is missing or wrong."""


class CheckpointError(DeltadexError):
    """Something about the checkpoint's own files."""


class BrokenCheckpoint(CheckpointError):
    """Files are truncated, empty or contradict each other."""


class UnsupportedCheckpoint(CheckpointError):
    """A complete artifact that Deltadex does not embed."""


class BaseNotFound(UnsupportedCheckpoint):
    """No base is declared, or the declared one cannot be located."""


class BaseMismatch(UnsupportedCheckpoint):
    """The declared base does not fit the finetune's weights.

    Parameters
    ----------
    measure, threshold
        The relative distance of the weights and the one from which models are strangers; None where names or shapes
        tell already.
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


class AnalysisError(DeltadexError):
    """There is too little, or too much, to answer a question from."""


class EmbeddingError(DeltadexError):
    """The forward pass failed."""


class Shortage(DeltadexError):
    """A version needs more than this machine may give it; it waits for one that has more.

    Parameters
    ----------
    resource
        What there is too little of.
    more_than
        In bytes or seconds: what was not enough.
    """

    def __init__(
        self, message: str, *, resource: Resource, more_than: float, hint: str = "", retryable: bool = False
    ) -> None:
        super().__init__(message, hint=hint, retryable=retryable)
        self.resource = Resource(resource)
        self.more_than = more_than


class GovernanceError(DeltadexError):
    """A rule about findings and people says no."""


class AccessDenied(GovernanceError):
    """A person may not do that, or nobody knows who it is."""


class IllegalStep(GovernanceError):
    """A finding that stands where it does can't become that."""


class ChangedMeanwhile(GovernanceError):
    """The finding is not what the person saw any more."""


class ExamplesError(DeltadexError):
    """Examples of a task are missing, malformed, too many or too long."""


class RegistryError(DeltadexError):
    """MLflow refused or could not be reached."""


class StoreError(DeltadexError):
    """Postgres refused or could not be reached."""


class SchedulerError(DeltadexError):
    """Prefect refused or could not be reached."""


class ChannelError(DeltadexError):
    """A channel for notifications did not take a message."""


class StackError(DeltadexError):
    """A service of the embedded stack did not start or stop."""
