"""Merges of registered versions: built on this machine, embedded, and compared with their prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deltadex.app import App
from deltadex.checkpoints.digest import weights_digest
from deltadex.checkpoints.inspect import Kind
from deltadex.downloads.files import LocalFiles
from deltadex.engine import shared
from deltadex.engine.adapter_requests import AdapterMerge, FoundWeights, WeightSearch
from deltadex.engine.client import EmbeddingProcess
from deltadex.engine.examples import Example
from deltadex.engine.messages import OnProgress, ignore_progress
from deltadex.engine.requests import BaseModel, Finetune
from deltadex.errors import BaseMismatch, DeltadexError, UnsupportedCheckpoint
from deltadex.ingest.extract import unfinished
from deltadex.ingest.resolve import Bases, Fetched, Resolved, fetch, resolve, workspace
from deltadex.merge.mergekit import merge_full_models
from deltadex.merge.methods import MergeMethod
from deltadex.merge.prediction import predict
from deltadex.types import Embedding, VersionRow, Words
from deltadex.vectors import cosine_similarity

#: Least cosine similarity of a built merge to its prediction, for sums; docs/merge.md says what merges have.
LEAST_AS_PREDICTED = 0.9


@dataclass(frozen=True)
class MergeOptions:
    """Options of a merge.

    Attributes
    ----------
    method
        None for `cat` of adapters and `linear` of full models.
    weights
        One for each parent; None for the method's own.
    density
        Share of the entries that a pruning method keeps.
    rank
        Rank of the merged adapter, for methods that end in `svd`; None for the largest of the parents.
    examples, budget
        Examples of a task by which the weights are searched instead, and the number of weightings to try; every second
        example is held out, to tell a fit to the examples from one to the task.
    """

    method: MergeMethod | None = None
    weights: tuple[float, ...] | None = None
    density: float = 0.5
    rank: int | None = None
    seed: int = 0
    examples: tuple[Example, ...] = ()
    budget: int = 40

    def method_for(self, kind: Kind) -> MergeMethod:
        """Return the method for models of a kind."""
        return self.method or (MergeMethod.CAT if kind is Kind.ADAPTER else MergeMethod.LINEAR)


@dataclass(frozen=True, eq=False)
class BuiltMerge:
    """A merge that was built, with its check.

    Attributes
    ----------
    kind
        An adapter or a full model.
    weights
        The weights that it was built with; those that a search found, if there was one.
    rank
        Rank of an adapter; None for a full model.
    similarity
        Cosine similarity of its embedding to the prediction.
    to_parents
        Cosine similarity of its embedding to each parent's.
    words
        Tokens that the prediction promotes, and those that the merge does; None if they could not be read.
    search
        Result of the search of weights, if there was one.
    """

    kind: Kind
    base_name: str
    method: MergeMethod
    weights: tuple[float, ...]
    rank: int | None
    size_bytes: int
    similarity: float
    to_parents: tuple[float, ...]
    strength: float
    words: tuple[Words, Words] | None
    search: FoundWeights | None

    @property
    def is_sum(self) -> bool:
        """True if the prediction is of such a merge: methods that prune or merge factors may lead elsewhere."""
        return self.method.is_sum or (self.kind is Kind.FULL and self.method is MergeMethod.LINEAR)

    @property
    def is_as_predicted(self) -> bool:
        """False if a sum is far from what its parents' embeddings promise."""
        return not self.is_sum or self.similarity >= LEAST_AS_PREDICTED


