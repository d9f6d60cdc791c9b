"""Sketches of weights: the same places in all models of one layout, and bounded in size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.checkpoints.sketch import Sketch, sketch
from deltadex.downloads.files import LocalFiles
from tests.tiny_models import ALL_LINEAR, build_adapter, build_base, build_full_finetune, gpt2_config, load


def checkpoint(folder: Path) -> LocalCheckpoint:
    found = inspect(LocalFiles(folder)).fetch()
    assert isinstance(found, LocalCheckpoint)
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_base(tmp_path_factory.mktemp("base"))


def sketched(folder: Path, base: Path) -> Sketch:
    found = sketch(checkpoint(folder), checkpoint(base))
    assert found is not None
    return found


def test_a_merged_adapter_has_the_updates_of_the_adapter(base: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    adapter = build_adapter(base, tmp_path / "adapter", targets=ALL_LINEAR)
    PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload().save_pretrained(tmp_path / "merged")
    one, other = sketched(adapter, base), sketched(tmp_path / "merged", base)
    assert one.layout == other.layout
    assert np.array_equal(one.base, other.base)
    np.testing.assert_allclose(one.deltas, other.deltas, atol=1e-6)
    assert one.is_adapter
    assert not other.is_adapter


def test_a_model_saved_as_another_class_has_the_same_layout(base: Path, tmp_path: Path) -> None:
    load(base).model.save_pretrained(tmp_path / "inner")
    one, other = sketched(tmp_path / "inner", base), sketched(base, base)
    assert one.layout == other.layout
    assert not one.deltas.any()
    twin = build_base(tmp_path / "twin", seed=1)
    assert sketched(twin, twin).layout == one.layout
    assert not np.array_equal(sketched(twin, twin).base, one.base)


def test_sketches_are_stored_whole_and_in_part(base: Path, tmp_path: Path) -> None:
    one = sketched(build_adapter(base, tmp_path / "adapter", targets=ALL_LINEAR), base)
    for each in (one, one.coarse(), sketched(build_full_finetune(base, tmp_path / "full"), base)):
        again = Sketch.from_bytes(each.layout, each.to_bytes())
        for name in ("base", "deltas", "modules", "down", "up"):
            assert np.array_equal(getattr(again, name), getattr(each, name))
    assert len(one.coarse().to_bytes()) < 6_000
    assert len(one.to_bytes()) < 100_000
    with pytest.raises(ValueError, match="other lengths"):
        Sketch.from_bytes("x", one.to_bytes()[:-4])


def test_what_is_no_plain_sum_has_no_sketch(base: Path, tmp_path: Path) -> None:
    dora = build_adapter(base, tmp_path / "dora", use_dora=True)
    assert sketch(checkpoint(dora), checkpoint(base)) is None
    other = build_base(tmp_path / "gpt2", config=gpt2_config())
    assert sketch(checkpoint(other), checkpoint(base)) is None


def test_an_adapter_of_transposed_matrices_is_sampled_as_it_is_added(tmp_path: Path) -> None:
    from peft import PeftModel

    base = build_base(tmp_path / "gpt2", config=gpt2_config())
    adapter = build_adapter(base, tmp_path / "adapter", targets=("c_attn",), fan_in_fan_out=True)
    PeftModel.from_pretrained(load(base), str(adapter)).merge_and_unload().save_pretrained(tmp_path / "merged")
    one, other = sketched(adapter, base), sketched(tmp_path / "merged", base)
    np.testing.assert_allclose(one.deltas, other.deltas, atol=1e-6)
    assert one.deltas.any()
