"""Program that prints the first rows of a Parquet file, an Arrow file or a folder of `datasets` as JSON lines."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deltadex.engine.examples import MAX_CHARACTERS, MAX_EXAMPLES
from deltadex.engine.isolation import isolate

#: Limits on this process: private memory, and processor time.
_MEMORY_BYTES, _CPU_SECONDS = 1 << 30, 30
#: Rows beyond the first of these show that there are too many.
_MOST_ROWS = MAX_EXAMPLES + 1
_BATCH = 16


def main(path: Path) -> None:
    """Print the rows; end with an error if the file cannot be read."""
    isolate()
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    try:
        for number, row in enumerate(_rows(path), start=1):
            # A longer row is an error that names it; nobody needs its text.
            text = json.dumps(row, default=str)
            text = text if len(text) < 8 * MAX_CHARACTERS else json.dumps({"text": "x" * (MAX_CHARACTERS + 1)})
            sys.stdout.write(f"{text}\n")
            if number == _MOST_ROWS:
                return
    except Exception as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if path.is_dir():
        for part in parts(path):
            yield from _rows_of_arrow(part)
    elif path.suffix == ".parquet":
        yield from _rows_of_parquet(path)
    else:
        yield from _rows_of_arrow(path)


def parts(folder: Path) -> list[Path]:
    """Return the Arrow files of a saved data set in their order; of several splits, those of `train` or the first.

    Raises
    ------
    ValueError
        It is not a folder that `datasets` saved, or its rows are in another order than its files.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(each.name for each in folder.iterdir() if each.is_dir())
        folder /= "train" if "train" in splits else splits[0]
    try:
        state = json.loads((folder / "state.json").read_bytes())
        names = [str(one["filename"]) for one in state["_data_files"]]
    except (OSError, KeyError, TypeError) as error:
        raise ValueError("it has no state.json with data files, as `datasets` writes it") from error
    if state.get("_indices_data_files"):
        raise ValueError("it has an index over its rows: save it again after `flatten_indices()`")
    if any(Path(name).name != name for name in names):
        raise ValueError("it names a file outside of the folder")
    return [folder / name for name in names]


def _rows_of_parquet(path: Path) -> Iterator[dict[str, Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()


def _rows_of_arrow(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        # `datasets` writes streams, others write files.
        is_file = file.read(6) == b"ARROW1"
        file.seek(0)
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            for start in range(0, len(batch), _BATCH):
                few = batch.slice(start, _BATCH)
                few.validate(full=True)  # offsets of a stranger's file may point anywhere
                yield from few.to_pylist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
