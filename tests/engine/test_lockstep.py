"""Passes in lockstep: results do not depend on neighbours or order, to the last bit."""

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.downloads.files import LocalFiles
from deltadex.engine.base_states import BaseStates
from deltadex.engine.delta import _ADAPTERS_PER_PASS, Base
from deltadex.engine.forward import Reader
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.readout import Prompts, Readout
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.weights.buffers import buffer_for
from deltadex.engine.weights.compute import Compute
from deltadex.engine.weights.stored_model import StoredModel
from deltadex.errors import DeltadexError
from deltadex.types import Embedding
from tests import language_models, many_models, tiny_models

LLAMA = "LlamaForCausalLM"
#: One adapter for each way to take part in a pass.
MIXED = (
    "lora", "dora", "ia3", "prompt", "prefix", "oft", "lora with norms of its own",
    "lora with embeddings and head of its own",
)  # fmt: skip
#: An adapter for each kind of model with an execution order of its own.
ELSEWHERE = (
    "lora of GPT-2", "lora of Mamba", "lora of Gemma3n", "lora of T5", "lora of BART", "lora of BERT",
    "lora of experts", "lora of tied embeddings", "prefix of Gemma2",
)  # fmt: skip
DTYPES = ("float32", "bfloat16")


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def opened(base: Path, dtype: str = "float32") -> Base:
    return Base(BaseModel(local(base), "base", dtype))


def reader(base: Path, dtype: str = "float32") -> Reader:
    prompts = Prompts.tokenize(AutoTokenizer.from_pretrained(base), PAPER_PROBES, Readout.LAST_TOKEN)
    return Reader(StoredModel(local(base)), prompts, buffer_for(Compute.resolve(dtype, "cpu")))


def embed(engine: Base, finetunes: Sequence[Path]) -> list[np.ndarray | DeltadexError]:
    outcomes = dict(engine.embed([Finetune(local(folder), folder.name) for folder in finetunes]))
    return [
        outcome.probe_deltas if isinstance(outcome, Embedding) else outcome
        for outcome in (outcomes[number] for number in range(len(finetunes)))
    ]


def alone(base: Path, finetune: Path, dtype: str = "float32") -> np.ndarray:
    (deltas,) = embed(opened(base, dtype), [finetune])
    assert isinstance(deltas, np.ndarray)
    assert np.linalg.norm(deltas) > 0
    return deltas


