"""Steps of approved retirements, as commands of MLflow's own client. Deltadex deletes nothing. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deltadex.duplicates.keeper import deployed_by
from deltadex.reviews.lifecycle import Status
from deltadex.reviews.queries import ReviewRow
from deltadex.types import STAGE_TAG, VersionRow


@dataclass(frozen=True)
class Task:
    """One step of a retirement.

    Attributes
    ----------
    version
        `name/version`.
    what
        The step in words.
    command
        A line of Python with `client = mlflow.MlflowClient()`; empty if the step is done.
    """

    version: str
    what: str
    command: str = ""

    @property
    def is_done(self) -> bool:
        """True if nothing is left to do."""
        return not self.command


def checklist(row: ReviewRow, deployed_tags: Sequence[str]) -> list[Task]:
    """Return the steps of an approved retirement, those that are done included; none for any other finding.

    Once the versions are deleted or archived in MLflow, the finding closes by itself.
    """
    if row.review.status is not Status.ACCEPTED or not row.is_retiring:
        return []
    targets = [(one.id, one.version) for one in row.plan.targets] or [(row.version.id, row.version.label)]
    there = {version.id: version for version in row.versions if version.is_active}
    return [
        task
        for each, label in targets
        for task in (_tasks(there[each], deployed_tags) if each in there else [Task(label, "deleted or archived")])
    ]


def _tasks(version: VersionRow, deployed_tags: Sequence[str]) -> Iterator[Task]:
    name, number = version.registered.ref.name, str(version.registered.ref.version)
    for alias in version.registered.aliases:
        command = f"client.delete_registered_model_alias({name!r}, {alias!r})"
        yield Task(version.label, f"move the alias {alias}, or delete it", command)
    for key in deployed_by(version, deployed_tags):
        if key != STAGE_TAG:
            command = f"client.delete_model_version_tag({name!r}, {number!r}, {key!r})"
            yield Task(version.label, f"end the deployment that the tag {key} tells of, and remove the tag", command)
    yield Task(version.label, "delete it, or archive it", f"client.delete_model_version({name!r}, {number!r})")
