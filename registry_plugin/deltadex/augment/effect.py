"""Effect of augmentation on the few-shot finetune: on the task embedding, and on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from deltadex.augment.augmented import Augmentation, texts_of
from deltadex.downloads.files import LocalFiles
from deltadex.engine.adapter_requests import Tuning
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.requests import Finetune
from deltadex.engine.text_requests import Scoring
from deltadex.errors import DeltadexError
from deltadex.replay.agreement import Estimate, bootstrap
from deltadex.types import FloatArray
from deltadex.vectors import cosine_similarity

#: What training writes before a completion: in another text the finetune would be scored elsewhere.
FRAME = "### Text:\n{prompt}\n"
#: Fewer held-out examples show little; the verdict says so.
ENOUGH_HELD_OUT = 30


@dataclass(frozen=True)
class Effect:
    """Few-shot finetunes of the same steps with and without augmented examples.

    Attributes
    ----------
    similarity
        Cosine similarity of the two task embeddings.
    reseeded_similarity
        The same of two finetunes without augmentation that differ in the seed: what chance alone moves.
    base, without, augmented
        Nats per token of the held-out completions.
    gain
        Paired difference, `without` less `augmented`: positive where augmentation helps.
    """

    similarity: float
    reseeded_similarity: float
    held_out: int
    base: Estimate
    without: Estimate
    augmented: Estimate
    gain: Estimate

    @property
    def verdict(self) -> str:
        """Sentences for the person who decides."""
        moved = "moves" if self.similarity < self.reseeded_similarity else "does not move"
        said = [
            f"Augmentation {moved} the task embedding more than another seed does "
            f"(similarity {self.similarity:.3f} against {self.reseeded_similarity:.3f}).",
            f"On {self.held_out} held-out examples it gains {self.gain.value:+.3f} nats per token "
            f"(95% interval {self.gain.low:+.3f} to {self.gain.high:+.3f}).",
        ]
        if self.gain.low <= 0 <= self.gain.high:
            said.append("That may be chance.")
        if self.held_out < ENOUGH_HELD_OUT:
            said.append(f"Fewer than {ENOUGH_HELD_OUT} held-out examples show little.")
        return " ".join(said)


@dataclass(frozen=True)
class Trials:
    """Three finetunes of one set of examples: without augmentation, the same with another seed, with augmentation.

    Attributes
    ----------
    tuning
        Base, steps and rates of all of them; each has a folder of its own in the request's.
    """

    process: EmbeddingProcess
    tuning: Tuning
    deadline_seconds: float

    def train(self, augmentation: Augmentation, *, on_step: Callable[[int], None] = lambda _: None) -> list[Finetune]:
        """Train the three in this order.

        Parameters
        ----------
        on_step
            Called with the number of steps done, of three times those of the request.
        """
        tuning = self.tuning
        requests = (
            replace(tuning, examples=augmentation.given, folder=tuning.folder / "without"),
            replace(tuning, examples=augmentation.given, folder=tuning.folder / "reseeded", seed=tuning.seed + 1),
            replace(tuning, examples=augmentation.examples, folder=tuning.folder / "augmented"),
        )
        return [
            self._trained(request, lambda done, before=number * tuning.steps: on_step(before + done))  # type: ignore[misc]
            for number, request in enumerate(requests)
        ]

    def vectors(self, finetunes: Sequence[Finetune]) -> FloatArray:
        """Return the `(n, hidden_size)` task embeddings.

        Raises
        ------
        DeltadexError
            One can't be embedded.
        """
        found = dict(self.process.embed(self.tuning.base, finetunes, deadline_seconds=self.deadline_seconds))
        failed = next((one for one in found.values() if isinstance(one, DeltadexError)), None)
        if failed is not None:
            raise failed
        return np.stack([found[number].vector for number in range(len(finetunes))])  # type: ignore[union-attr]

    def nats_per_token(self, finetune: Finetune | None, examples: Sequence[Example]) -> FloatArray:
        """Return `(n,)` negative log-likelihoods of the completions, in nats per token; None for the base itself."""
        framed = tuple(in_frame(one) for one in examples)
        checkpoint = finetune.checkpoint if finetune else None
        request = Scoring(self.tuning.base, checkpoint, framed)
        scored = self.process.score(request, deadline_seconds=self.deadline_seconds)
        return np.array([one.nats / max(1, one.tokens) for one in scored])

    def _trained(self, request: Tuning, on_step: Callable[[int], None]) -> Finetune:
        request.folder.mkdir(parents=True, exist_ok=True)
        self.process.tune(request, deadline_seconds=self.deadline_seconds, on_step=on_step)
        return Finetune(self.process.inspect(LocalFiles(request.folder)).fetch(), weights_digest="")


def effect_of(
    trials: Trials,
    augmentation: Augmentation,
    held_out: Sequence[Example],
    *,
    on_step: Callable[[int], None] = lambda _: None,
) -> Effect:
    """Train with and without the augmented examples and compare.

    Parameters
    ----------
    held_out
        Examples that nothing was made from.

    Raises
    ------
    DeltadexError
        The training, the embedding or the scoring failed.
    """
    without, reseeded, augmented = trials.train(augmentation, on_step=on_step)
    similarity = cosine_similarity(trials.vectors([without, reseeded, augmented]))
    nats = [trials.nats_per_token(one, held_out) for one in (None, without, augmented)]
    return Effect(
        similarity=float(similarity[0, 2]),
        reseeded_similarity=float(similarity[0, 1]),
        held_out=len(held_out),
        base=bootstrap(nats[0]),
        without=bootstrap(nats[1]),
        augmented=bootstrap(nats[2]),
        gain=bootstrap(nats[1] - nats[2]),
    )


def in_frame(example: Example) -> Example:
    """Return an example as training reads it: one text, whose prompt is all turns before the completion."""
    *before, _ = texts_of(example)
    return Example(FRAME.format(prompt="\n\n".join(before)), example.completion)
