import json
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltadex.checkpoints.inspect import Checkpoint, Kind, inspect
from deltadex.downloads.files import LocalFiles, inside
from deltadex.errors import (
    BrokenCheckpoint,
    CheckpointError,
    IncompleteCheckpoint,
    NoLanguageModel,
    UnsupportedCheckpoint,
)
from tests import tiny_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = tiny_models.build_base(folder / "base")
    tiny_models.build_adapter(base, folder / "adapter")
    tiny_models.build_full_finetune(base, folder / "sharded", max_shard_size="20KB")
    return folder


def inspect_folder(folder: Path) -> Checkpoint:
    return inspect(LocalFiles(folder))


def edit_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_a_plain_full_model_is_recognised_with_its_tokenizer(models: Path) -> None:
    local = inspect_folder(models / "base").fetch()
    assert local.kind is Kind.FULL
    assert local.folder == local.tokenizer_folder == models / "base"
    assert [file.name for file in local.weight_files] == ["model.safetensors"]


def test_a_plain_adapter_is_recognised_with_its_declared_base(models: Path) -> None:
    checkpoint = inspect_folder(models / "adapter")
    assert checkpoint.kind is Kind.ADAPTER
    assert checkpoint.declared_base == str(models / "base")
    assert checkpoint.fetch().tokenizer_folder is None


def test_all_shards_of_a_full_model_are_found(models: Path) -> None:
    local = inspect_folder(models / "sharded").fetch()
    assert len(local.weight_files) > 1
    assert set(local.weight_files) == set((models / "sharded").glob("*.safetensors"))


def test_a_model_one_folder_down_is_found(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "adapter", tmp_path / "final")
    (tmp_path / "notes.txt").write_text("see final")
    assert inspect_folder(tmp_path).fetch().folder == tmp_path / "final"


def test_a_trainers_intermediate_checkpoints_do_not_hide_the_final_one(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "adapter", tmp_path, dirs_exist_ok=True)
    shutil.copytree(models / "adapter", tmp_path / "checkpoint-500")
    assert inspect_folder(tmp_path).fetch().folder == tmp_path


