"""The dtype in which finetunes of a base are embedded: embeddings of different dtypes cannot be compared."""

from __future__ import annotations

from deltadex.embeddings import queries as embeddings
from deltadex.engine.probes import DELTA_ACTIVATION
from deltadex.errors import EmbeddingError
from deltadex.settings import Settings
from deltadex.store.database import Transaction


def with_dtype_of(tx: Transaction, settings: Settings, base_name: str) -> Settings:
    """Return the settings with the dtype that the registry's embeddings of this base have; before the first, their own.

    Raises
    ------
    EmbeddingError
        The settings name another dtype. It is retryable: another worker may do it.
    """
    wanted = settings.embedding.compute_dtype
    probes = DELTA_ACTIVATION.probe_digest
    known = embeddings.dtype_of_base(tx, settings.registry, base_name, probe_digest=probes)
    if known not in (None, wanted) and wanted != "auto":
        raise EmbeddingError(
            f"This worker computes in {wanted}, but finetunes of {base_name} were embedded in {known}",
            hint=f"Set DELTADEX_EMBEDDING__COMPUTE_DTYPE={known} or =auto for this worker, then `deltadex retry`.",
            retryable=True,
        )
    kept = settings.embedding.model_copy(update={"compute_dtype": known or wanted})
    return settings.model_copy(update={"embedding": kept})
