"""Checks of full models' configs; further problems appear when transformers loads the model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deltadex.errors import NoLanguageModel

#: Class names of models that read text, with or without a head: decoders, encoders, both, multimodal models.
_READS_TEXT = re.compile(
    r"(ForCausalLM|LMHead(Model)?|DoubleHeadsModel|ForConditionalGeneration|ForMaskedLM|ForPreTraining"
    r"|ForSequenceClassification|ForTokenClassification|ForQuestionAnswering(Simple)?|ForMultipleChoice"
    r"|ForNextSentencePrediction|ForTextToText|ForVisionText2Text|Generation(En|De)coder|Model)$"
)
#: Families with matching class names that read sound, images or time series, or only pair them with text.
_READS_NO_TEXT = re.compile(
    r"^(Whisper|Speech(2Text|T5|EncoderDecoder)|Wav2Vec2|WavLM|Hubert|SEW|UniSpeech|Data2Vec(Audio|Vision)|Moonshine"
    r"|Canary|CohereAsr|Pix2Struct|PPFormulaNet|PI0|Perceiver|VisionEncoderDecoder|VideoMAE|ViT|Hiera|Blip|InstructBlip"
    r"|Kosmos2(?!_)|\w*CLIP|Siglip|Align|Clap|Flava|GroupViT|Owl)"
)


def check_model(config: Mapping[str, Any], where: str) -> None:
    """Check that a full model can be embedded.

    Raises
    ------
    NoLanguageModel
        It does not read text.
    """
    architectures = config.get("architectures")
    if not architectures and config.get("model_type"):
        return  # transformers knows the model's type, or refuses it
    architectures = [str(name) for name in architectures] if isinstance(architectures, list) else ["unknown"]
    if not any(_is_language_model(name, config) for name in architectures):
        raise NoLanguageModel(
            f"{where} is not a language model (architecture {', '.join(architectures)})",
            hint="Deltadex embeds models that read text: decoders, encoders, both, and adapters of them.",
        )


def sections(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a config and its nested configs, such as the language model's config inside a multimodal one."""
    yield config
    yield from (value for value in config.values() if isinstance(value, Mapping))


def vocabulary_sizes(config: Mapping[str, Any]) -> frozenset[int]:
    """Return the vocabulary sizes in a config and its nested configs."""
    sizes = (section.get("vocab_size") for section in sections(config))
    return frozenset(size for size in sizes if isinstance(size, int))


def _is_language_model(architecture: str, config: Mapping[str, Any]) -> bool:
    if not _READS_TEXT.search(architecture) or _READS_NO_TEXT.search(architecture):
        return False
    has_no_head = architecture.endswith("Model") and "Head" not in architecture
    return not has_no_head or bool(vocabulary_sizes(config)) or "text_config" in config