def assert_same_states(one: BaseStates, other: BaseStates) -> None:
    np.testing.assert_array_equal(one.states, other.states)
    assert len(one.after_layers) == len(other.after_layers) > 0
    for left, right in zip(one.after_layers, other.after_layers, strict=True):
        assert torch.equal(left, right)
    assert (one.order, one.noise_floor) == (other.order, other.noise_floor)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_models.build_model(LLAMA, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def mixed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("mixed")
    return [language_models.build_adapter(name, base, folder / name) for name in MIXED]


@pytest.fixture(scope="module")
def full(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return many_models.build_finetune(LLAMA, base, tmp_path_factory.mktemp("full"), strength=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_neighbours_and_their_order_change_no_bit(base: Path, mixed: list[Path], full: Path, dtype: str) -> None:
    finetunes = [*mixed[:4], full, *mixed[4:]]
    expected = [alone(base, one, dtype) for one in finetunes]
    engine = opened(base, dtype)
    for order in (range(9), reversed(range(9)), (4, 0, 8, 1, 7, 2, 6, 3, 5), (5, 2)):
        numbers = list(order)
        for number, deltas in zip(numbers, embed(engine, [finetunes[number] for number in numbers]), strict=True):
            np.testing.assert_array_equal(deltas, expected[number], err_msg=finetunes[number].name)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning")
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_neighbours_change_no_bit_on_any_kind_of_model(name: str, dtype: str, tmp_path: Path) -> None:
    base = language_models.build_model(language_models.model_of(name), tmp_path / "base")
    one = language_models.build_adapter(name, base, tmp_path / "one")
    other = moved(one, tmp_path / "other", by=1.1)
    full = many_models.build_finetune(
        language_models.class_of(language_models.model_of(name)), base, tmp_path / "full", strength=0.01
    )
    expected = [alone(base, folder, dtype) for folder in (one, other, full)]
    together = embed(opened(base, dtype), [other, full, one, other])
    for deltas, number in zip(together, (1, 2, 0, 1), strict=True):
        np.testing.assert_array_equal(deltas, expected[number])


def moved(adapter: Path, folder: Path, *, by: float) -> Path:
    """A copy of an adapter with every tensor scaled."""
    shutil.copytree(adapter, folder)
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * by for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    return folder


def test_splitting_adapters_into_several_passes_changes_no_bit(base: Path, mixed: list[Path]) -> None:
    expected = [alone(base, one) for one in mixed]
    numbers = [number % len(mixed) for number in range(3, 2 * _ADAPTERS_PER_PASS + 4)]
    together = embed(opened(base), [mixed[number] for number in numbers])
    for number, deltas in zip(numbers, together, strict=True):
        np.testing.assert_array_equal(deltas, expected[number])


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_base_is_the_same_to_the_bit_after_adapters_of_every_kind(base: Path, mixed: list[Path], dtype: str) -> None:
    assert_base_survives(base, mixed, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_base_is_the_same_to_the_bit_after_a_hundred_adapters(base: Path, tmp_path: Path, dtype: str) -> None:
    linear = tiny_models.ALL_LINEAR
    loras = [
        tiny_models.build_adapter(
            base, tmp_path / f"lora {seed}", seed=seed, targets={linear[seed % 7], linear[seed * 3 % 7]}
        )
        for seed in range(100 - len(MIXED))
    ]
    others = [language_models.build_adapter(name, base, tmp_path / name) for name in MIXED]
    assert_base_survives(base, [*loras[:46], *others, *loras[46:]], dtype)


def assert_base_survives(base: Path, adapters: list[Path], dtype: str) -> None:
    files = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in base.iterdir()}
    engine, fresh = reader(base, dtype), reader(base, dtype)
    before = engine.read_base()
    checkpoints: list[LocalCheckpoint | None] = [local(folder) for folder in adapters]
    middle = len(checkpoints) // 2
    results = engine.read([*checkpoints[:middle], None, *checkpoints[middle:]])
    assert not [result for result in results if isinstance(result, DeltadexError)]
    np.testing.assert_array_equal(results[middle], before.states)
    replace(engine, base=before).read(checkpoints)
    assert_same_states(engine.read_base(), before)
    assert_same_states(fresh.read_base(), before)
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in base.iterdir()} == files


def test_weights_are_mapped_without_the_right_to_write(base: Path, mixed: list[Path], full: Path) -> None:
    engine = opened(base)
    embed(engine, [*mixed, full])
    maps = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    rights = {fields[1] for fields in maps if len(fields) == 6 and fields[5].startswith(str(base))}
    assert rights
    assert all(right.startswith("r--") for right in rights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_numbers_of_threads_stay_within_the_noise_floor(tmp_path: Path, dtype: str) -> None:
    """For this shape; others are bitwise equal. Two runs may each differ by one noise floor from the exact states."""
    config = tiny_models.llama_config(hidden_size=500, intermediate_size=1900, head_dim=50)
    base = tiny_models.build_base(tmp_path / "base", config=config)
    finetunes = [
        tiny_models.build_adapter(base, tmp_path / "adapter"), tiny_models.build_full_finetune(base, tmp_path / "full")
    ]  # fmt: skip
    with threads(1):
        engine = opened(base, dtype)
        states, expected = engine.states(), embed(engine, finetunes)
    assert states.noise_floor > 0
    for count in (3, 4):
        with threads(count):
            engine = opened(base, dtype)
            found = [engine.states().states, *embed(engine, finetunes)]
        for one, other in zip(found, [states.states, *expected], strict=True):
            assert np.linalg.norm(one - other, axis=1).max() <= 2 * states.noise_floor * states.norm


@pytest.fixture(scope="module")
def failing(base: Path, mixed: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Adapters that fail in the forward pass, and one that fails before it."""
    folder = tmp_path_factory.mktemp("failing")
    narrow = tiny_models.build_base(folder / "narrow", config=tiny_models.llama_config(hidden_size=64, head_dim=16))
    heads = tiny_models.build_base(folder / "heads", config=tiny_models.llama_config(num_key_value_heads=4))
    return {
        "NaN": moved(mixed[0], folder / "NaN", by=float("nan")),
        "infinite": moved(mixed[1], folder / "infinite", by=float("inf")),
        "prompt of another width": language_models.build_adapter("prompt", narrow, folder / "prompt"),
        "prefix of other heads": language_models.build_adapter("prefix", heads, folder / "prefix"),
        "of another base": language_models.build_adapter("lora", narrow, folder / "lora"),
    }


@pytest.mark.parametrize("dtype", DTYPES)
def test_adapters_that_fail_in_the_forward_pass_stop_no_neighbour(
    base: Path, mixed: list[Path], failing: dict[str, Path], dtype: str
) -> None:
    expected = [alone(base, one, dtype) for one in mixed]
    bad = list(failing.values())
    outcomes = embed(opened(base, dtype), [*bad[:2], *mixed[:3], bad[2], *mixed[3:], *bad[3:]])
    assert all(isinstance(outcomes[number], DeltadexError) for number in (0, 1, 5, 11, 12))
    for number, deltas in zip((2, 3, 4, 6, 7, 8, 9, 10), expected, strict=True):
        np.testing.assert_array_equal(outcomes[number], deltas)


@pytest.mark.parametrize("name", ["NaN", "infinite", "prompt of another width", "prefix of other heads"])
def test_an_adapter_that_fails_in_the_forward_pass_fails_alike_alone(
    base: Path, failing: dict[str, Path], name: str
) -> None:
    engine = opened(base)
    states = engine.states().states.copy()
    (outcome,) = embed(engine, [failing[name]])
    assert isinstance(outcome, DeltadexError)
    assert outcome.hint
    (again,) = embed(engine, [base])
    assert isinstance(again, np.ndarray)
    assert not again.any()
    np.testing.assert_array_equal(reader(base).read_base().states, states)


def backbone_bytes(folder: Path) -> int:
    tensors = load_file(folder / "model.safetensors")
    return sum(t.nbytes for name, t in tensors.items() if not name.startswith(("lm_head", "model.embed_tokens")))


def bytes_read(engine: Base, finetunes: Sequence[Finetune]) -> list[tuple[str, int]]:
    read: list[tuple[str, int]] = []
    engine.states()
    outcomes = dict(engine.embed(finetunes, on_progress=lambda unit, count: read.append((unit, count))))
    assert all(isinstance(outcome, Embedding) for outcome in outcomes.values())
    return read


def test_each_units_weights_are_read_once_for_all_adapters(base: Path, mixed: list[Path]) -> None:
    """An adapter with its own head or embeddings reads no more of the base than the others."""
    assert_read_once(base, [folder for folder in mixed if "norms" not in folder.name])


def test_an_adapter_that_waits_for_fewer_units_does_not_run_ahead(base: Path, mixed: list[Path]) -> None:
    assert_read_once(base, mixed)


def assert_read_once(base: Path, adapters: Sequence[Path]) -> None:
    read = bytes_read(opened(base), [Finetune(local(folder), folder.name) for folder in adapters])
    assert set(Counter(unit for unit, _ in read).values()) == {1}
    assert sum(count for _, count in read) == backbone_bytes(base)
    assert not [unit for unit, _ in read if unit.startswith(("lm_head", "model.embed_tokens"))]


@pytest.mark.parametrize("name", ["tied Llama", "MixtralForCausalLM", LLAMA])
def test_a_full_finetune_is_read_once_without_head_and_embeddings(name: str, tmp_path: Path) -> None:
    base = language_models.build_model(name, tmp_path / "base")
    full = many_models.build_finetune(language_models.class_of(name), base, tmp_path / "full")
    read = bytes_read(opened(base), [Finetune(local(full), "full")])
    assert set(Counter(unit for unit, _ in read).values()) == {1}
    assert sum(count for _, count in read) == backbone_bytes(full)


def test_the_head_and_rows_of_tokens_that_no_probe_has_are_never_looked_at(
    full: Path, base: Path, tmp_path: Path
) -> None:
    ids = reader(base).prompts.ids
    tensors = load_file(full / "model.safetensors")
    unused = torch.ones(tiny_models.VOCABULARY, dtype=torch.bool).index_fill(0, ids.unique(), False)
    assert unused.any()
    tensors["model.embed_tokens.weight"][unused] = float("nan")
    tensors["lm_head.weight"].fill_(float("nan"))
    poisoned = Path(shutil.copytree(full, tmp_path / "poisoned"))
    save_file(tensors, poisoned / "model.safetensors")
    np.testing.assert_array_equal(alone(base, poisoned), alone(base, full))
