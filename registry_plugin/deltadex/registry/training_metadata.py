"""Training settings, metrics and data of a version's run."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from deltadex.escaping import storable
from deltadex.types import Provenance

#: Name parts of parameters that may differ between reseeds of one training: seeds, and names and folders of a run.
_IRRELEVANT = ("seed", "output_dir", "logging_dir", "run_name", "local_rank", "resume_from")
#: Parameters that name the training data, unlike the many that trainers log about data loading.
_DATA = re.compile(
    r"(.*[._])?(dataset|data|corpus|train(ing)?_(data|file|files))"
    r"(_(name|path|dir|id|file|files|version|revision|digest|config|split))?"
)
#: Aliases of numeric settings in runs, after the last `.` or `/`, most common first: transformers and TRL log all
#: training arguments, PEFT its config, other trainers a few parameters of their own.
_NUMBERS = {
    "learning_rate": ("learning_rate", "lr", "base_lr"),
    "rank": ("r", "lora_r", "lora_rank", "rank"),
    "epochs": ("num_train_epochs", "num_epochs", "epochs", "n_epochs", "max_epochs"),
    "examples": ("examples", "num_examples", "n_examples", "num_train_examples", "train_examples", "train_size"),
}
_TEMPLATES = ("template", "prompt_template", "chat_template", "prompt_format", "prompt_style")
#: If positive, transformers stops after this many steps and ignores the epochs.
_MAX_STEPS = "max_steps"
#: The rank in the `str` of a `peft.LoraConfig` that was logged as one parameter.
_RANK_IN_CONFIG = re.compile(r"['\"]?\br['\"]?\s*[=:]\s*(\d+)")
_CONFIGS = ("peft_config", "lora_config")
_MAX_TEMPLATE_CHARACTERS = 200
#: Tags by which MLflow records the code of a run.
_CODE = {"mlflow.source.git.commit": "commit", "mlflow.source.name": "program"}
#: Limits on what is kept of a run: others than its owner pay for the space.
_MOST_ENTRIES, _MOST_CHARACTERS = 200, 200


def provenance_of(run: Run | None, *, weights_bytes: int | None) -> Provenance:
    """Return the metrics, settings and training digest of a version's run."""
    if run is None:
        return Provenance(weights_bytes)
    metrics = {name: float(value) for name, value in run.data.metrics.items() if math.isfinite(value)}
    settings = training_settings(run.data.params)
    return Provenance(weights_bytes, _training_digest(run), metrics, settings, _logged(run))


def training_settings(parameters: Mapping[str, str]) -> dict[str, float | str]:
    """Return the training settings among a run's parameters, by the names of `Provenance.settings`.

    Numbers that are not positive are ignored: transformers logs 0 and -1 for unset values.
    """
    # Of `learning_rate` and `teacher.learning_rate`, the shorter name is the model's own.
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
    if _positive(logged.get(_MAX_STEPS, "")):
        found.pop("epochs", None)
    template = next((logged[alias] for alias in _TEMPLATES if logged.get(alias, "None") not in ("", "None")), None)
    if template is not None:
        found["template"] = template if len(template) <= _MAX_TEMPLATE_CHARACTERS else _digest(template)
    return found


def _logged(run: Run) -> dict[str, dict[str, str]]:
    """Return what a run logged about its training, each text cut to a bounded length."""
    data: dict[str, str] = {}
    for one in sorted(run.inputs.dataset_inputs if run.inputs else [], key=lambda one: str(one.dataset.name)):
        context = next((tag.value for tag in one.tags if tag.key == MLFLOW_DATASET_CONTEXT), "training")
        known = data.get(f"data set, {context}")
        data[f"data set, {context}"] = ", ".join(filter(None, (known, f"{one.dataset.name} ({one.dataset.digest})")))
    parameters = {name: value for name, value in run.data.params.items() if not _is_irrelevant(name)}
    data |= {name: value for name, value in parameters.items() if _DATA.fullmatch(name.lower())}
    found = {
        "data": data,
        "code": {name: run.data.tags[tag] for tag, name in _CODE.items() if tag in run.data.tags},
        "parameters": {name: value for name, value in parameters.items() if name not in data},
    }
    return {
        part: {_short(name): _short(values[name]) for name in sorted(values)[:_MOST_ENTRIES]}
        for part, values in found.items()
    }


def _short(text: str) -> str:
    """Return a text that Postgres can store, with a digest in place of its end if it is long."""
    text = storable(text)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 13]}…{_digest(text)[:12]}"


def _is_irrelevant(name: str) -> bool:
    return any(part in name.lower() for part in _IRRELEVANT)


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _training_digest(run: Run) -> str | None:
    """Return a digest of parameters and data sets; None if neither names the training data."""
    parameters = {name: value for name, value in run.data.params.items() if not _is_irrelevant(name)}
    inputs = run.inputs.dataset_inputs if run.inputs else []
    data = sorted(f"{one.dataset.name}@{one.dataset.digest}" for one in inputs)
    if not data and not any(_DATA.fullmatch(name.lower()) for name in parameters):
        return None
    content = json.dumps([parameters, data], sort_keys=True)
    return _digest(content)
