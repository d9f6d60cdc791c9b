"""The identity of a model and of its tensors: digests of what they hold, whatever files they lie in."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deltadex.checkpoints.layout import Kind, LocalCheckpoint
from deltadex.checkpoints.names import in_common_terms
from deltadex.checkpoints.tensors import StoredTensor

#: What changes how an adapter's tensors act. Names, paths, dropout and the version of peft don't.
#: Stored digests of LoRA adapters rest on this list: what is added to it changes them.
_LORA_FIELDS = (
    "peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias", "lora_bias",
    "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices", "use_qalora", "use_bdlora",
)  # fmt: skip
_OTHER_FIELDS = (
    *_LORA_FIELDS, "alpha", "use_effective_conv2d", "decompose_both", "decompose_factor", "feedforward_modules",
    "oft_block_size", "coft", "eps", "block_share", "use_cayley_neumann", "num_cayley_neumann_terms",
    "projection_prng_key", "token_indices", "num_virtual_tokens", "num_transformer_submodules", "task_type",
)  # fmt: skip


def weights_digest(checkpoint: LocalCheckpoint, *, memo: Path | None = None) -> str:
    """Return the hex SHA-256 over a checkpoint's tensors.

    It covers the sorted (name, dtype, shape, SHA-256 of the bytes), for an adapter the settings that change how the
    tensors act, and the adapter below it; neither sharding nor the order in files nor any name of the model matters.

    Parameters
    ----------
    memo
        See `tensor_digests`.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or no safetensors file.
    """
    tensors, digests = checkpoint.tensors(), _bytes_digests(checkpoint, memo)
    content: dict[str, object] = {
        "tensors": [[name, t.dtype, t.shape, digests[name]] for name, t in sorted(tensors.items())],
        "adapter": _acting_config(checkpoint),
    }
    if checkpoint.below is not None:
        content["below"] = weights_digest(checkpoint.below, memo=memo)
    return hashlib.sha256(_canonical(content)).hexdigest()


def tensor_digests(checkpoint: LocalCheckpoint, *, memo: Path | None = None) -> Mapping[str, str]:
    """Return, for each tensor by name, the hex SHA-256 over its dtype, shape and bytes.

    Parameters
    ----------
    memo
        A folder of digests that were computed before; files with the same path, inode, size and times are not read
        again.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or no safetensors file.
    """
    digests = _bytes_digests(checkpoint, memo)
    described = {name: [t.dtype, t.shape, digests[name]] for name, t in checkpoint.tensors().items()}
    return {name: hashlib.sha256(_canonical(content)).hexdigest() for name, content in described.items()}


def identical_tensors(finetune: LocalCheckpoint, base: LocalCheckpoint, *, memo: Path | None = None) -> frozenset[str]:
    """Return the names, as the finetune has them, of tensors that are the same in its base to the last bit.

    Parameters
    ----------
    memo
        See `tensor_digests`.
    """
    ours, theirs = (tensor_digests(one, memo=memo) for one in (finetune, base))
    our_names, their_names = in_common_terms(ours, theirs)
    common = our_names.keys() & their_names.keys()
    return frozenset(our_names[name] for name in common if ours[our_names[name]] == theirs[their_names[name]])


def _bytes_digests(checkpoint: LocalCheckpoint, memo: Path | None) -> Mapping[str, str]:
    """Return the SHA-256 of every tensor's bytes, from the memo where its files are still the same."""
    if memo is None:
        return _read_bytes_digests(checkpoint)
    remembered = memo / f"{_fingerprint(checkpoint)}.json"
    known = _recall(remembered)
    if known is None:
        known = _read_bytes_digests(checkpoint)
        memo.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memo, suffix=".unfinished", delete=False) as unfinished:
            json.dump(known, unfinished)
        Path(unfinished.name).replace(remembered)
    return known


def _recall(remembered: Path) -> dict[str, str] | None:
    try:
        known: dict[str, str] = json.loads(remembered.read_bytes())
    except (FileNotFoundError, ValueError):  # a machine that lost its power may leave half a file
        return None
    return known


def _read_bytes_digests(checkpoint: LocalCheckpoint) -> dict[str, str]:
    tensors = checkpoint.tensors()
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        return dict(zip(tensors, pool.map(_bytes_digest, tensors.values()), strict=True))


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
    fields = _LORA_FIELDS if config.get("peft_type") == "LORA" else _OTHER_FIELDS
    acting = {name: config[name] for name in fields if config.get(name)}
    return {name: sorted(value) if _is_set(value) else value for name, value in acting.items()}


def _is_set(value: object) -> bool:
    """Tell whether peft wrote a set of module names, whose order changes from save to save."""
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def _fingerprint(checkpoint: LocalCheckpoint) -> str:
    stats = [(str(file.resolve()), file.stat()) for file in checkpoint.weight_files]
    content = [
        [path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, checkpoint.kind] for path, stat in stats
    ]
    return hashlib.sha256(_canonical(sorted(content))).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
