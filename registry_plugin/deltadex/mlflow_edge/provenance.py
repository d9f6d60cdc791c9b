"""What a version's run says about how it was made."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping

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
#: What settings are called in runs, the usual name first: transformers and TRL log all training arguments, PEFT its
#: config, others a few of their own; the part behind the last `.` or `/`.
_NUMBERS = {
    "learning_rate": ("learning_rate", "lr", "base_lr"),
    "rank": ("r", "lora_r", "lora_rank", "rank"),
    "epochs": ("num_train_epochs", "num_epochs", "epochs", "n_epochs", "max_epochs"),
    "examples": ("examples", "num_examples", "n_examples", "num_train_examples", "train_examples", "train_size"),
}
_TEMPLATES = ("template", "prompt_template", "chat_template", "prompt_format", "prompt_style")
#: Where it is positive, transformers stops there, whatever its epochs say.
_MOST_STEPS = "max_steps"
#: As `str` writes a `peft.LoraConfig` that was logged whole.
_RANK_IN_CONFIG = re.compile(r"['\"]?\br['\"]?\s*[=:]\s*(\d+)")
_CONFIGS = ("peft_config", "lora_config")
_TEMPLATE_LETTERS = 200


def read_provenance(registry: Registry, version: RegisteredVersion, *, weights_bytes: int | None) -> Provenance:
    """Read the metrics and settings of a version's run, and what reseeds of the same data have in common."""
    run = None if version.run_id is None else _run(registry, version.run_id)
    if run is None:
        return Provenance(weights_bytes)
    metrics = {name: float(value) for name, value in run.data.metrics.items() if math.isfinite(value)}
    return Provenance(weights_bytes, _training_digest(run), metrics, training_settings(run.data.params))


def training_settings(parameters: Mapping[str, str]) -> dict[str, float | str]:
    """Return the training settings among a run's parameters, by the names that `Provenance` calls them.

    A number that is not positive says nothing: transformers logs 0 and -1 for what is not set.
    """
    # Of `learning_rate` and `teacher.learning_rate`, the shorter one is the model's own.
    logged = {
        re.split(r"[./]", name)[-1].lower(): parameters[name] for name in sorted(parameters, key=len, reverse=True)
    }
    found: dict[str, float | str] = {}
    for name, aliases in _NUMBERS.items():
        number = next((value for alias in aliases if (value := _positive(logged.get(alias, "")))), None)
        if number is not None:
            found[name] = number
    in_config = _RANK_IN_CONFIG.search(" ".join(logged.get(name, "") for name in _CONFIGS))
    if in_config:
        found.setdefault("rank", float(in_config[1]))
    if _positive(logged.get(_MOST_STEPS, "")):
        found.pop("epochs", None)
    template = next((logged[alias] for alias in _TEMPLATES if logged.get(alias, "None") not in ("", "None")), None)
    if template is not None:
        found["template"] = template if len(template) <= _TEMPLATE_LETTERS else _digest(template)
    return found


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    return _digest(content)