def build(
    app: App,
    parents: Sequence[VersionRow],
    output: Path,
    options: MergeOptions,
    *,
    on_stage: Callable[[str], None] = lambda _: None,
    on_share: Callable[[float], None] = lambda _: None,
    on_progress: OnProgress = ignore_progress,
) -> BuiltMerge:
    """Merge versions of one base into a folder, embed the merge, and compare it with the prediction.

    Parameters
    ----------
    output
        Folder to write; it must not exist yet, or be empty.
    on_stage, on_share, on_progress
        Called with what begins, with the share of the search of weights that is done, and with the part of the model
        and the bytes of weights that it has read.

    Raises
    ------
    UnsupportedCheckpoint
        The versions cannot be merged, or not by this method.
    BaseMismatch
        They are finetunes of different bases.
    DeltadexError
        One cannot be read or run.
    """
    seconds = app.settings.embedding.deadline_seconds
    with ExitStack() as stack:
        process = stack.enter_context(shared.embedding_process(app.settings))
        holds = [stack.enter_context(workspace(app, row)) for row in parents]
        folder = stack.enter_context(unfinished(output))
        bases = Bases(app, holds[0])
        on_stage("looking at the versions")
        resolved = [resolve(app, process, row, hold, bases=bases) for row, hold in zip(parents, holds, strict=True)]
        kind = _common_kind(parents, resolved)
        method = options.method_for(kind)
        _refuse_unfit(parents, resolved, kind, method, is_searched=bool(options.examples))
        on_stage("fetching")
        fetched = [fetch(app, process, one, hold, bases=bases) for one, hold in zip(resolved, holds, strict=True)]
        _refuse_other_bases(parents, fetched)
        search = None
        if options.examples:
            on_stage("searching weights")
            search = _search(process, fetched, options, seconds, on_share)
            _refuse_nothing(search)
        weights = search.found.weights if search else options.weights or method.default_weights(len(parents))
        on_stage("merging")
        rank = _merge(app, process, folder, fetched, resolved[0].base_name, method, weights, options)
        on_stage("embedding")
        merged, *others = _embed(process, fetched, folder, seconds, on_progress)
        prediction = predict([one.vector for one in others], weights).vector
        similarity = cosine_similarity(np.vstack([merged.vector, prediction, *(one.vector for one in others)]))[0]
        words = _words(process, fetched[0].base, merged, prediction, seconds)
        size_bytes = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        folder.rename(output)
    return BuiltMerge(
        kind,
        resolved[0].base_name,
        method,
        tuple(weights),
        rank,
        size_bytes,
        float(similarity[1]),
        tuple(map(float, similarity[2:])),
        merged.strength,
        words,
        search,
    )


def _common_kind(parents: Sequence[VersionRow], resolved: Sequence[Resolved]) -> Kind:
    """Return the kind of all parents; refuse a mixture."""
    kinds = {one.checkpoint.kind for one in resolved}
    if len(kinds) == 1:
        return kinds.pop()
    full = next(row for row, one in zip(parents, resolved, strict=True) if one.checkpoint.kind is Kind.FULL)
    raise UnsupportedCheckpoint(
        f"{full.label} is a full model and others are adapters: they cannot be merged as they are",
        hint=f"Make it an adapter with `deltadex extract-adapter {full.label}` and register that, or merge each "
        "adapter into its base and register the full models.",
    )


def _refuse_unfit(
    parents: Sequence[VersionRow],
    resolved: Sequence[Resolved],
    kind: Kind,
    method: MergeMethod,
    *,
    is_searched: bool,
) -> None:
    """Refuse what the configs already rule out, before any weights are fetched."""
    if is_searched and (kind is Kind.FULL or not method.is_sum):
        raise UnsupportedCheckpoint(
            f"Weights can be searched for sums of adapters only, not for {method} of {kind} models",
            hint="Use --method cat or svd; `deltadex extract-adapter` makes adapters of full models.",
        )
    if kind is Kind.FULL and method.for_full_models is None:
        known = ", ".join(one for one in MergeMethod if one.for_full_models)
        raise UnsupportedCheckpoint(f"Full models cannot be merged by {method}", hint=f"Use {known}.")
    for row, one in zip(parents, resolved, strict=True):
        checkpoint = one.checkpoint
        if kind is Kind.FULL and checkpoint.packed_by:
            raise UnsupportedCheckpoint(
                f"{row.label} has packed weights ({checkpoint.packed_by})", hint="Merge the original instead."
            )
        if kind is Kind.ADAPTER and (checkpoint.chain_obstacle or checkpoint.below):
            reason = checkpoint.chain_obstacle or "an adapter below it"
            raise UnsupportedCheckpoint(
                f"{row.label} cannot be merged as an adapter: it has {reason}",
                hint="Only plain LoRAs add up. Merge it into its base and register the full model.",
            )


