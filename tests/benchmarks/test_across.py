"""The benchmark across bases: its cut base, its ways and its scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.real import sibling
from benchmarks.real.across_pools import INDEPENDENT, OURS, Read, finetunes_of, load, write
from benchmarks.real.across_scores import score
from benchmarks.real.across_ways import WAYS
from benchmarks.real.texts import Role
from deltadex.across.texts import MEANING_TEXTS
from tests import tiny_models


def read(base: str, *, hidden_size: int, noise: float) -> Read:
    """Finetunes whose domain shows in each reading, besides what the finetunes of the base share."""
    models = finetunes_of(base, Role.REUSE)
    names = sorted({one.domain for one in models})
    own = np.random.default_rng(hidden_size)

    def drawn(*size: int) -> np.ndarray:
        domains = np.random.default_rng(0).normal(size=(len(names), *size))
        made = np.array([domains[names.index(one.domain)] for one in models])
        return (made + own.normal(size=size) + noise * own.normal(size=made.shape)).astype(np.float32)

    content = drawn(20) @ np.eye(20, hidden_size, dtype=np.float32)
    states = np.random.default_rng(1).normal(size=(200, 20)) @ np.eye(20, hidden_size)
    readings = {"meaning": drawn(len(MEANING_TEXTS.texts), 4), "everywhere": drawn(1024), "content": content}
    return Read(models, readings, states.astype(np.float32))


def test_domains_that_show_are_found_and_noise_finds_what_chance_does() -> None:
    for name, way in WAYS.items():
        clear = [read(base, hidden_size=size, noise=0.1) for base, size in ((OURS, 24), (INDEPENDENT, 20))]
        found = score(way, *clear, Role.REUSE)
        assert found.both.value > 0.8, name
        assert len(found.both.hits) == len(found.there.hits) + len(found.back.hits)
        noisy = [read(base, hidden_size=size, noise=100) for base, size in ((OURS, 24), (INDEPENDENT, 20))]
        assert score(way, *noisy, Role.REUSE).both.value < 0.35, name


def test_a_query_is_never_compared_with_a_finetune_of_the_same_text() -> None:
    """All finetunes of one part are alike, whatever their domain."""
    one, other = (read(base, hidden_size=20, noise=0.0) for base in (OURS, INDEPENDENT))
    assert {each.part for each in one.models} < {each.part for each in other.models}
    assert score(WAYS["Delta Meaning"], one, other, Role.REUSE).there.value == 1


def test_readings_are_kept(tmp_path: Path) -> None:
    made = {OURS: read(OURS, hidden_size=20, noise=0.1)}
    write(tmp_path / "across.npz", made)
    found = load(tmp_path / "across.npz")
    assert found.keys() == {OURS}
    assert found[OURS].models == made[OURS].models
    np.testing.assert_array_equal(found[OURS].readings["meaning"], made[OURS].readings["meaning"])


def test_a_cut_model_still_computes_with_and_without_a_cache(tmp_path: Path) -> None:
    tiny_models.build_base(tmp_path, config=tiny_models.llama_config(num_hidden_layers=5))
    model = tiny_models.load(tmp_path).eval()
    sibling.cut(model, range(2, 4))
    assert len(model.model.layers) == model.config.num_hidden_layers == 3
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits[0, -1]
        before = model(input_ids=ids[:, :3], use_cache=True)
        after = model(input_ids=ids[:, 3:], past_key_values=before.past_key_values).logits[0, -1]
    torch.testing.assert_close(whole, after, rtol=1e-4, atol=1e-5)
    model.save_pretrained(tmp_path / "cut")
    again = tiny_models.load(tmp_path / "cut").eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(input_ids=ids).logits[0, -1], whole, rtol=1e-4, atol=1e-5)
