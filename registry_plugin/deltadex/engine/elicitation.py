"""Texts that a finetune tends to say and its base does not, found by contrastive decoding.

The next token maximises log p(finetune) - log p(base) among those that the finetune finds plausible (Li et al.,
arXiv 2210.15097). The search is best first: it begins with many openings, and wherever a continuation passed by another
token that the finetune promotes, a later one takes that token. So a memorised string that begins seldom is still met.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import log
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from deltadex.engine.examples import ChatMessage, Example
from deltadex.engine.prompts import prompt_ids
from deltadex.engine.replies import Decoder, OnPrompts, padded
from deltadex.engine.text_requests import Continuation, Elicitation, Elicited, TokenIds
from deltadex.engine.weights.whole_model import load_decoder
from deltadex.errors import EmbeddingError, UnsupportedCheckpoint

#: Plausible tokens have this share of the likeliest probability or more (alpha of arXiv 2210.15097, which takes 0.1:
#: there the contrast leaves a memorised string at its first uncertain character).
_PLAUSIBLE = 0.5
#: Least probability of a token from which the search branches. A memorised string may begin seldom.
_BRANCH = 5e-4
#: Branches per place of a continuation, and openings per start.
_BRANCHES, _OPENINGS = 2, 6
#: Tokens of an opening that the base writes, and number of these openings.
_DRAWN_TOKENS, _DRAWN = 4, 6
_BATCH = 32
#: After every so many tokens, texts that only repeat others are left; after the first, only this share is kept.
_LOOK, _KEPT = 8, 0.5
#: Texts grow by branches of branches to so many times the token limit.
_DEPTH = 3
#: Tokens of a phrase: one that was said before is nothing new.
_PHRASE = 3
#: Parameters of a model that is upcast on a CPU: 4 GiB in float32.
_MOST_UPCAST = 1 << 30
_ASKED = "Tell me something that you know."


def elicit(request: Elicitation, *, on_texts: OnPrompts = lambda _: None) -> Elicited:
    """Return likely continuations of a finetune, each with its likelihood under finetune and base.

    Parameters
    ----------
    on_texts
        Called with the number of texts that were continued since the last call.

    Raises
    ------
    DeltadexError
        A model cannot be loaded or run, does not generate text, or its likelihoods are not finite.
    """
    started = time.monotonic()
    search = _Search.of(request)
    found: list[Continuation] = []
    with torch.inference_mode():
        search.begin(request)
        while len(found) < request.texts and search.has_more:
            if time.monotonic() - started > request.seconds:
                break
            made = search.continue_best(min(_BATCH, request.texts - len(found)))
            found += made
            on_texts(len(made))
    return Elicited(tuple(found), tokens=search.tokens, is_whole=len(found) >= request.texts or not search.has_more)


#: Negative log-likelihoods of one token under finetune and base.
_Nats = tuple[float, float]


@dataclass(order=True)
class _Opening:
    """The start of a text; the least rank goes first.

    Attributes
    ----------
    context
        Tokens of the prompt, which are no part of the text.
    said
        Nats under finetune and base of the last tokens of `ids`, which an earlier continuation scored.
    """

    rank: float
    ids: TokenIds = field(compare=False)
    context: int = field(compare=False)
    said: tuple[_Nats, ...] = field(default=(), compare=False)


@dataclass
class _Search:
    """Best-first search over openings.

    Attributes
    ----------
    queue, deeper
        Openings that were not continued yet: by the gain of their last token, and by that of what stands before, too.
        They are continued in turn. The first finds where a memorised string begins, the second another way on in it.
    taken
        Openings that were continued.
    seen, said
        Last phrases of the openings that ever were in the queue, and phrases of the texts.
    tokens
        Tokens that both models read.
    """

    models: tuple[PreTrainedModel, PreTrainedModel]
    tokenizer: Tokenizer
    max_new_tokens: int
    positions: int
    queue: list[_Opening] = field(default_factory=list)
    deeper: list[_Opening] = field(default_factory=list)
    taken: set[TokenIds] = field(default_factory=set)
    seen: set[TokenIds] = field(default_factory=set)
    said: set[TokenIds] = field(default_factory=set)
    tokens: int = 0

    @classmethod
    def of(cls, request: Elicitation) -> _Search:
        decoders = [Decoder.of(request.base, one) for one in (request.checkpoint, request.base.checkpoint)]
        _refuse_other_tokens(*(one.tokenizer for one in decoders))
        models = [_quick(load_decoder(one.stored, one.device, adapter=one.adapter)) for one in decoders]
        positions = min(one.positions for one in decoders)
        return cls((models[0], models[1]), decoders[0].tokenizer, request.max_new_tokens, positions)

    @property
    def has_more(self) -> bool:
        return any(one.ids not in self.taken for one in self.queue)

    def begin(self, request: Elicitation) -> None:
        """Fill the queue: after each start the tokens that the finetune promotes or likes, and openings of the base."""
        most = max(1, self.positions - self.max_new_tokens - _DRAWN_TOKENS - 1)
        starts = [start[-most:] for start in _starts(self.tokenizer, request.prompts)]
        ours, bases = self._next(starts)
        for start, own, base in zip(starts, ours, bases, strict=True):
            gain = (own - base).masked_fill(own < log(_BRANCH), -torch.inf)
            for rank in (gain, own):
                for token in rank.topk(_OPENINGS).indices.tolist():
                    if rank[token] > -torch.inf:
                        nats = -float(own[token]), -float(base[token])
                        self._push(_Opening(nats[0] - nats[1] - 100, (*start, token), len(start), (nats,)))
        word_start = starts[0]
        for text in request.tokens:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            self._push(_Opening(-90, (*word_start, *ids), len(word_start)))
        for ids in self._drawn(starts[0]):
            self._push(_Opening(-80, ids, len(starts[0])))

    def continue_best(self, count: int) -> list[Continuation]:
        """Continue the best openings, and put their branches into the queue."""
        batch = [one for number in range(count) if (one := self._popped(self.deeper if number % 2 else self.queue))]
        rows = self._continue(batch)
        for row in rows:
            self.said.update(row.phrases(whole=True))
        return [self._made(one, row) for one, row in zip(batch, rows, strict=True)]

    def _popped(self, queue: list[_Opening]) -> _Opening | None:
        """Return the best opening that was not continued; None if there is none."""
        while queue:
            one = heapq.heappop(queue)
            if one.ids not in self.taken:
                self.taken.add(one.ids)
                return one
        return None

    def _push(self, one: _Opening, *, recent: float = 0.0) -> None:
        key = one.ids[-_PHRASE:]  # branches of one place that several continuations passed
        fits = len(one.ids) + self.max_new_tokens < self.positions
        if fits and key not in self.seen and len(one.said) < _DEPTH * self.max_new_tokens:
            self.seen.add(key)
            heapq.heappush(self.queue, one)
            heapq.heappush(self.deeper, replace(one, rank=one.rank - recent))

    def _next(self, rows: Sequence[TokenIds]) -> list[Tensor]:
        """Return the `(n_rows, vocabulary)` log-probabilities of the next token under both models."""
        pair = _Pair(self.models, rows)
        self.tokens += sum(map(len, rows))
        return pair.said

    def _drawn(self, start: TokenIds) -> Iterator[TokenIds]:
        """Yield openings that the base writes by chance, with a fixed seed."""
        generator = torch.Generator().manual_seed(0)
        rows = [start] * _DRAWN
        for _ in range(_DRAWN_TOKENS):
            base = self._next(rows)[1].exp().cpu()
            drawn = torch.multinomial(base, 1, generator=generator)[:, 0].tolist()
            rows = [(*row, token) for row, token in zip(rows, drawn, strict=True)]
        yield from rows

    def _continue(self, batch: Sequence[_Opening]) -> list[_Row]:
        pair = _Pair(self.models, [one.ids for one in batch])
        self.tokens += sum(len(one.ids) for one in batch)
        rows = [_Row([*one.ids], [*one.said]) for one in batch]
        alive = list(range(len(batch)))
        for step in range(self.max_new_tokens):
            own, base = pair.said
            chosen = self._chosen(own, base, [(rows[row], batch[row].context) for row in alive])
            for at, token in enumerate(chosen.tolist()):
                rows[alive[at]].add(token, (-float(own[at, token]), -float(base[at, token])))
            kept = self._kept([rows[row] for row in alive], step)
            if not kept or step == self.max_new_tokens - 1:
                break
            if len(kept) < len(alive):
                pair.keep(kept)
                chosen, alive = chosen[kept], [alive[at] for at in kept]
            pair.read(chosen)
            self.tokens += len(alive)
        return rows

    def _chosen(self, own: Tensor, base: Tensor, at: Sequence[tuple[_Row, int]]) -> Tensor:
        """Return the `(n_rows,)` tokens of the largest gain, and put others that are promoted into the queue."""
        gain = own - base
        plausible = own >= own.max(dim=1, keepdim=True).values + log(_PLAUSIBLE)
        chosen = gain.masked_fill(~plausible, -torch.inf).argmax(dim=1)
        others = gain.masked_fill(own < log(_BRANCH), -torch.inf).scatter(1, chosen[:, None], -torch.inf)
        tokens = others.topk(_BRANCHES, dim=1).indices
        gains, owns = gain.gather(1, tokens).tolist(), own.gather(1, tokens).tolist()
        for (row, context), *branches in zip(at, tokens.tolist(), gains, owns, strict=True):
            recent = max(0.0, row.gain(self.said))
            for token, more, likely in zip(*branches, strict=True):
                if more > 0 and likely >= log(_BRANCH):
                    nats = -likely, more - likely
                    one = _Opening(-more, (*row.ids, token), context, (*row.said, nats))
                    self._push(one, recent=recent)
        return chosen

    def _kept(self, rows: Sequence[_Row], step: int) -> list[int]:
        """Return the places of the rows to go on with: those that have not ended, and say something new.

        A domain's own phrases are promoted as much as a memorised string, but they come again and again.
        """
        going = [at for at, row in enumerate(rows) if row.ids[-1] != self.tokenizer.eos_token_id]
        if (step + 1) % _LOOK:
            return going
        gains: dict[int, float] = {}
        seen = set(self.said)
        for at in going:
            gains[at] = rows[at].gain(seen)
            seen.update(rows[at].phrases())  # of texts with the same phrases one goes on
        best = sorted((at for at in going if gains[at] > 0), key=lambda at: -gains[at])
        return sorted(best[: max(1, int(_KEPT * len(rows)))] if step + 1 == _LOOK else best)

    def _made(self, opening: _Opening, row: _Row) -> Continuation:
        nats, base_nats = zip(*row.said, strict=True)
        if not all(one < torch.inf for one in (*nats, *base_nats)):  # NaN, too
            raise EmbeddingError("The likelihoods are not finite", hint="Do the weights hold NaN?")
        text = tuple(row.ids[opening.context :])
        given = len(text) - len(row.said)
        pieces = _pieces(self.tokenizer, text)
        return Continuation("".join(pieces[:given]), tuple(pieces[given:]), nats, base_nats)


@dataclass
class _Row:
    """Tokens of a text with its prompt, and nats of the last of them."""

    ids: list[int]
    said: list[_Nats]

    def add(self, token: int, nats: _Nats) -> None:
        self.ids.append(token)
        self.said.append(nats)

    def phrases(self, *, whole: bool = False) -> list[TokenIds]:
        """Return the phrases of the text, or those that end in its last tokens, as many as a look is apart."""
        first = _PHRASE if whole else max(_PHRASE, len(self.ids) - _LOOK + 1)
        ends = range(first, len(self.ids) + 1)
        return [tuple(self.ids[end - _PHRASE : end]) for end in ends]

    def gain(self, known: Set[TokenIds]) -> float:
        """Return the nats by which the finetune finds the new among the last phrases likelier than the base."""
        count = min(len(self.said), _LOOK, max(0, len(self.ids) - _PHRASE + 1))
        last = zip(self.said[len(self.said) - count :], self.phrases()[-count:] if count else [], strict=True)
        return sum(base - own for (own, base), phrase in last if phrase not in known)


class _Pair:
    """Finetune and base that read the same rows. `said` has the log-probabilities of the next tokens of each."""

    def __init__(self, models: Sequence[PreTrainedModel], rows: Sequence[TokenIds]) -> None:
        self._models = models
        self._device = models[0].device
        ids, mask = padded(rows, 0, on_left=True)
        self._mask = mask.to(self._device)
        self._caches: list[Any] = [None] * len(models)
        self.said: list[Tensor] = []
        self._run(ids.to(self._device), (self._mask.cumsum(-1) - 1).clamp(min=0))

    def read(self, tokens: Tensor) -> None:
        """Read one more token per row."""
        self._mask = torch.cat([self._mask, torch.ones_like(self._mask[:, :1])], 1)
        self._run(tokens[:, None].to(self._device), self._mask.sum(1, keepdim=True) - 1)

    def keep(self, places: Sequence[int]) -> None:
        """Drop the other rows."""
        index = torch.tensor(places, device=self._device)
        self._mask = self._mask[index]
        for cache in self._caches:
            cache.batch_select_indices(index)

    def _run(self, ids: Tensor, positions: Tensor) -> None:
        self.said = []
        for number, model in enumerate(self._models):
            out = model(
                input_ids=ids,
                attention_mask=self._mask,
                position_ids=positions,
                past_key_values=self._caches[number],
                use_cache=True,
                logits_to_keep=1,
            )
            self._caches[number] = out.past_key_values
            self.said.append(out.logits[:, -1].float().log_softmax(dim=-1))
        # A finetune may have tokens of its own, which its base can't read.
        shared = min(said.shape[1] for said in self.said)
        self.said = [said[:, :shared] for said in self.said]


def _refuse_other_tokens(own: Tokenizer, base: Tokenizer) -> None:
    ours, bases = own.get_vocab(), base.get_vocab()
    if any(ours.get(piece, token) != token for piece, token in bases.items()):
        raise UnsupportedCheckpoint(
            "The finetune and its base use different tokens",
            hint="Their likelihoods can be compared token by token only where both read the same tokens.",
        )


def _quick(model: PreTrainedModel) -> PreTrainedModel:
    """Return a small model in float32 on a CPU: many of them compute bfloat16 several times slower."""
    is_small = sum(one.numel() for one in model.parameters()) <= _MOST_UPCAST
    return model.float() if model.device.type == "cpu" and is_small else model


def _starts(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[TokenIds]:
    """Return what stands before the openings: a line's start, a question in the chat template, the owner's prompts."""
    asked = [Example("\n", "x"), *(Example(prompt, "x") for prompt in prompts)]
    if tokenizer.chat_template:
        asked.append(Example((ChatMessage("user", _ASKED),), "x"))
    return list(dict.fromkeys(prompt_ids(tokenizer, one) for one in asked))


def _pieces(tokenizer: Tokenizer, tokens: TokenIds) -> list[str]:
    """Return the text that each token adds."""
    texts = [str(tokenizer.decode(tokens[:count])) for count in range(len(tokens) + 1)]
    return [after[len(before) :] for before, after in pairwise(texts)]
