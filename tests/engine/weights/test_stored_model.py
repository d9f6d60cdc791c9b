"""Sources of a model's tensors, and errors for checkpoints with missing ones."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deltadex.checkpoints.inspect import Kind, LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.errors import BrokenCheckpoint, UnsupportedCheckpoint
from deltadex.types import Embedding
from tests import language_models, many_models, tiny_models
from tests.language_models import Bases

LLAMA = "LlamaForCausalLM"
MIXTRAL = "MixtralForCausalLM"
GPT_OSS = "GptOssForCausalLM"
CPU = torch.device("cpu")
FLOAT8 = {"quant_method": "fp8", "weight_block_size": [16, 16], "modules_to_not_convert": ["lm_head"]}
FOUR_BITS = {
    "quant_method": "mxfp4",
    "modules_to_not_convert": [
        "model.layers.*.self_attn",
        "model.layers.*.mlp.router",
        "model.embed_tokens",
        "lm_head",
    ],
}

Tensors = dict[str, torch.Tensor]


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def unchecked(folder: Path) -> LocalCheckpoint:
    """A checkpoint without the checks of `inspect`, which refuses some by their config alone."""
    return LocalCheckpoint(Kind.FULL, folder, (folder / "model.safetensors",), folder)


def opened(base: Path) -> Base:
    return Base(BaseModel(local(base), "base", "float32"))


def rewritten(base: Path, folder: Path, change: Callable[[Tensors], Mapping[str, torch.Tensor]]) -> Path:
    """A copy of a model with other tensors."""
    shutil.copytree(base, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = change(load_file(base / "model.safetensors"))
    save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without(base: Path, folder: Path, *lost: str) -> Path:
    return rewritten(base, folder, lambda tensors: {n: t for n, t in tensors.items() if n not in lost})


def edit_config(folder: Path, **changes: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("name", language_models.MODELS)
def test_every_tensor_is_what_the_library_loads(name: str, bases: Bases) -> None:
    """Renamed, stacked, tied or unchanged: every parameter and buffer equals that of `from_pretrained`."""
    stored = StoredModel(local(bases(name)))
    expected = many_models.load(language_models.class_of(name), bases(name)).state_dict()
    assert not stored.missing
    assert expected.keys() == stored.origins.keys()
    for key, tensor in expected.items():
        assert torch.equal(stored.load(key), tensor), key


@pytest.mark.parametrize("name", [LLAMA, "Gemma3n", "DeepSeek-V3", "BertForMaskedLM"])
def test_a_skeleton_has_every_buffer_and_no_weight(name: str, bases: Bases, tmp_path: Path) -> None:
    def moved(tensors: Tensors) -> Tensors:
        return {n: t + 0.5 if "correction_bias" in n else t for n, t in tensors.items()}

    base = rewritten(bases(name), tmp_path, moved)
    stored = StoredModel(local(base))
    model, other = stored.new_model(CPU), stored.new_model(CPU)
    expected = dict(many_models.load(language_models.class_of(name), base).named_buffers())
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    for key, buffer in model.named_buffers():
        assert torch.equal(buffer, expected[key]), key
        buffer.zero_()
    for key, buffer in other.named_buffers():
        assert torch.equal(buffer, expected[key]), f"{key} is shared between skeletons"


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("tied Llama", "lm_head.weight", "model.embed_tokens.weight"),
        ("GPT2LMHeadModel", "lm_head.weight", "transformer.wte.weight"),
        ("BertForMaskedLM", "cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
        ("T5ForConditionalGeneration", "encoder.embed_tokens.weight", "shared.weight"),
        ("T5ForConditionalGeneration", "decoder.embed_tokens.weight", "shared.weight"),
    ],
)
def test_tied_parameters_come_from_one_tensor(name: str, one: str, other: str, bases: Bases) -> None:
    stored = StoredModel(local(bases(name)))
    assert stored.origins[one] is stored.origins[other]
    assert stored.load(one).data_ptr() == stored.load(other).data_ptr()


def test_tied_parameters_are_found_under_either_saved_name(bases: Bases, tmp_path: Path) -> None:
    base, kept = bases("tied Llama"), "lm_head.weight"
    full = rewritten(
        base, tmp_path, lambda ts: {kept if n == "model.embed_tokens.weight" else n: t for n, t in ts.items()}
    )
    stored = StoredModel(local(full))
    assert not stored.missing
    assert torch.equal(
        stored.load("model.embed_tokens.weight"), load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    )


def test_stacked_experts_come_from_all_of_their_tensors(bases: Bases) -> None:
    stored = StoredModel(local(bases(MIXTRAL)))
    gates = stored.origins["model.layers.0.mlp.experts.gate_up_proj"]
    assert sorted(tensor.name for tensor in gates.stored) == sorted(
        f"model.layers.0.block_sparse_moe.experts.{number}.{part}.weight"
        for number in range(4)
        for part in ("w1", "w3")
    )
    assert gates.nbytes == stored.load("model.layers.0.mlp.experts.gate_up_proj").nbytes


def quantized(name: str, base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder)
    rewrite = language_models.in_float8_blocks if name == LLAMA else language_models.in_four_bits
    language_models.quantize(folder, FLOAT8 if name == LLAMA else FOUR_BITS, rewrite)
    return folder


EXPERT = "model.layers.1.block_sparse_moe.experts.2.w1.weight"
MISFITS: Mapping[str, tuple[str, str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "a matrix on its side": (LLAMA, "model.layers.1.mlp.up_proj.weight", lambda t: t.T.contiguous()),
    "a flat matrix": (LLAMA, "model.layers.0.self_attn.q_proj.weight", lambda t: t.flatten()),
    "a short vector": (LLAMA, "model.norm.weight", lambda t: t[:-1].clone()),
    "a vector of one": (LLAMA, "model.norm.weight", lambda t: t[:1].clone()),
    "fewer rows than the config says": ("tied Llama", "model.embed_tokens.weight", lambda t: t[:-8].clone()),
    "an expert on its side": (MIXTRAL, EXPERT, lambda t: t.T.contiguous()),
    "an expert with fewer rows": (MIXTRAL, EXPERT, lambda t: t[:-1].clone()),
    "experts of one less": (GPT_OSS, "model.layers.0.mlp.experts.down_proj", lambda t: t[1:].clone()),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_shape_that_does_not_fit_is_broken(misfit: str, bases: Bases, tmp_path: Path) -> None:
    name, wrong, change = MISFITS[misfit]
    full = rewritten(bases(name), tmp_path, lambda ts: {n: change(t) if n == wrong else t for n, t in ts.items()})
    with pytest.raises(BrokenCheckpoint, match=r"1 tensors of .* do not fit its config, such as model\.") as caught:
        StoredModel(local(full))
    assert "save_pretrained" in caught.value.hint


@pytest.mark.parametrize("lost", ["_scales", "_blocks"])
def test_four_bit_experts_without_their_other_half_are_broken(lost: str, bases: Bases, tmp_path: Path) -> None:
    whole = quantized(GPT_OSS, bases(GPT_OSS), tmp_path / "whole")
    assert not StoredModel(local(whole)).missing
    folder = without(whole, tmp_path / "full", f"model.layers.0.mlp.experts.down_proj{lost}")
    with pytest.raises(BrokenCheckpoint, match=r"experts\.down_proj") as caught:
        StoredModel(local(folder))
    assert caught.value.hint


@pytest.mark.parametrize("all_of_them", [False, True])
def test_float8_blocks_without_their_scales_are_broken(all_of_them: bool, bases: Bases, tmp_path: Path) -> None:
    whole = quantized(LLAMA, bases(LLAMA), tmp_path / "whole")
    scales = sorted(name for name in load_file(whole / "model.safetensors") if name.endswith("scale_inv"))
    folder = without(whole, tmp_path / "full", *(scales if all_of_them else scales[:1]))
    ((_, outcome),) = opened(bases(LLAMA)).embed([Finetune(local(folder), "weights")])
    assert isinstance(outcome, BrokenCheckpoint)


#: Models, and prefixes of tensors that no hidden state depends on.
HEADS = {
    LLAMA: ("lm_head.",),
    "Qwen2": ("lm_head.",),
    "tied Llama": (),
    "GPT2LMHeadModel": (),
    MIXTRAL: ("lm_head.",),
    "BertForMaskedLM": ("cls.",),
    "T5ForConditionalGeneration": (),
    "MambaForCausalLM": (),
}
#: Missing tensors that do not yield NaN: torch's attention over one token returns 0, a buffer keeps its initial value,
#: and a grouped product refuses placeholders. Model and tensor.
HOLES = {
    "an attention over one token": ("BartForConditionalGeneration", "model.decoder.layers.0.self_attn.q_proj.weight"),
    "a buffer": ("DeepSeek-V3", "model.layers.1.mlp.gate.e_score_correction_bias"),
    "experts": (GPT_OSS, "model.layers.0.mlp.experts.down_proj"),
}


def _spread(tensor: torch.Tensor) -> torch.Tensor:
    """Some buffers are initialised with zeros: without this, a missing one would be right by chance."""
    return tensor + torch.linspace(0, 2, tensor.numel()).view_as(tensor)


def assert_broken(base: Base, full: Path, lost: str) -> None:
    ((_, outcome),) = base.embed([Finetune(local(full), "weights")])
    assert isinstance(outcome, BrokenCheckpoint), f"without {lost}: {outcome!r}"
    assert outcome.hint


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith("T5") else []) for name in HEADS]
)
def test_no_finetune_with_a_missing_tensor_is_embedded(name: str, bases: Bases, tmp_path: Path) -> None:
    engine = opened(bases(name))
    for lost in load_file(bases(name) / "model.safetensors"):
        full = without(bases(name), tmp_path, lost)
        if not lost.startswith(HEADS[name]):
            assert_broken(engine, full, lost)
            continue
        ((_, outcome),) = engine.embed([Finetune(local(full), "weights")])
        assert isinstance(outcome, Embedding)
        assert not outcome.probe_deltas.any()


@pytest.mark.parametrize("hole", HOLES)
def test_a_missing_tensor_that_yields_no_nan_is_refused_too(hole: str, bases: Bases, tmp_path: Path) -> None:
    name, lost = HOLES[hole]
    base = rewritten(bases(name), tmp_path / "base", lambda tensors: {**tensors, lost: _spread(tensors[lost])})
    assert_broken(opened(base), without(base, tmp_path / "full", lost), lost)


@pytest.mark.parametrize(
    "lost", ["model.norm.weight", "model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"]
)
def test_a_base_with_a_missing_tensor_is_broken(lost: str, bases: Bases, tmp_path: Path) -> None:
    base = without(bases(LLAMA), tmp_path / "base", lost)
    adapter = tiny_models.build_adapter(bases(LLAMA), tmp_path / "adapter")
    engine = opened(base)
    for _ in range(2):
        with pytest.raises(BrokenCheckpoint, match=lost) as caught:
            list(engine.embed([Finetune(local(adapter), "weights")]))
        assert caught.value.hint


def test_an_expert_that_is_missing_is_broken(bases: Bases, tmp_path: Path) -> None:
    with pytest.raises(BrokenCheckpoint, match=r"layers\.1\.mlp\.experts\.gate_up_proj"):
        StoredModel(local(without(bases(MIXTRAL), tmp_path, EXPERT)))


NO_TEXT = {
    "images": lambda: transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, architectures=["ViTModel"]
    ),
    "sound": lambda: transformers.WhisperConfig(
        d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        vocab_size=tiny_models.VOCABULARY, pad_token_id=0, architectures=["WhisperForConditionalGeneration"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", NO_TEXT)
def test_a_model_that_does_not_read_text_is_unsupported(what: str, bases: Bases, tmp_path: Path) -> None:
    shutil.copy(bases(LLAMA) / "model.safetensors", tmp_path)
    NO_TEXT[what]().save_pretrained(tmp_path)
    with pytest.raises(UnsupportedCheckpoint, match="not text") as caught:
        StoredModel(unchecked(tmp_path))
    assert caught.value.hint


CONFIGS = {
    "of an unknown type": {"model_type": "tomorrow"},
    "of a part for images": {"model_type": "clip_vision_model", "architectures": None},
    "without a type": {"model_type": None},
    "with an unknown activation": {"hidden_act": "tomorrow"},
}
#: Configs whose errors come directly from transformers.
SENSELESS = {
    "with words for numbers": {"hidden_size": "large"},
    "with no heads": {"num_attention_heads": 0},
    "with padding outside of the vocabulary": {"pad_token_id": 100_000},
}


def assert_unsupported(folder: Path, **changes: object) -> None:
    edit_config(folder, **changes)
    with pytest.raises(UnsupportedCheckpoint) as caught:
        StoredModel(unchecked(folder))
    assert caught.value.hint


@pytest.mark.parametrize("changes", CONFIGS)
def test_a_config_that_nothing_can_be_built_from_is_unsupported(changes: str, bases: Bases, tmp_path: Path) -> None:
    assert_unsupported(Path(shutil.copytree(bases(LLAMA), tmp_path / "full")), **CONFIGS[changes])


@pytest.mark.parametrize("changes", SENSELESS)
def test_an_invalid_config_is_unsupported(changes: str, bases: Bases, tmp_path: Path) -> None:
    assert_unsupported(Path(shutil.copytree(bases(LLAMA), tmp_path / "full")), **SENSELESS[changes])


def test_code_that_comes_with_a_checkpoint_is_never_run(bases: Bases, tmp_path: Path) -> None:
    folder, trace = Path(shutil.copytree(bases(LLAMA), tmp_path / "full")), tmp_path / "was_run"
    (folder / "modeling_own.py").write_text(f"open({str(trace)!r}, 'w')\nOwnConfig = OwnModel = object\n")
    own = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    edit_config(folder, model_type="own", auto_map=own, architectures=["OwnModel"])
    with pytest.raises(UnsupportedCheckpoint):
        StoredModel(unchecked(folder))
    assert not trace.exists()
