"""What a version's run says about how it was made."""

from __future__ import annotations

import hashlib
import json
import math
import re

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from deltadex.domain import Provenance, RegisteredVersion
from deltadex.mlflow_edge.connection import is_missing, registry_errors
from deltadex.mlflow_edge.registry import Registry

#: Parts of the names of parameters that differ between reseeds of the same data: seeds, and where and under what name
#: a run was kept.
_INCIDENTAL = ("seed", "output_dir", "logging_dir", "run_name", "local_rank", "resume_from")
#: Parameters that say what a model was trained on; trainers log many about how data are loaded, which don't.
_DATA = re.compile(
    r"(.*[._])?(dataset|data|corpus|train(ing)?_(data|file|files))"
    r"(_(name|path|dir|id|file|files|version|revision|digest|config|split))?"
)


def read_provenance(registry: Registry, version: RegisteredVersion, *, weights_bytes: int | None) -> Provenance:
    """Read the metrics of a version's run, and what reseeds of the same data have in common."""
    run = None if version.run_id is None else _run(registry, version.run_id)
    if run is None:
        return Provenance(weights_bytes)
    metrics = {name: float(value) for name, value in run.data.metrics.items() if math.isfinite(value)}
    return Provenance(weights_bytes, _training_digest(run), metrics)


def _run(registry: Registry, run_id: str) -> Run | None:
    with registry_errors(f"reading run {run_id}"):
        try:
            return registry.client.get_run(run_id)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise


def _training_digest(run: Run) -> str | None:
    """Return a digest of parameters and data sets; None where neither says what the data were."""
    parameters = {
        name: value for name, value in run.data.params.items() if not any(part in name.lower() for part in _INCIDENTAL)
    }
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = sorted(f"{one.dataset.name}@{one.dataset.digest}" for one in inputs)
    if not data and not any(_DATA.fullmatch(name.lower()) for name in parameters):
        return None
    content = json.dumps([parameters, data], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
