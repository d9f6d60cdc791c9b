"""Registration of the demo company through the ordinary MLflow API. Needs torch and MLflow."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as RegisteredVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from deltadex.demo import training
from deltadex.demo.company import Company, CompanyInTraining, Model, Progress
from deltadex.demo.specification import BASE_MODELS, Method, ModelVersion, Packaging
from deltadex.errors import RegistryError
from deltadex.types import DEMO_REGISTERED_TAG

EXPERIMENT = "acme-finetunes"
#: Tag of the registered bases with the name of the company.
COMPANY_TAG = "demo.company"
#: The weeks over which the registrations are spread. A chart of the last twelve has the first one in it on any day.
PAST = timedelta(weeks=11)

_ARTIFACT = "checkpoint"
#: Turns off MLflow's progress bars and links, which would mix with the demo's own bars.
_QUIET = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_NOT_FOUND = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)


def bases() -> dict[str, str]:
    """Return the URIs of the registered bases by the names that finetunes declare, for `DELTADEX_BASES`."""
    return {declared: f"models:/{name}/1" for declared, name in BASE_MODELS.items()}


def register(
    company: Company | CompanyInTraining, tracking_uri: str, *, progress: Progress = lambda *_: None
) -> list[tuple[str, int]]:
    """Register the models that are not registered yet, bases first; return every (name, version) of the company.

    Models of a company in training are registered as soon as they are trained. A tag of each version states a time in
    the past weeks; see `stated_time`.

    Raises
    ------
    RegistryError
        The registry holds a demo company of another size or seed.
    """
    registered: list[tuple[str, int]] = []
    total = len(company.bases) + company.count
    with _ordinary_client(tracking_uri), training.quiet():
        registrar = _Registrar(company, total)
        for declared, folder in company.bases.items():
            registered.append(registrar.base(declared, folder))
            progress("registering with MLflow", len(registered), total)
        for model in company.models:
            registered.append(registrar.finetune(model))
            progress("registering with MLflow", len(registered), total)
    return registered


def stated_time(number: int, total: int, *, now: datetime) -> datetime:
    """Return when a version was registered as the demo tells it: a few at first, then more each week.

    Parameters
    ----------
    number
        Place of the version in the order of registration, from 1 to `total`.
    """
    return now - PAST * (1 - math.pow((number - 1) / max(1, total - 1), 0.7))


class _Registrar:
    """Registers the models of one company, each with its own run."""

    def __init__(self, company: Company | CompanyInTraining, total: int) -> None:
        self._company, self._total, self._now = company, total, datetime.now(UTC)
        self._seen = 0
        self._client = MlflowClient()
        found = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment = found.experiment_id if found else self._client.create_experiment(EXPERIMENT)

    def base(self, declared: str, folder: Path) -> tuple[str, int]:
        name, tags = BASE_MODELS[declared], {"stage": "production", COMPANY_TAG: self._company.name}
        self._seen += 1
        existing = self._find(name, 1)
        if existing is None:
            with self._run(name, tags):
                self._create(name, _log(folder), tags=tags, description=f"Finetunes declare it as {declared}.")
        elif existing.tags.get(COMPANY_TAG) != self._company.name:
            raise RegistryError(
                f"This registry holds another demo company: {name}/1 has the tag {COMPANY_TAG}="
                f"{existing.tags.get(COMPANY_TAG)}, expected {self._company.name}",
                hint="Give each demo its own data folder (--data-dir), or delete this one.",
            )
        return name, 1

    def finetune(self, model: Model) -> tuple[str, int]:
        version = model.version
        self._seen += 1
        if self._find(version.name, version.version) is None:
            with self._run(f"{version.name}-v{version.version}", _tags(version)):
                _log_training(model)
                if version.packaging is Packaging.LOGGED_MODEL:
                    info = self._log_model(model)
                    source, model_id = info.model_uri, info.model_id
                else:
                    source, model_id = _log(model.folder), None
                self._create(
                    version.name, source, model_id=model_id, tags=_tags(version), description=version.description
                )
            if version.champion:
                self._client.set_registered_model_alias(version.name, "champion", str(version.version))
        return version.name, version.version

    def _run(self, name: str, tags: dict[str, str]) -> mlflow.ActiveRun:
        return mlflow.start_run(experiment_id=self._experiment, run_name=name, tags=tags)

    def _log_model(self, model: Model) -> mlflow.models.model.ModelInfo:
        version, base = model.version, self._company.bases[model.version.declared_base]
        if version.method is Method.ADAPTER:
            trained, local_base = training.load_adapter(base, model.folder), str(base)
        else:
            trained, local_base = training.load_base(model.folder, dtype="auto"), None
            trained.name_or_path = version.declared_base  # not the local folder
        return mlflow.transformers.log_model(
            {"model": trained, "tokenizer": training.load_tokenizer(base)},
            name=version.name,
            task="text-generation",
            base_model_path=local_base,
            pip_requirements=["torch", "transformers", "peft"],  # inferring them starts a slow process
        )

    def _create(
        self, name: str, source: str, *, tags: dict[str, str], description: str, model_id: str | None = None
    ) -> None:
        """Create a version with its tags: `log_model` sets none, and `register_model` refuses plain folders."""
        stated = stated_time(self._seen, self._total, now=self._now)
        if not self._client.search_registered_models(f"name = '{name}'"):
            self._client.create_registered_model(name)
        self._client.create_model_version(
            name,
            source,
            run_id=mlflow.active_run().info.run_id,
            model_id=model_id,
            tags={**tags, DEMO_REGISTERED_TAG: stated.isoformat(timespec="seconds")},
            description=description or None,
        )

    def _find(self, name: str, version: int) -> RegisteredVersion | None:
        try:
            return self._client.get_model_version(name, str(version))
        except MlflowException as error:
            if error.error_code != _NOT_FOUND:
                raise
            return None


def _log(folder: Path) -> str:
    """Log a plain folder to the active run and return its URI."""
    mlflow.log_artifacts(str(folder), _ARTIFACT)
    return f"runs:/{mlflow.active_run().info.run_id}/{_ARTIFACT}"


def _log_training(model: Model) -> None:
    version = model.version
    dataset = f"{version.domain}-{version.part}"
    parameters = {"learning_rate": version.learning_rate, "init_lora_weights": version.init}
    logged = {name: value for name, value in parameters.items() if value}
    mlflow.log_params({"method": version.method, "dataset": dataset, "base": version.declared_base, **logged})
    if model.loss is not None:
        mlflow.log_metric("loss", model.loss)


def _tags(version: ModelVersion) -> dict[str, str]:
    domain, stage = version.stated_domain or version.domain, "production" if version.champion else "staging"
    tags = {"team": version.team, "domain": domain, "stage": stage}
    own = {"license": version.license, "synthetic": "true" if version.synthetic else None}
    return tags | {name: value for name, value in own.items() if value}


@contextmanager
def _ordinary_client(tracking_uri: str) -> Iterator[None]:
    """Point MLflow's client at a server; restore its settings afterwards."""
    previous_uri, environment, logger = mlflow.get_tracking_uri(), dict(os.environ), logging.getLogger("mlflow")
    level = logger.level
    mlflow.set_tracking_uri(tracking_uri)
    os.environ.update(_QUIET)
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow and peft warn about each other for every model
            yield
    finally:
        logger.setLevel(level)
        for name in _QUIET:
            os.environ.pop(name)
        os.environ.update({name: environment[name] for name in _QUIET.keys() & environment})
        mlflow.set_tracking_uri(previous_uri)
