from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, T5Config, T5ForConditionalGeneration

from deltadex.engine.probes import PAPER_PROBES, ProbeSet
from deltadex.engine.readout import Prompts, Readout, read
from tests import tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    return tiny_models.load(tiny_models.build_base(tmp_path_factory.mktemp("models") / "base"))


def states(model: torch.nn.Module, *probes: str) -> np.ndarray:
    with torch.inference_mode():
        prompts = Prompts.tokenize(tiny_models.build_tokenizer(), ProbeSet("any", probes), Readout.of(model.config))
        return read(model.eval(), prompts).numpy()


def test_a_long_probe_is_cut_after_its_last_allowed_token(model: torch.nn.Module) -> None:
    probe = "Describe this task. " * 200
    tokens = tiny_models.build_tokenizer()(probe)["input_ids"][:256]
    assert len(tokens) == 256
    with torch.no_grad():
        expected = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][:, -1]
    np.testing.assert_allclose(states(model, probe), expected.numpy(), rtol=1e-5, atol=1e-6)


def test_padding_changes_nothing_but_the_last_bits(model: torch.nn.Module) -> None:
    together = states(model, *PAPER_PROBES.probes)
    alone = np.concatenate([states(model, probe) for probe in PAPER_PROBES.probes])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


def test_dropout_and_gradients_are_off(tmp_path: Path) -> None:
    config = tiny_models.llama_config(attention_dropout=0.5)
    model = tiny_models.load(tiny_models.build_base(tmp_path, config=config)).train()
    np.testing.assert_array_equal(states(model, *PAPER_PROBES.probes), states(model, *PAPER_PROBES.probes))


def test_a_model_with_an_encoder_is_read_at_the_decoders_first_step() -> None:
    torch.manual_seed(0)
    config = T5Config(
        d_model=16,
        d_kv=4,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        vocab_size=tiny_models.VOCABULARY,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    assert Readout.of(config) is Readout.DECODER_START
    ids = tiny_models.build_tokenizer()("Translate this.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        output = model(input_ids=ids, decoder_input_ids=torch.tensor([[0]]), output_hidden_states=True)
    expected = output.decoder_hidden_states[-1][:, 0].numpy()
    np.testing.assert_allclose(states(model, "Translate this."), expected, rtol=1e-5, atol=1e-6)


def test_an_encoder_is_read_as_the_mean_over_its_tokens() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=tiny_models.VOCABULARY, **sizes)
    model = BertForMaskedLM(config).eval()
    assert Readout.of(config) is Readout.MEAN_TOKEN
    ids = tiny_models.build_tokenizer()("Fill this in.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = model(ids, output_hidden_states=True).hidden_states[-1].mean(dim=1).numpy()
    found = states(model, "Fill this in.", "A much longer text, so that the first one is padded.")
    np.testing.assert_allclose(found[:1], expected, rtol=1e-5, atol=1e-6)
