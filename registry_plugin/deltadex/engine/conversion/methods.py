"""The table of conversions. Imports no torch: callers of the process that converts read it, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from deltadex.checkpoints.inspect import LocalCheckpoint
from deltadex.checkpoints.quantization import packed_weights
from deltadex.checkpoints.weight_files import Form
from deltadex.errors import UnsupportedCheckpoint

_ABBREVIATIONS = ("gguf", "gptq", "awq")


@dataclass(frozen=True)
class Method:
    """A way in which weights are stored, and what reads it.

    Attributes
    ----------
    name
        As `quant_method` in a config names it, or the form of the files; its module has the same name.
    package
        Import name of the package that it needs; empty for none.
    install
        What to install for it.
    """

    name: str
    package: str = ""
    install: str = ""

    @property
    def label(self) -> str:
        """Name as people write it."""
        return self.name.upper() if self.name in _ABBREVIATIONS else self.name

    @property
    def module(self) -> str:
        """Module of the method."""
        return f"deltadex.engine.conversion.{self.name.replace('-', '_')}"


_QUANTIZED = "deltadex[quantized]"
_ROWS = (
    Method("gguf", "gguf", "deltadex[embed]"),
    Method("pickled"),
    Method("bitsandbytes", "bitsandbytes", _QUANTIZED),
    Method("gptq"),
    Method("awq"),
    Method("compressed-tensors", "compressed_tensors", _QUANTIZED),
)
METHODS: Mapping[str, Method] = {row.name: row for row in _ROWS}


def method_for(checkpoint: LocalCheckpoint) -> Method | None:
    """Return the method that converts a checkpoint; None if it is plain, or stays as it is.

    A quantization that a config names does not act where the weights are plain: it is left over from a merge.

    Raises
    ------
    UnsupportedCheckpoint
        The method needs a package that is not installed.
    """
    method = METHODS.get(checkpoint.packed_by or "")
    if method is None or (method.name not in set(Form) and not packed_weights(checkpoint.tensors())):
        return None
    if method.package and find_spec(method.package) is None:
        raise UnsupportedCheckpoint(
            f"{checkpoint} has weights quantized by {method.name}, which the package {method.package} reads here",
            hint=f"Install it: pip install '{method.install}'",
        )
    return method
