"""Supported adapter types: loading onto an unchanged base, and shape checks."""

import json
from pathlib import Path

import peft
import pytest
import torch
from peft import PeftModel

from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.fit import check_fit
from deltadex.checkpoints.inspect import Checkpoint, Kind, LocalCheckpoint, chain, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BaseMismatch, UnsupportedCheckpoint
from tests import many_models, tiny_models


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.build_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def other(base: Path) -> Path:
    config = tiny_models.llama_config(hidden_size=48, num_hidden_layers=3, intermediate_size=80)
    return tiny_models.build_base(base.parent / "other", config=config)


@pytest.fixture(scope="module")
def adapters(base: Path) -> dict[str, Path]:
    return {kind: many_models.build_adapter(kind, base, base.parent / kind) for kind in many_models.ADAPTERS}


@pytest.mark.parametrize("kind", many_models.ADAPTERS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peft_loads_every_accepted_type_without_touching_the_base(
    kind: str, base: Path, adapters: dict[str, Path]
) -> None:
    model = tiny_models.load(base)
    before = {name: (parameter, parameter.detach().clone()) for name, parameter in model.named_parameters()}
    adapted = PeftModel.from_pretrained(model, adapters[kind])
    after = set(map(id, adapted.parameters()))
    assert all(id(parameter) in after for parameter, _ in before.values())
    assert all(torch.equal(parameter, value) for parameter, value in before.values())


@pytest.mark.parametrize("kind", many_models.ADAPTERS)
def test_an_adapter_of_any_type_fits_its_base_and_no_model_of_another_shape(
    kind: str, base: Path, other: Path, adapters: dict[str, Path]
) -> None:
    adapter = local(adapters[kind])
    fit = check_fit(adapter, local(base))
    assert adapter.kind is Kind.ADAPTER
    assert fit.modules > 0 or kind in ("prompt", "prefix", "projected prefix", "p-tuning")
    if kind == "oft, one block":  # a shared block does not determine the number of blocks
        return
    with pytest.raises(BaseMismatch):
        check_fit(adapter, local(other))


def test_the_number_of_changed_modules_is_reported(base: Path, adapters: dict[str, Path]) -> None:
    assert check_fit(local(adapters["lora"]), local(base)).modules == 4
    assert check_fit(local(adapters["norms"]), local(base)).modules == 5


def test_a_whole_module_in_an_adapter_is_compared_with_the_base(
    base: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    fit = check_fit(local(adapters["lora with its own head"]), local(base))
    assert fit.compared == 1
    assert fit.largest[0][0] == "lm_head.weight"
    unrelated = tiny_models.build_base(tmp_path / "unrelated", seed=5)
    with pytest.raises(BaseMismatch, match="weight distance"):
        check_fit(local(adapters["lora with its own head"]), local(unrelated))


@pytest.mark.parametrize(
    ("model", "task", "targets"),
    [
        ("T5ForConditionalGeneration", "SEQ_2_SEQ_LM", ["q", "v"]),
        ("BertForSequenceClassification", "SEQ_CLS", ["query", "value"]),
        ("BertForTokenClassification", "TOKEN_CLS", ["query", "value"]),
        ("BertModel", "FEATURE_EXTRACTION", ["query", "value"]),
        ("GPT2LMHeadModel", "CAUSAL_LM", ["c_attn"]),
        ("LlavaForConditionalGeneration", None, ["q_proj", "v_proj"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*fan_in_fan_out")
def test_an_adapter_for_any_task_fits_the_model_it_was_trained_on(
    model: str, task: str, targets: list[str], tmp_path: Path
) -> None:
    base = many_models.build_model(model, tmp_path / "base")
    config = peft.LoraConfig(r=4, target_modules=targets, task_type=task)
    many_models.attach(many_models.load(model, base), config).save_pretrained(tmp_path / "adapter")
    assert check_fit(local(tmp_path / "adapter"), local(base)).modules >= 2


@pytest.mark.filterwarnings("ignore")  # transformers warns about new heads
def test_an_adapter_with_a_new_head_fits_a_base_without_one(tmp_path: Path) -> None:
    base = many_models.build_model("BertForMaskedLM", tmp_path / "base")
    model = many_models.load("BertForSequenceClassification", base)
    many_models.attach(model, peft.LoraConfig(target_modules=["query"], task_type="SEQ_CLS")).save_pretrained(
        tmp_path / "adapter"
    )
    assert check_fit(local(tmp_path / "adapter"), local(base)).modules == 2


@pytest.mark.parametrize("model", ["MixtralForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM"])
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_experts_fits_however_they_are_stored(model: str, tmp_path: Path) -> None:
    base = many_models.build_model(model, tmp_path / "base")
    config = peft.LoraConfig(
        r=2,
        target_modules=[],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        task_type="CAUSAL_LM",
    )
    many_models.attach(many_models.load(model, base), config).save_pretrained(tmp_path / "adapter")
    assert check_fit(local(tmp_path / "adapter"), local(base)).modules == 2
    with pytest.raises(BaseMismatch):
        check_fit(local(tmp_path / "adapter"), local(many_models.build_model("LlamaForCausalLM", tmp_path / "llama")))


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.filterwarnings("ignore:.*changes the base weights")
def test_an_adapter_that_changed_its_base_is_refused_until_converted(start: str, base: Path, tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, init_lora_weights=start, target_modules=["q_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(tiny_models.load(base), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "initial")
    model.peft_config["default"].init_lora_weights = start
    model.save_pretrained(tmp_path / "raw")
    with pytest.raises(UnsupportedCheckpoint, match=start) as caught:
        local(tmp_path / "raw")
    assert "path_initial_model_for_weight_conversion" in caught.value.hint
    model.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    assert check_fit(local(tmp_path / "converted"), local(base)).modules == 2


def inspected(folder: Path) -> Checkpoint:
    return inspect(LocalFiles(folder))


def test_an_adapter_on_top_of_another_has_the_base_of_the_lower_one(base: Path, adapters: dict[str, Path]) -> None:
    upper = inspected(tiny_models.build_adapter(base, base.parent / "upper", seed=9))
    lower = inspected(adapters["lora"])
    both = chain(upper, lower)
    assert both.declared_base == str(base)
    fetched = both.fetch()
    assert fetched.below == lower.fetch()
    assert check_fit(fetched, local(base)).modules == 4
    digests = [weights_digest(one) for one in (fetched, upper.fetch(), lower.fetch())]
    assert len(set(digests)) == 3


def test_a_lower_adapter_of_another_base_does_not_fit(base: Path, other: Path, adapters: dict[str, Path]) -> None:
    elsewhere = tiny_models.build_adapter(other, base.parent / "elsewhere")
    both = chain(inspected(adapters["lora"]), inspected(elsewhere)).fetch()
    with pytest.raises(BaseMismatch):
        check_fit(both, local(base))


@pytest.mark.parametrize(
    "kind", ["dora", "lora with its own head", "lora with new tokens", "loha", "ia3", "prompt", "norms"]
)
def test_only_additive_adapters_can_be_stacked(kind: str, adapters: dict[str, Path]) -> None:
    plain, special = inspected(adapters["lora"]), inspected(adapters[kind])
    for upper, lower in ((plain, special), (special, plain)):
        with pytest.raises(UnsupportedCheckpoint, match="only plain LoRA") as caught:
            chain(upper, lower)
        assert "Merge" in caught.value.hint


def test_a_third_adapter_of_a_chain_is_refused(adapters: dict[str, Path]) -> None:
    plain = inspected(adapters["lora"])
    with pytest.raises(UnsupportedCheckpoint, match="third"):
        chain(plain, chain(plain, plain))


def test_settings_of_non_lora_types_change_their_digest(adapters: dict[str, Path]) -> None:
    folder = adapters["loha"]
    before = weights_digest(local(folder))
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"alpha": 99}))
    assert weights_digest(local(folder)) != before