def _refuse_other_bases(parents: Sequence[VersionRow], fetched: Sequence[Fetched]) -> None:
    """Compare the bases by the digest of their weights: two names may be one base, and one name two."""
    for row, one in zip(parents, fetched, strict=True):
        if one.base.digest != fetched[0].base.digest:
            raise BaseMismatch(
                f"{row.label} and {parents[0].label} are finetunes of different bases",
                hint="Only finetunes of one base can be merged; `deltadex lineage` shows each one's base.",
            )


def _search(
    process: EmbeddingProcess,
    fetched: Sequence[Fetched],
    options: MergeOptions,
    seconds: float,
    on_share: Callable[[float], None],
) -> FoundWeights:
    adapters = tuple(one.finetune.checkpoint for one in fetched)
    seen, held_out = options.examples[::2], options.examples[1::2]
    request = WeightSearch(fetched[0].base, adapters, seen, held_out, options.budget, seed=options.seed)
    return process.search_weights(request, deadline_seconds=seconds, on_share=on_share)


def _refuse_nothing(search: FoundWeights) -> None:
    if not any(search.found.weights):
        best = min(one.nats for one in search.singles)
        raise DeltadexError(
            f"No weighting that was tried is better on the examples than the base alone: {search.base.nats:.3f} nats "
            f"per token, against {best:.3f} of the best adapter alone and {search.equal.nats:.3f} of equal weights",
            hint="Merge other adapters, or give --weight instead of --examples.",
        )


def _merge(
    app: App,
    process: EmbeddingProcess,
    folder: Path,
    fetched: Sequence[Fetched],
    base_name: str,
    method: MergeMethod,
    weights: Sequence[float],
    options: MergeOptions,
) -> int | None:
    """Write the merge; return the rank of an adapter."""
    density = options.density if method.prunes else None
    checkpoints = tuple(one.finetune.checkpoint for one in fetched)
    base = fetched[0].base
    if checkpoints[0].kind is Kind.FULL:
        merge_full_models(
            app.settings,
            base.checkpoint,
            checkpoints,
            weights,
            folder,
            method=method,
            density=density,
            seed=options.seed,
        )
        return None
    request = AdapterMerge(
        base, base_name, checkpoints, tuple(weights), method, folder, density, options.rank, options.seed
    )
    return process.merge(request, deadline_seconds=app.settings.embedding.deadline_seconds).rank


def _embed(
    process: EmbeddingProcess, fetched: Sequence[Fetched], folder: Path, seconds: float, on_progress: OnProgress
) -> list[Embedding]:
    """Return the embeddings of the merge and of its parents, all computed here and now."""
    checkpoint = process.inspect(LocalFiles(folder)).fetch()
    models = [Finetune(checkpoint, weights_digest(checkpoint)), *(one.finetune for one in fetched)]
    found = dict(process.embed(fetched[0].base, models, deadline_seconds=seconds, on_progress=on_progress))
    embeddings = []
    for number in range(len(models)):
        outcome = found[number]
        if isinstance(outcome, DeltadexError):
            raise outcome
        embeddings.append(outcome)
    return embeddings


def _words(
    process: EmbeddingProcess, base: BaseModel, merged: Embedding, prediction: NDArray[np.float64], seconds: float
) -> tuple[Words, Words] | None:
    """Return the promoted tokens of prediction and merge; None where the base has no head to read them by."""
    vectors = np.stack([prediction, merged.vector]).astype(np.float32)
    try:
        predicted, built = process.words(base, merged.recipe.base_digest, vectors, deadline_seconds=seconds)
    except DeltadexError:  # a by-product: the merge is whole without it
        return None
    return predicted, built
