"""Promoted tokens, compared with the logits of transformers' own heads."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer as WordLevelTokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel

from deltadex.checkpoints.inspect import LocalCheckpoint, inspect
from deltadex.demo import training
from deltadex.demo.corpus import read_domain
from deltadex.demo.specification import Schedule, Shape
from deltadex.downloads.files import LocalFiles
from deltadex.engine.delta import Base
from deltadex.engine.probes import PAPER_PROBES
from deltadex.engine.promoted_tokens import TOKENS_PER_DIRECTION, readable
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.engine.weights.mapped import MappedFiles
from deltadex.types import Embedding, Words
from tests import language_models, many_models, tiny_models

DOMAINS = ("legal", "cpp")


def local(folder: Path) -> LocalCheckpoint:
    return inspect(LocalFiles(folder)).fetch()


def words_of(base: Path, finetunes: Sequence[Path]) -> list[Words | None]:
    made = dict(Base(BaseModel(local(base), "base", "float32")).embed([Finetune(local(one), "w") for one in finetunes]))
    return [one.words for _, one in sorted(made.items()) if isinstance(one, Embedding)]


def logits(model: torch.nn.Module, tokenizer: transformers.PreTrainedTokenizerBase) -> np.ndarray:
    """The library's own logits of each probe's next token."""
    rows = []
    for probe in PAPER_PROBES.probes:
        with torch.no_grad():
            rows.append(model.eval()(**tokenizer(probe, return_tensors="pt")).logits[0, -1])
    return torch.stack(rows).numpy()


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "tied Llama", "Qwen2", "GPTNeoXForCausalLM", "OPT", "Bloom"])
def test_scores_are_the_shift_of_the_models_own_logits_per_length_of_row(tmp_path: Path, name: str) -> None:
    base = language_models.build_model(name, tmp_path / "base")
    kind, full = language_models.class_of(name), tmp_path / "full"
    many_models.build_finetune(kind, base, full, strength=0.02)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    finetuned = many_models.load(kind, full)
    # A finetune's own head is not part of the delta.
    finetuned.set_output_embeddings(many_models.load(kind, base).get_output_embeddings())
    whole = (logits(finetuned, tokenizer) - logits(many_models.load(kind, base), tokenizer)).mean(axis=0)
    length = np.linalg.norm(finetuned.get_output_embeddings().weight.detach().numpy(), axis=1)[: len(tokenizer)]
    middle = np.sort(length)[(len(length) - 1) // 2]  # torch's median is the lower one
    shift = whole[: len(tokenizer)] / np.maximum(length, middle)
    scores = (shift - shift.mean()) / shift.std()
    [words] = words_of(base, [full])
    assert words is not None
    assert len(words.promoted) == len(words.demoted) == TOKENS_PER_DIRECTION
    texts = [readable(tokenizer, token) for token in range(len(tokenizer))]
    for word, sign in [(word, 1) for word in words.promoted] + [(word, -1) for word in words.demoted]:
        spellings = [scores[token] for token, text in enumerate(texts) if text.casefold() == word.text.casefold()]
        assert word.score == pytest.approx(sign * max(sign * score for score in spellings), abs=0.01)
    best = max(score for score, text in zip(scores, texts, strict=True) if text)
    assert words.promoted[0].score == pytest.approx(best, abs=0.01)


def test_words_are_equal_alone_and_together_and_the_head_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    adapters = [tiny_models.build_adapter(base, tmp_path / f"{seed}", seed=seed) for seed in range(3)]
    alone = [words_of(base, [one])[0] for one in adapters]
    read: list[str] = []
    whole = MappedFiles.tensor
    monkeypatch.setattr(MappedFiles, "tensor", lambda self, stored: read.append(stored.name) or whole(self, stored))
    assert words_of(base, adapters) == alone
    assert read.count("lm_head.weight") == 1
    assert len({one.promoted for one in alone if one}) == 3


@pytest.mark.parametrize("name", ["BertForMaskedLM", "LlamaModel", "T5EncoderModel"])
def test_a_base_without_a_suitable_head_gets_a_note(tmp_path: Path, name: str) -> None:
    base = language_models.build_model(name, tmp_path / "base")
    many_models.build_finetune(name, base, tmp_path / "full", strength=0.02)
    [words] = words_of(base, [tmp_path / "full"])
    assert words == Words(note="The base has no output head that reads the delta's states.")


def test_an_unchanged_copy_has_no_words(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    assert words_of(base, [base]) == [Words(note="The finetune changes nothing.")]


def test_the_head_is_not_read_when_words_are_switched_off(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    model = replace(BaseModel(local(base), "base", "float32"), words=False)
    [(_, made)] = Base(model).embed([Finetune(local(tiny_models.build_adapter(base, tmp_path / "a")), "w")])
    assert isinstance(made, Embedding)
    assert made.words is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base that has learnt a little of licences and C++, and an adapter trained on each of them."""
    folder = tmp_path_factory.mktemp("trained")
    texts = {domain: [document.text for part in read_domain(domain) for document in part] for domain in DOMAINS}
    with training.quiet():
        torch.set_num_threads(1)
        tokenizer = training.train_tokenizer([text for domain in DOMAINS for text in texts[domain]], 768)
        data = {domain: training.examples(tokenizer, texts[domain], 32) for domain in DOMAINS}
        shape = Shape(vocabulary=768, hidden_size=64, layers=2, heads=2, intermediate_size=128)
        base = training.new_base(shape, seed=0)
        training.train(base, torch.cat(list(data.values())), Schedule(300, 8, 32, 5e-3), seed=0)
        for part in (base, tokenizer):
            part.save_pretrained(folder / "base")
        prompt = training.prompt(tokenizer, "### Response:")
        for domain in DOMAINS:
            adapter = training.new_adapter(training.load_base(folder / "base"), seed=0, declared_base="base")
            training.train(adapter, data[domain], Schedule(80, 8, 32, 3e-3), seed=0, prompt=prompt)
            training.save(adapter, folder / domain)
    return {name: folder / name for name in ("base", *DOMAINS)}


