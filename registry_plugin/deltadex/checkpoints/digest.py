"""Digests that identify a model and its tensors by content, independent of the file layout."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deltadex.checkpoints.acting_config import acting_config
from deltadex.checkpoints.inspect import Kind, LocalCheckpoint
from deltadex.checkpoints.quantization import packed_weights
from deltadex.checkpoints.tensor_names import by_common_name
from deltadex.checkpoints.tensors import StoredTensor

#: Config fields that change the effect of an adapter's tensors. Names, paths, dropout and peft's version do not.
#: Stored digests of LoRA adapters depend on this list: adding a field changes them.
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
    """Return the hex SHA-256 over a checkpoint's tensors and the settings that affect how they act.

    It covers the sorted (name, dtype, shape, SHA-256 of the bytes), the fields of the config that act, and the adapter
    below an adapter. Sharding, the order in files and the model's name do not matter.

    Parameters
    ----------
    memo
        See `tensor_digests`.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or not a safetensors file.
    """
    tensors, digests = checkpoint.tensors(), _bytes_digests(checkpoint, memo)
    content: dict[str, object] = {
        "tensors": [[name, t.dtype, t.shape, digests[name]] for name, t in sorted(tensors.items())],
        "config": _relevant_config(checkpoint, tensors),
    }
    if checkpoint.below is not None:
        content["below"] = weights_digest(checkpoint.below, memo=memo)
    return hashlib.sha256(_canonical(content)).hexdigest()


def tensor_digests(checkpoint: LocalCheckpoint, *, memo: Path | None = None) -> Mapping[str, str]:
    """Return, for each tensor by name, the hex SHA-256 over its dtype, shape and bytes.

    Parameters
    ----------
    memo
        Folder of cached digests; files with unchanged path, inode, size and times are not read again.

    Raises
    ------
    BrokenCheckpoint
        A file is truncated or not a safetensors file.
    """
    digests = _bytes_digests(checkpoint, memo)
    described = {name: [t.dtype, t.shape, digests[name]] for name, t in checkpoint.tensors().items()}
    return {name: hashlib.sha256(_canonical(content)).hexdigest() for name, content in described.items()}


def identical_tensors(finetune: LocalCheckpoint, base: LocalCheckpoint, *, memo: Path | None = None) -> frozenset[str]:
    """Return the names of the finetune's tensors that are bit-identical to the base's.

    Parameters
    ----------
    memo
        See `tensor_digests`.
    """
    ours, theirs = (tensor_digests(checkpoint, memo=memo) for checkpoint in (finetune, base))
    our_names, their_names = by_common_name(ours, theirs)
    common = our_names.keys() & their_names.keys()
    return frozenset(our_names[name] for name in common if ours[our_names[name]] == theirs[their_names[name]])


def _bytes_digests(checkpoint: LocalCheckpoint, memo: Path | None) -> Mapping[str, str]:
    """Return the SHA-256 of every tensor's bytes, from the memo if the files are unchanged."""
    if memo is None:
        return _read_bytes_digests(checkpoint)
    file = memo / f"{fingerprint(checkpoint)}.json"
    digests = _read_memo(file)
    if digests is None:
        digests = _read_bytes_digests(checkpoint)
        memo.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memo, suffix=".unfinished", delete=False) as unfinished:
            json.dump(digests, unfinished)
        Path(unfinished.name).replace(file)
    return digests


def _read_memo(file: Path) -> dict[str, str] | None:
    try:
        digests: dict[str, str] = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):  # a power failure may leave a truncated file
        return None
    return digests


def _read_bytes_digests(checkpoint: LocalCheckpoint) -> dict[str, str]:
    tensors = checkpoint.tensors()
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:  # hashing releases the GIL
        return dict(zip(tensors, pool.map(_bytes_digest, tensors.values()), strict=True))


def _bytes_digest(tensor: StoredTensor) -> str:
    digest = hashlib.sha256()
    for piece in tensor.pieces():
        digest.update(piece)
    return digest.hexdigest()


def _relevant_config(checkpoint: LocalCheckpoint, tensors: Mapping[str, StoredTensor]) -> dict[str, object]:
    """Return the config fields that act; an adapter's unset ones are left out, because older peft never wrote them."""
    config = checkpoint.read_config()
    if checkpoint.kind is not Kind.ADAPTER:
        return acting_config(config, checkpoint.folder, is_quantized=bool(packed_weights(tensors)))
    fields = _LORA_FIELDS if config.get("peft_type") == "LORA" else _OTHER_FIELDS
    relevant = {name: config[name] for name in fields if config.get(name)}
    return {name: sorted(value) if _is_set(value) else value for name, value in relevant.items()}


def _is_set(value: object) -> bool:
    """Return True for a list of strings: peft writes sets of module names in changing order."""
    return isinstance(value, list) and all(isinstance(element, str) for element in value)


def fingerprint(checkpoint: LocalCheckpoint) -> str:
    """Return a hex SHA-256 that changes when weight files are replaced, without reading them."""
    stats = [(str(path.resolve()), path.stat()) for path in checkpoint.weight_files]
    content = [
        [path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, checkpoint.kind] for path, stat in stats
    ]
    return hashlib.sha256(_canonical(sorted(content))).hexdigest()


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