def test_a_merged_model_with_a_stale_adapter_config_is_a_full_model(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    shutil.copy(models / "adapter" / "adapter_config.json", tmp_path)
    assert inspect_folder(tmp_path).kind is Kind.FULL


def test_the_model_card_of_a_full_finetune_declares_its_base(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    (tmp_path / "README.md").write_text("---\nbase_model: acme/base-7b\nlicense: mit\n---\n# A model\n")
    assert inspect_folder(tmp_path).declared_base == "acme/base-7b"


def test_only_what_is_needed_is_fetched(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    (tmp_path / "optimizer.pt").write_bytes(b"state")
    checkpoint = inspect_folder(tmp_path)
    assert "optimizer.pt" not in {*checkpoint.support_files, *checkpoint.weight_files}


def in_hub_cache(source: Path, folder: Path) -> Path:
    """The cache of the Hugging Face hub: files under their digests, and links to them."""
    snapshot, blobs = folder / "snapshots" / "0123abcd", folder / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, file in enumerate(sorted(source.iterdir())):
        shutil.copy(file, blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    return snapshot


def as_old_sentence_transformer(source: Path, folder: Path) -> Path:
    """The layout of sentence-transformers before 2.0."""
    shutil.copytree(source, folder / "0_Transformer")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (folder / "config.json").write_text('{"__version__": "0.3.8"}')
    return folder / "0_Transformer"


@pytest.mark.parametrize("lay_out", [in_hub_cache, as_old_sentence_transformer])
def test_the_only_folder_with_weights_is_the_model(models: Path, tmp_path: Path, lay_out) -> None:
    expected = lay_out(models / "base", tmp_path)
    assert inspect_folder(tmp_path).fetch().folder == expected


def test_shards_need_no_index_if_their_names_say_that_all_are_there(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-00001-of-00001.safetensors")
    assert inspect_folder(tmp_path).weight_files == ("model-00001-of-00001.safetensors",)


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def deep_config(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def config_without_fields(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def image_classifier(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["ViTForImageClassification"])


def wrong_types(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=7)


def speech(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["WhisperForConditionalGeneration"], is_encoder_decoder=True)


def arrays(folder: Path) -> None:
    empty(folder)
    (folder / "weights.npz").write_bytes(b"PK")


def distributed(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "rng_state_0.pth").write_bytes(b"no weights")
    (folder / "pytorch_model_fsdp_0").mkdir()
    (folder / "pytorch_model_fsdp_0" / "__0_0.distcp").write_bytes(b"x")


def shards_without_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def no_model(folder: Path) -> None:
    empty(folder)
    (folder / "results.csv").write_text("a,b")


def several_models(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        shutil.copy(folder / "config.json", folder / name)
    (folder / "config.json").unlink()


def pyfunc(folder: Path) -> None:
    empty(folder)
    (folder / "python_model.pkl").write_bytes(b"never opened")
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n")


def names_only(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors:\n  transformers:\n    source_model_name: acme/base-7b\n")


def broken_mlmodel(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors: [")


def climbing_mlmodel(folder: Path) -> None:
    (folder / "MLmodel").write_text("flavors:\n  transformers:\n    model_binary: ../secret\n")


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (empty, IncompleteCheckpoint, "holds no files"),
        (only_a_pickle, UnsupportedCheckpoint, "never opened"),
        (no_weights, IncompleteCheckpoint, "no weights"),
        (missing_shard, IncompleteCheckpoint, "lacks 2 of 2 weight files"),
        (broken_config, BrokenCheckpoint, "not valid JSON"),
        (deep_config, BrokenCheckpoint, "not valid JSON"),
        (config_without_fields, BrokenCheckpoint, "not a mapping"),
        (image_classifier, NoLanguageModel, "ViTForImageClassification"),
        (wrong_types, NoLanguageModel, "unknown"),
        (speech, NoLanguageModel, "WhisperForConditionalGeneration"),
        (arrays, UnsupportedCheckpoint, r"NumPy or MLX"),
        (distributed, UnsupportedCheckpoint, r"distributed checkpoint of torch"),
        (shards_without_index, IncompleteCheckpoint, r"model-00001-of-00002\.safetensors.*no index"),
        (no_model, NoLanguageModel, "results.csv"),
        (several_models, UnsupportedCheckpoint, "several models: one, two"),
        (pyfunc, NoLanguageModel, "python_function"),
        (names_only, UnsupportedCheckpoint, "acme/base-7b"),
        (broken_mlmodel, BrokenCheckpoint, "not valid YAML"),
        (climbing_mlmodel, NoLanguageModel, "no language model"),
    ],
)
def test_bad_folders_say_what_is_wrong_and_what_to_do(
    models: Path, tmp_path: Path, damage, error: type[CheckpointError], message: str
) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    damage(tmp_path)
    with pytest.raises(error, match=message) as caught:
        inspect_folder(tmp_path)
    assert type(caught.value) is error
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "XLORA"}, "XLORA"),
        ({"peft_type": ["LORA"]}, "LORA"),
        ({"task_type": "OF_TOMORROW"}, "OF_TOMORROW"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
    ],
)
def test_adapters_with_unsupported_settings_are_refused(
    models: Path, tmp_path: Path, changes: dict, message: str
) -> None:
    shutil.copytree(models / "adapter", tmp_path, dirs_exist_ok=True)
    edit_json(tmp_path / "adapter_config.json", **changes)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        inspect_folder(tmp_path)


def test_an_adapter_with_only_a_pickle_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "adapter", tmp_path, dirs_exist_ok=True)
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(UnsupportedCheckpoint, match=r"adapter_model\.bin.*never opened"):
        inspect_folder(tmp_path)


@pytest.mark.parametrize("place", ["", "q4", "data/model"])
def test_a_gguf_file_needs_no_config_beside_it(tmp_path: Path, place: str) -> None:
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / "README.md").write_text("---\nbase_model: acme/base-7b\n---\n")
    (tmp_path / place / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    found = inspect_folder(tmp_path)
    assert (found.kind, found.packed_by, found.root) == (Kind.FULL, "gguf", PurePosixPath(place))
    assert found.weight_files == (str(PurePosixPath(place) / "model-Q4_K_M.gguf"),)
    assert found.declared_base == (None if place else "acme/base-7b")


def test_safetensors_come_before_gguf_and_pickles(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    found = inspect_folder(tmp_path)
    assert (found.packed_by, found.weight_files) == (None, ("model.safetensors",))


def test_a_pickle_is_accepted_only_where_the_setting_says_so(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "base", tmp_path, dirs_exist_ok=True)
    only_a_pickle(tmp_path)
    found = inspect(LocalFiles(tmp_path), read_pickles=True)
    assert (found.packed_by, found.weight_files) == ("pickled", ("pytorch_model.bin",))


def test_a_missing_folder_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match="is not a folder"):
        inspect_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret", "a/../../secret", "..\\secret", ""])
def test_paths_never_leave_the_artifact(tmp_path: Path, path: str) -> None:
    with pytest.raises(BrokenCheckpoint, match="not a path inside"):
        inside(path)
    with pytest.raises(BrokenCheckpoint):
        LocalFiles(tmp_path).fetch([path])


def test_links_to_files_are_followed_as_the_hugging_face_cache_needs(models: Path, tmp_path: Path) -> None:
    for file in (models / "base").iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert inspect_folder(tmp_path).kind is Kind.FULL


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["LlamaForCausalLM", "LORA"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
_MODEL_FIELDS = ["architectures", "auto_map", "_name_or_path", "vocab_size", "weight_map", "base_model"]
_ADAPTER_FIELDS = ["peft_type", "task_type", "base_model_name_or_path"]
_MLMODEL_FIELDS = ["flavors", "transformers", "peft_adaptor", "model_binary", "source_model_name"]
_FIELDS = st.sampled_from([*_MODEL_FIELDS, *_ADAPTER_FIELDS, *_MLMODEL_FIELDS])
_CONFIGS = st.dictionaries(_FIELDS, _JSON | st.dictionaries(_FIELDS, _JSON, max_size=4), max_size=4)


@settings(max_examples=200)
@given(
    contents=st.dictionaries(
        st.sampled_from(["MLmodel", "config.json", "adapter_config.json", "model.safetensors.index.json"]),
        _CONFIGS | _JSON,
    ),
    weights=st.sets(st.sampled_from(["model.safetensors", "adapter_model.safetensors", "pytorch_model.bin"])),
    card=st.none() | st.text(max_size=20) | _CONFIGS.map(lambda front: f"---\n{json.dumps(front)}\n---\n"),
)
def test_any_file_content_gives_a_checkpoint_or_a_deltadex_error(
    contents: dict, weights: set[str], card: str | None
) -> None:
    with TemporaryDirectory() as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_text(json.dumps(content))
        for name in weights:
            (Path(folder) / name).touch()
        if card is not None:
            (Path(folder) / "README.md").write_text(card)
        with suppress(CheckpointError):
            inspect_folder(Path(folder)).fetch()
