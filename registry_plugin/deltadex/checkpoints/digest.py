"""The identity of a model: a digest of its tensors, whatever files they lie in."""

from __future__ import annotations

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.checkpoints.tensors import StoredTensor, read_tensors

#: What changes how an adapter's tensors act. Names, paths, dropout and the version of peft don't.
_ACTING_FIELDS = (
    "peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias", "lora_bias",
    "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora", "use_bdlora",
)  # fmt: skip


def weights_digest(checkpoint: LocalCheckpoint, *, memo: Path | None = None) -> str:
    """Return the hex SHA-256 over a checkpoint's tensors.

    It covers the sorted (name, dtype, shape, SHA-256 of the bytes) and, for an adapter, the settings that change
    how the tensors act; neither sharding nor the order in files nor any name of the model matters.

    Parameters
    ----------
    memo
        A folder of digests that were computed before; files with the same path, size and modification time are
        not read again.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or no safetensors file.
    """
    if memo is None:
        return _digest(checkpoint)
    remembered = memo / _fingerprint(checkpoint)
    if not remembered.is_file():
        memo.mkdir(parents=True, exist_ok=True)
        unfinished = remembered.with_suffix(f".{os.getpid()}")
        unfinished.write_text(_digest(checkpoint))
        unfinished.replace(remembered)
    return remembered.read_text()


def _digest(checkpoint: LocalCheckpoint) -> str:
    tensors = sorted(read_tensors(checkpoint.weight_files).values(), key=lambda tensor: tensor.name)
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        digests = list(pool.map(_bytes_digest, tensors))
    content = {
        "tensors": [[t.name, t.dtype, t.shape, digest] for t, digest in zip(tensors, digests, strict=True)],
        "adapter": _acting_config(checkpoint),
    }
    return hashlib.sha256(_canonical(content)).hexdigest()


def _bytes_digest(tensor: StoredTensor) -> str:
    digest = hashlib.sha256()
    for piece in tensor.pieces():
        digest.update(piece)
    return digest.hexdigest()


def _acting_config(checkpoint: LocalCheckpoint) -> dict[str, object]:
    """Return what matters of an adapter's config; unset fields vanish, as older peft never wrote them."""
    if checkpoint.kind is not Kind.ADAPTER:
        return {}
    config = checkpoint.read_config()
    acting = {name: config[name] for name in _ACTING_FIELDS if config.get(name)}
    return {name: sorted(value) if _is_set(value) else value for name, value in acting.items()}


def _is_set(value: object) -> bool:
    """Tell whether peft wrote a set of module names, whose order changes from save to save."""
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _fingerprint(checkpoint: LocalCheckpoint) -> str:
    files = [*checkpoint.weight_files, checkpoint.config_file]
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.sha256(_canonical(sorted(stats))).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
