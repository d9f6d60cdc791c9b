"""Training digests and settings, read from real runs."""

from __future__ import annotations

from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, Metric, Param
from peft import LoraConfig
from transformers import TrainingArguments

from deltadex.registry.client import Registry
from deltadex.registry.training_metadata import provenance_of, training_settings
from deltadex.types import Provenance
from tests.stored import registered


def provenance(registry: Registry, parameters: dict[str, str], *, data: str | None = None) -> Provenance:
    run = registry.client.create_run("0")
    parameters_ = [Param(name, value) for name, value in parameters.items()]
    metrics = [Metric("loss", 0.5, 1, 0), Metric("loss", 0.25, 2, 1), Metric("bad", float("nan"), 1, 0)]
    registry.client.log_batch(run.info.run_id, metrics=metrics, params=parameters_)
    if data:
        dataset = MetaDataset(HTTPDatasetSource(f"http://data/{data}"), name=data)
        registry.client.log_inputs(run.info.run_id, [DatasetInput(dataset._to_mlflow_entity())])
    return provenance_of(registry.find_run(run.info.run_id), weights_bytes=7)


def test_only_the_seed_and_the_output_location_may_differ(registry: Registry) -> None:
    same = {"dataset": "sql-1", "lr": "1e-4"}
    one = provenance(registry, {**same, "seed": "1", "output_dir": "/a"})
    assert one.training_digest
    assert (one.weights_bytes, one.metrics) == (7, {"loss": 0.25})
    assert provenance(registry, {**same, "seed": "2", "data_seed": "3"}).training_digest == one.training_digest
    for other in ({**same, "lr": "2e-4"}, {**same, "dataset": "sql-2"}):
        assert provenance(registry, other).training_digest != one.training_digest


def test_a_run_without_training_data_has_no_digest(registry: Registry) -> None:
    about_loading = {"lr": "1e-4", "dataloader_num_workers": "4", "dataset_text_field": "text", "data_seed": "1"}
    assert provenance(registry, about_loading).training_digest is None
    for name in ("train_dataset", "dataset_name", "data.train_file", "corpus"):
        assert provenance(registry, {**about_loading, name: "x"}).training_digest
    logged = provenance(registry, {"lr": "1e-4"}, data="contracts")
    assert logged.training_digest
    assert provenance(registry, {"lr": "1e-4"}, data="statutes").training_digest != logged.training_digest


def test_a_version_without_a_run_or_whose_run_is_gone_has_only_its_size(registry: Registry) -> None:
    for run_id in (None, "0" * 32):
        assert provenance_of(registry.run_of(registered(run_id=run_id)), weights_bytes=None) == Provenance()


def test_settings_are_read_as_transformers_and_peft_log_them(registry: Registry) -> None:
    arguments = TrainingArguments(learning_rate=2e-4, num_train_epochs=2).to_dict()
    logged = {name: str(value)[:500] for name, value in arguments.items() if value not in (None, "")}
    adapter = {name: str(value) for name, value in LoraConfig(r=16, lora_alpha=32).to_dict().items()}
    found = provenance(registry, {**logged, **adapter, "template": "alpaca", "num_examples": "1200"})
    assert found.settings == {
        "learning_rate": 2e-4, "rank": 16.0, "epochs": 2.0, "examples": 1200.0, "template": "alpaca",
    }  # fmt: skip
    assert training_settings({**logged, "max_steps": "100"}) == {"learning_rate": 2e-4}
    whole = LoraConfig(r=16, lora_alpha=32)
    for config in (str({"default": whole}), str({"default": whole.to_dict()})):
        assert training_settings({"peft_config": config}) == {"rank": 16.0}


def test_the_shorter_name_takes_precedence_and_unset_values_are_ignored() -> None:
    assert training_settings({"teacher.learning_rate": "1", "sft/lr": "3e-4", "learning_rate": "1e-4"}) == {
        "learning_rate": 1e-4
    }
    assert training_settings({"optimizer.lr": "3e-4"}) == {"learning_rate": 3e-4}
    nothing = {"learning_rate": "cosine", "r": "0", "epochs": "-1", "chat_template": "None", "lr": "nan", "radius": "3"}
    assert training_settings(nothing) == {}
    long = training_settings({"chat_template": "{% for message in messages %}" * 50})
    assert len(str(long["template"])) == 64


def test_what_a_run_logged_is_kept_by_parts_and_within_bounds(registry: Registry) -> None:
    found = provenance(
        registry, {"train_file": "a.jsonl", "lr": "1e-4", "seed": "1", "prompt": "x" * 5000}, data="contracts"
    ).logged
    assert found["data"].keys() == {"data set, training", "train_file"}
    assert found["data"]["data set, training"].startswith("contracts (")
    assert found["code"] == {}
    assert found["parameters"].keys() == {"lr", "prompt"}
    assert len(found["parameters"]["prompt"]) == 200
    longer = provenance(registry, {"prompt": "x" * 5001}).logged
    assert longer["parameters"]["prompt"] != found["parameters"]["prompt"]
