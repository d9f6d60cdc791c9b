"""The list of all kinds of witnesses, and the witnesses of the settings."""

from __future__ import annotations

from deltadex.settings import Settings
from deltadex.witness.channel import ChannelWitness
from deltadex.witness.folder import FolderWitness
from deltadex.witness.git import GitWitness
from deltadex.witness.kinds import Witness, WitnessKind, opened
from deltadex.witness.objects import BucketWitness
from deltadex.witness.run import RunWitness
from deltadex.witness.time_stamp import TimeStampWitness

#: Authorities of time stamps first: their stamps go with the head to all others.
KINDS = (
    WitnessKind(("tsa+https", "tsa+http"), ("ca",), TimeStampWitness),
    WitnessKind(("folder",), (), FolderWitness),
    WitnessKind(("s3",), ("days", "mode"), BucketWitness),
    WitnessKind(("git+https", "git+ssh", "git+http", "git+file"), ("branch",), GitWitness),
    WitnessKind(("notify",), (), ChannelWitness),
    WitnessKind(("mlflow",), (), RunWitness),
)


def witnesses_of(settings: Settings) -> list[Witness]:
    """Return the witnesses of the settings, authorities of time stamps first; raises SettingsError as `opened`."""
    found = opened(KINDS, settings)
    return sorted(found, key=lambda witness: not isinstance(witness, TimeStampWitness))
