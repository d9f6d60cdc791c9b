"""How a registry's finetunes of a base are embedded; those embedded in another manner cannot be compared."""

from __future__ import annotations

from deltadex.bases.own_method import own_method
from deltadex.embeddings import queries as embeddings
from deltadex.engine.probes import METHODS
from deltadex.errors import EmbeddingError
from deltadex.settings import Settings
from deltadex.store.database import Transaction


def manner_of(tx: Transaction, settings: Settings, base_name: str) -> tuple[str, Settings]:
    """Return the registry's own method, and the settings with the dtype of its embeddings of this base.

    Before the first of them, the dtype is the settings' own.

    Raises
    ------
    EmbeddingError
        The settings name another dtype. It is retryable: another worker may do it.
    """
    method, wanted = own_method(tx, settings.registry), settings.embedding.compute_dtype
    probes = METHODS[method].probe_digest
    known = embeddings.dtype_of_base(tx, settings.registry, base_name, probe_digest=probes)
    if known not in (None, wanted) and wanted != "auto":
        raise EmbeddingError(
            f"This worker computes in {wanted}, but finetunes of {base_name} were embedded in {known}",
            hint=f"Set DELTADEX_EMBEDDING__COMPUTE_DTYPE={known} or =auto for this worker, then `deltadex retry`.",
            retryable=True,
        )
    kept = settings.embedding.model_copy(update={"compute_dtype": known or wanted})
    return method, settings.model_copy(update={"embedding": kept})
