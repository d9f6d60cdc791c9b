"""Inspection and base checks on many kinds of models."""

from pathlib import Path

import pytest

from deltadex.checkpoints.digest import identical_tensors, weights_digest
from deltadex.checkpoints.fit import Fit, check_fit
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.errors import BaseMismatch
from tests import many_models


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def base_of(name: str, folder: Path) -> Path:
    path = folder / name
    return path if path.exists() else many_models.build_model(name, path)


@pytest.mark.parametrize("name", many_models.MODELS)
def test_a_finetune_of_any_model_fits_its_base_and_an_unrelated_one_does_not(
    name: str, folder: Path, tmp_path: Path
) -> None:
    base = local(base_of(name, folder))
    fit = check_fit(local(many_models.build_finetune(name, base.folder, tmp_path / "finetune")), base)
    assert base.kind is Kind.FULL
    assert fit.compared > fit.identical
    assert fit.largest[0][1] > 0
    unrelated = local(many_models.build_model(name, tmp_path / "unrelated", seed=9))
    with pytest.raises(BaseMismatch, match="weight distance") as caught:
        check_fit(unrelated, base)
    assert caught.value.measure is not None
    assert caught.value.threshold is not None
    assert caught.value.measure >= caught.value.threshold


@pytest.mark.parametrize("name", many_models.MODELS)
def test_a_copy_of_any_model_is_identical(name: str, folder: Path, tmp_path: Path) -> None:
    base = local(base_of(name, folder))
    copy = local(many_models.build_finetune(name, base.folder, tmp_path, strength=0, max_shard_size="20KB"))
    fit = check_fit(copy, base)
    assert len(copy.weight_files) > 1
    assert fit == Fit(fit.compared, fit.compared, fit.largest)
    assert identical_tensors(copy, base) == copy.tensors().keys()
    assert weights_digest(copy) == weights_digest(base)


@pytest.mark.parametrize(
    ("base", "finetune"),
    [
        ("LlamaForCausalLM", "LlamaForSequenceClassification"),
        ("LlamaForCausalLM", "LlamaForTokenClassification"),
        ("LlamaForCausalLM", "LlamaModel"),
        ("LlamaModel", "LlamaForCausalLM"),
        ("BertForMaskedLM", "BertForSequenceClassification"),
        ("BertForPreTraining", "BertForTokenClassification"),
        ("BertForMaskedLM", "BertModel"),
        ("BertModel", "BertForSequenceClassification"),
        ("BartForConditionalGeneration", "BartModel"),
        ("BartModel", "BartForConditionalGeneration"),
        ("T5ForConditionalGeneration", "T5EncoderModel"),
        ("LlavaForConditionalGeneration", "LlavaForConditionalGeneration"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # transformers warns about new heads
def test_a_model_with_another_head_fits_and_shares_its_body(
    base: str, finetune: str, folder: Path, tmp_path: Path
) -> None:
    below = local(base_of(base, folder))
    above = local(many_models.build_finetune(finetune, below.folder, tmp_path, strength=0))
    fit = check_fit(above, below)
    assert fit.identical == fit.compared > 0
    shared = identical_tensors(above, below)
    in_layers = {name for name in above.tensors() if any(part.isdigit() for part in name.split("."))}
    assert in_layers
    assert in_layers <= shared


@pytest.mark.parametrize(
    ("base", "finetune"),
    [
        ("LlamaForCausalLM", "BertForMaskedLM"),
        ("T5ForConditionalGeneration", "BartForConditionalGeneration"),
        ("LlamaForCausalLM", "MixtralForCausalLM"),
        ("BertForMaskedLM", "RobertaForMaskedLM"),
        ("BartForConditionalGeneration", "LlamaForCausalLM"),
        ("LlamaForCausalLM", "GptOssForCausalLM"),
    ],
)
def test_models_of_different_architectures_do_not_fit(base: str, finetune: str, folder: Path) -> None:
    with pytest.raises(BaseMismatch):
        check_fit(local(base_of(finetune, folder)), local(base_of(base, folder)))
