"""Files of examples: JSON lines, CSV, Parquet, Arrow, and folders that `datasets` saved. Nothing is unpickled.

Every file is a stranger's: it is read up to `MAX_BYTES`, and no further than one row beyond `MAX_EXAMPLES`.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile

from deltadex.engine.examples import MAX_CHARACTERS, MAX_EXAMPLES, PAIRS, Example, example_of, read_examples
from deltadex.engine.isolation import isolated_environment
from deltadex.errors import ExamplesError

#: Largest file, which is what the most examples of the most characters take.
MAX_BYTES = 4 * MAX_EXAMPLES * MAX_CHARACTERS
#: Names of files that are read; any other is read as JSON lines or CSV, by its first character.
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow")
_FIELDS = ("messages", "conversations", "text", "input", *(name for pair in PAIRS for name in pair))
_OF_CSV = "The first line names the columns, such as: prompt,completion. A right second line is: 2 + 2?,4"
_OF_TABLE = (
    "It has the columns prompt and completion, input and output, instruction (and input) and output, question and "
    "answer, text, or messages, such as prompt = 2 + 2?, completion = 4."
)
_OF_FOLDER = "Save a data set with `dataset.save_to_disk(folder)`, or give a file: JSON lines, CSV, Parquet or Arrow."
_DELIMITERS = ",;\t"
_TABLES = (".parquet", ".arrow")
#: For the import of pyarrow and two hundred rows; a file that takes longer is meant to.
_SECONDS = 60


def read_file(path: Path) -> tuple[Example, ...]:
    """Read the examples in a file or in a folder of a data set.

    Of several splits of a data set, `train` is read.

    Raises
    ------
    ExamplesError
        There are no examples or too many, or one (named by its line or row) is not an example.
    """
    if path.is_dir():
        return _of_file(path, path.name)
    if path.stat().st_size > MAX_BYTES:
        raise _too_large(path.name)
    return read_content(path.name, path.read_bytes())


def read_content(name: str, content: bytes) -> tuple[Example, ...]:
    """Read the examples in a file's content; the format is that of the name's ending, as in `SUFFIXES`.

    Raises
    ------
    ExamplesError
        As for `read_file`.
    """
    if len(content) > MAX_BYTES:
        raise _too_large(name)
    suffix = Path(name).suffix.lower()
    if suffix in _TABLES:
        with NamedTemporaryFile(suffix=suffix) as file:
            file.write(content)
            file.flush()
            return _of_file(Path(file.name), name)
    text = content.decode("utf-8-sig", errors="replace")
    return _of_csv(text) if suffix in (".csv", ".tsv") else read_text(text)


def read_text(text: str) -> tuple[Example, ...]:
    """Read pasted examples: JSON lines, one JSON array, or CSV if the first line names columns of examples.

    Raises
    ------
    ExamplesError
        As for `read_file`.
    """
    start = text.lstrip()
    if start.startswith("["):
        return _of_array(start)
    header = _header(start.partition("\n")[0])
    return _of_csv(start) if not start.startswith("{") and {*header} & {*_FIELDS} else read_examples(text)


def _too_large(name: str) -> ExamplesError:
    return ExamplesError(f"{name} is larger than {MAX_BYTES >> 20} MB", hint="Use a random sample of its examples.")


def _of_file(path: Path, name: str) -> tuple[Example, ...]:
    """Read a table in a process of its own: a stranger's file may crash pyarrow, or unfold to any size."""
    command = [sys.executable, "-m", "deltadex.engine.example_tables", str(path)]
    try:
        done = subprocess.run(command, env=isolated_environment(), capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ExamplesError(f"{name} takes longer than {_SECONDS} s to read", hint=_OF_FOLDER) from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise ExamplesError(f"{name} cannot be read: {last[-300:]}", hint=_OF_FOLDER)
    return _of_table(map(json.loads, done.stdout.splitlines()))


def _of_array(text: str) -> tuple[Example, ...]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        return read_examples(text)  # names the line
    return _of_table(rows)


def _of_csv(text: str) -> tuple[Example, ...]:
    first = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=lambda one: len({*_header(first, one)} & {*_FIELDS}))
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return _examples(_numbered(reader), "Line", _OF_CSV)


def _numbered(reader: csv.DictReader[str]) -> Iterator[tuple[int, object]]:
    """Yield each row with the number of its last line."""
    try:
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            if None in row or None in row.values():
                columns = f"{len(reader.fieldnames or ())} columns"
                raise ExamplesError(f"Line {reader.line_num} does not have the header's {columns}", hint=_OF_CSV)
            yield reader.line_num, row
    except csv.Error as error:
        raise ExamplesError(f"Line {reader.line_num} is not CSV: {error}", hint=_OF_CSV) from error


def _header(line: str, delimiter: str | None = None) -> list[str]:
    for one in delimiter or _DELIMITERS:
        line = line.replace(one, "\0")
    return [name.strip().strip('"').lower() for name in line.split("\0")]


def _of_table(rows: Iterable[object]) -> tuple[Example, ...]:
    return _examples(enumerate(rows, start=1), "Row", _OF_TABLE)


def _examples(rows: Iterable[tuple[int, object]], noun: str, hint: str) -> tuple[Example, ...]:
    found: list[Example] = []
    for number, row in islice(rows, MAX_EXAMPLES + 1):
        if len(found) == MAX_EXAMPLES:
            raise ExamplesError(f"There are more than {MAX_EXAMPLES} examples", hint="Use a random sample of them.")
        example = example_of(row, at=f"{noun} {number}", hint=hint)
        if example.characters > MAX_CHARACTERS:
            message = f"{noun} {number} has {example.characters:,} characters; the limit is {MAX_CHARACTERS:,}"
            raise ExamplesError(message, hint="Shorten it: the engine reads a limited number of tokens.")
        found.append(example)
    if not found:
        raise ExamplesError("There are no examples", hint=hint)
    return tuple(found)