def test_trained_finetunes_promote_tokens_of_their_own_text_more_than_the_other_does(trained: dict[str, Path]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(trained["base"])
    counts = {domain: np.ones(len(tokenizer)) for domain in DOMAINS}
    for domain in DOMAINS:
        for document in chain.from_iterable(read_domain(domain)):
            np.add.at(counts[domain], tokenizer(document.text, add_special_tokens=False)["input_ids"], 1)
    share = {domain: count / count.sum() for domain, count in counts.items()}
    texts = [readable(tokenizer, token).casefold() for token in range(len(tokenizer))]
    found = dict(zip(DOMAINS, words_of(trained["base"], [trained[domain] for domain in DOMAINS]), strict=True))
    told_apart = 0.0
    for own, other in (DOMAINS, DOMAINS[::-1]):
        words = found[own]
        assert words is not None
        promoted = {word.text.casefold() for word in words.promoted}
        tokens = [token for token, text in enumerate(texts) if text in promoted]
        told_apart += np.log(share[own][tokens] / share[other][tokens]).mean()
    # A single finetune's result depends on the installed licences: both promote tokens common to both texts.
    assert told_apart > 0.5


def test_tokens_are_shown_as_printable_text() -> None:
    tokenizer = tiny_models.build_tokenizer()
    tokens = {text: tokenizer(text, add_special_tokens=False)["input_ids"] for text in (" response", "\n\n", "é", "\t")}
    assert readable(tokenizer, tokens[" response"][0]).startswith("r")
    for blank in ("\n\n", "\t"):
        assert {readable(tokenizer, token) for token in tokens[blank]} == {""}
    assert len(tokens["é"]) == 2
    assert {readable(tokenizer, token) for token in tokens["é"]} == {""}


def test_special_tokens_and_spelling_variants_are_left_out(tmp_path: Path) -> None:
    base = tiny_models.build_base(tmp_path / "base")
    for words in words_of(
        base, [tiny_models.build_adapter(base, tmp_path / f"{seed}", seed=seed) for seed in range(8)]
    ):
        assert words is not None
        texts = [word.text for word in (*words.promoted, *words.demoted)]
        assert not {"<s>", "</s>", ""}.intersection(texts)
        for way in (words.promoted, words.demoted):
            assert len({word.text.casefold() for word in way}) == len(way) == TOKENS_PER_DIRECTION


def test_a_vocabulary_of_words_gives_whole_words_only(tmp_path: Path) -> None:
    """Of a real vocabulary most tokens are scraps and punctuation; here 600 whole words among them."""
    base = tiny_models.build_base(tmp_path / "base", config=tiny_models.llama_config(vocab_size=2_000))
    letters = "abcdefghij"
    words = [f"{one}{two}{three}" for one in letters for two in letters for three in letters][:600]
    others = [f"q{number}" for number in range(300)] + [f"!{number}" for number in range(300)]
    pieces = ["<unk>", *(f"▁{word}" for word in words), *others, *"中文ぶ", "▁to", "▁naïve"]
    tokenizer = WordLevelTokenizer(WordLevel({piece: number for number, piece in enumerate(pieces)}, "<unk>"))
    tokenizer.decoder = Metaspace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "base")
    [said] = words_of(base, [tiny_models.build_adapter(base, tmp_path / "adapter")])
    assert said is not None
    listed = {word.text for word in (*said.promoted, *said.demoted)}
    assert len(listed) == 2 * TOKENS_PER_DIRECTION
    assert listed <= {*words, *"中文ぶ", "naïve"}
