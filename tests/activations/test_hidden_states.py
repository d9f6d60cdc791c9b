from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from deltadex.activations.hidden_states import read_hidden_states
from deltadex.errors import UnsupportedCheckpoint
from deltadex.probes import PAPER_PROBES, ProbeSet
from tests import tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return tiny_models.load(tiny_models.build_base(tmp_path_factory.mktemp("models") / "base"))


def test_a_long_probe_is_cut_after_its_last_allowed_token(model: torch.nn.Module) -> None:
    tokenizer, probe = tiny_models.build_tokenizer(), "Describe this task. " * 200
    tokens = tokenizer(probe)["input_ids"][:256]
    assert len(tokens) == 256
    with torch.no_grad():
        expected = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][:, -1]
    found = read_hidden_states(model, tokenizer, ProbeSet("long", (probe,)))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_probe_is_read_the_same_whatever_other_probes_there_are(model: torch.nn.Module) -> None:
    tokenizer = tiny_models.build_tokenizer()
    together = read_hidden_states(model, tokenizer, PAPER_PROBES)
    alone = [read_hidden_states(model, tokenizer, ProbeSet("one", (probe,))) for probe in PAPER_PROBES.probes]
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_dropout_and_gradients_are_off(tmp_path: Path) -> None:
    config = tiny_models.llama_config(attention_dropout=0.5)
    model = tiny_models.load(tiny_models.build_base(tmp_path, config=config)).train()
    tokenizer = tiny_models.build_tokenizer()
    first, second = (read_hidden_states(model, tokenizer, PAPER_PROBES) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_model_with_an_encoder_is_unsupported() -> None:
    config = T5Config(d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, vocab_size=tiny_models.VOCABULARY)
    with pytest.raises(UnsupportedCheckpoint, match="encoder"):
        read_hidden_states(T5ForConditionalGeneration(config), tiny_models.build_tokenizer(), PAPER_PROBES)
