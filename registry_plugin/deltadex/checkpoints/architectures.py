"""Which full models Deltadex embeds, judged by their config alone; what transformers then makes of them is its word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deltadex.errors import UnsupportedCheckpoint

#: Heads, and plain models, of whatever reads text: decoders, encoders, both, multimodal models.
_READS_TEXT = re.compile(
    r"(ForCausalLM|LMHead(Model)?|DoubleHeadsModel|ForConditionalGeneration|ForMaskedLM|ForPreTraining"
    r"|ForSequenceClassification|ForTokenClassification|ForQuestionAnswering(Simple)?|ForMultipleChoice"
    r"|ForNextSentencePrediction|ForTextToText|ForVisionText2Text|Generation(En|De)coder|Model)$"
)
#: Families whose models carry such a name, and read sound, pictures or time series, or only pair them with text.
_READS_NO_TEXT = re.compile(
    r"^(Whisper|Speech(2Text|T5|EncoderDecoder)|Wav2Vec2|WavLM|Hubert|SEW|UniSpeech|Data2Vec(Audio|Vision)|Moonshine"
    r"|Canary|CohereAsr|Pix2Struct|PPFormulaNet|PI0|Perceiver|VisionEncoderDecoder|VideoMAE|ViT|Hiera|Blip|InstructBlip"
    r"|Kosmos2(?!_)|\w*CLIP|Siglip|Align|Clap|Flava|GroupViT|Owl)"
)
#: Undone by transformers itself, on any processor: `get_load_operations` of these quantizers needs no other package.
_DEQUANTIZED = ("fp8", "mxfp8", "mxfp4")
#: What transformers 5.23 asks for before it reads such weights.
_QUANTIZED = {
    "bitsandbytes": "the package bitsandbytes",
    "gptq": "the packages optimum and gptqmodel",
    "awq": "the package gptqmodel",
    "compressed-tensors": "the package compressed-tensors",
    "torchao": "the package torchao",
    "hqq": "the package hqq and a GPU",
    "quanto": "the package optimum-quanto",
    "quark": "the package quark",
    "auto-round": "the package auto-round",
    "aqlm": "the package aqlm",
    "sinq": "the package sinq",
    "fouroversix": "the package fouroversix",
    "eetq": "a GPU and the package kernels",
    "fbgemm_fp8": "a GPU and the package fbgemm-gpu",
    "higgs": "a GPU and the package flute-kernel",
    "spqr": "a GPU and the package spqr_quant",
    "vptq": "a GPU and the package vptq",
    "fp_quant": "a GPU",
    "nvfp4": "a release that can load such checkpoints",
    "bitnet": "layers that round activations too",
    "metal": "an Apple GPU",
}


def check_model(config: Mapping[str, Any], where: str) -> None:
    """Make sure that a full model can be embedded.

    Raises
    ------
    UnsupportedCheckpoint
        It needs code of its own, its weights are quantized in a way that can't be undone here, or it reads no text.
    """
    if config.get("auto_map"):
        raise UnsupportedCheckpoint(
            f"{where} brings its own Python code (auto_map), which is never run", hint="Use a built-in architecture."
        )
    if config.get("quantization_config"):
        _check_quantization(config["quantization_config"], where)
    architectures = config.get("architectures")
    architectures = [str(name) for name in architectures] if isinstance(architectures, list) else ["unknown"]
    if not any(_is_language_model(name, config) for name in architectures):
        raise UnsupportedCheckpoint(
            f"{where} is no language model (architecture {', '.join(architectures)})",
            hint="Deltadex embeds models that read text: decoders, encoders, both, and adapters of them.",
        )


def sections(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a config and those inside it: a multimodal model has its language model's own."""
    yield config
    yield from (value for value in config.values() if isinstance(value, Mapping))


def vocabulary_sizes(config: Mapping[str, Any]) -> frozenset[int]:
    """Return the number of rows of a model's embedding matrices, as its config and those inside it say."""
    sizes = (section.get("vocab_size") for section in sections(config))
    return frozenset(size for size in sizes if isinstance(size, int))


def _is_language_model(architecture: str, config: Mapping[str, Any]) -> bool:
    if not _READS_TEXT.search(architecture) or _READS_NO_TEXT.search(architecture):
        return False
    plain = architecture.endswith("Model") and "Head" not in architecture
    return not plain or bool(vocabulary_sizes(config)) or "text_config" in config


def _check_quantization(quantization: Any, where: str) -> None:
    fields = quantization if isinstance(quantization, Mapping) else {}
    bits = fields.get("load_in_4bit") or fields.get("load_in_8bit")
    method = "bitsandbytes" if bits else str(fields.get("quant_method") or "an unnamed method")
    if method in _DEQUANTIZED:
        return
    needed = _QUANTIZED.get(method)
    raise UnsupportedCheckpoint(
        f"{where} has weights quantized by {method}"
        + (f": transformers reads them only with {needed}" if needed else ""),
        hint="Register the adapter or the model before it was quantized. "
        "For a quantized base, map its name to the unquantized one in DELTADEX_BASES.",
    )
