"""Files of examples in every format, and errors that name the line or row."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltadex.engine.example_files import MAX_BYTES, read_content, read_file, read_text
from deltadex.engine.examples import MAX_CHARACTERS, MAX_EXAMPLES, ChatMessage, Example
from deltadex.errors import ExamplesError

ROWS = [{"prompt": "2 + 2?", "completion": "4"}, {"prompt": "3 + 3?", "completion": "6"}]
EXAMPLES = (Example("2 + 2?", "4"), Example("3 + 3?", "6"))
CHAT = [
    {"messages": [{"role": "user", "content": one["prompt"]}, {"role": "assistant", "content": one["completion"]}]}
    for one in ROWS
]
#: Text of one line or several; Postgres stores no NUL, and files no lone surrogates.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def save_arrow(folder: Path, rows: list[dict[str, object]], *, parts: int = 1) -> Path:
    """Write a folder as `Dataset.save_to_disk` does: Arrow streams and their order in `state.json`."""
    folder.mkdir(parents=True)
    table, names = pa.Table.from_pylist(rows), []
    size = -(-len(rows) // parts)
    for number in range(parts):
        names.append(f"data-{number:05}-of-{parts:05}.arrow")
        with pa.OSFile(str(folder / names[-1]), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table.slice(number * size, size))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,completion\n2 + 2?,4\n3 + 3?,6\n"),
        ("a.csv", "\ufeffQuestion;Answer;Id\r\n2 + 2?;4;1\r\n\r\n3 + 3?;6;2"),
        ("a.tsv", "input\toutput\n2 + 2?\t4\n3 + 3?\t6\n"),
        ("a.csv", "instruction,input,output\n2 + 2?,,4\n3 + 3?,,6\n"),
        ("a.json", json.dumps(ROWS)),
        ("a.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("a.unknown", "prompt,completion\n2 + 2?,4\n3 + 3?,6\n"),
    ],
)
def test_texts_are_read(name: str, content: str) -> None:
    assert read_content(name, content.encode()) == EXAMPLES


@pytest.mark.parametrize("rows", [ROWS, [{**one, "text": "both of it"} for one in ROWS]])
def test_tables_are_read_from_parquet_arrow_and_saved_data_sets(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    splits = tmp_path / "splits"
    for split in ("test", "train"):
        save_arrow(splits / split, rows if split == "train" else [{"text": "unlike"}])
    (splits / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    for path in ("a.parquet", "a.arrow", "splits", save_arrow(tmp_path / "two", rows, parts=2)):
        assert read_file(tmp_path / path) == EXAMPLES
    assert read_content("a.parquet", (tmp_path / "a.parquet").read_bytes()) == EXAMPLES


def test_conversations_of_both_kinds_are_read(tmp_path: Path) -> None:
    expected = tuple(Example((ChatMessage("user", one.prompt),), one.completion) for one in EXAMPLES)  # type: ignore[arg-type]
    share_gpt = [
        {"conversations": [{"from": "human", "value": one["prompt"]}, {"from": "gpt", "value": one["completion"]}]}
        for one in ROWS
    ]
    assert read_text("\n".join(map(json.dumps, CHAT))) == expected
    assert read_text("\n".join(map(json.dumps, share_gpt))) == expected
    assert read_file(save_arrow(tmp_path / "chat", CHAT)) == expected


def test_alpacas_input_follows_its_instruction() -> None:
    assert read_text(json.dumps({"instruction": "Add.", "input": "2, 2", "output": "4"})) == (
        Example("Add.\n\n2, 2", "4"),
    )


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "prompt,completion\n2?,4\n3?\n", "Line 3 does not have the header's 2 columns"),
        ("a.csv", "prompt,completion\n2?,4,5\n", "Line 2 does not have"),
        ("a.csv", "prompt,answer\n2?,4\n", "Line 2 is not an example: lacks 'completion'"),
        ("a.csv", 'prompt,completion\n"2?\n,"4"x\n', "is not CSV"),
        ("a.csv", "", "There are no examples"),
        ("a.json", '[{"text": "good"}, {"text": 4}]', "Row 2 is not an example: text is not a string"),
        ("a.json", '[{"text": "good"', "Line 1 is not an example"),
        ("a.json", "[" * 100_000, "has 100,000 characters"),
        ("a.csv", "text\n" + "good\n" * (MAX_EXAMPLES + 1), f"more than {MAX_EXAMPLES} examples"),
        ("a.csv", "text\n" + "a" * (MAX_CHARACTERS + 1), "Line 2 has 20,001 characters"),
        ("a.parquet", "junk", "a.parquet cannot be read"),
        ("a.arrow", "ARROW1junk", "a.arrow cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place_and_a_right_one(name: str, content: str, says: str) -> None:
    with pytest.raises(ExamplesError) as error:
        read_content(name, content.encode())
    assert says in error.value.message
    assert error.value.hint


def test_rows_of_tables_are_named_and_bounded(tmp_path: Path) -> None:
    cases: dict[str, list[dict[str, object]]] = {
        "Row 2 is not an example: completion is not a string": [ROWS[0], {"prompt": "x", "completion": None}],
        f"more than {MAX_EXAMPLES} examples": [{"text": "good"}] * 5_000,
        "Row 1 has 20,001 characters": [{"text": "a" * 5_000_000}],
    }
    for says, rows in cases.items():
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
        with pytest.raises(ExamplesError, match=says):
            read_file(tmp_path / "a.parquet")


def test_a_folder_that_is_no_data_set_or_reaches_outside_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExamplesError, match=r"no state\.json"):
        read_file(tmp_path)
    folder = save_arrow(tmp_path / "data", ROWS)
    state = {"_data_files": [{"filename": "../secret.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(ExamplesError, match="outside of the folder"):
        read_file(folder)


def test_a_small_file_that_unfolds_to_gigabytes_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(np.zeros(1_300_000_000, dtype=np.int8))})
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(file, table.schema, options=options) as writer:
            writer.write_table(table)
    assert (tmp_path / "a.arrow").stat().st_size < MAX_BYTES
    with pytest.raises(ExamplesError, match=r"a\.arrow cannot be read"):
        read_file(tmp_path / "a.arrow")


def test_a_file_that_is_too_large_is_not_opened() -> None:
    with pytest.raises(ExamplesError, match="larger than"):
        read_content("a.csv", b" " * (MAX_BYTES + 1))


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=5))
def test_every_text_survives_csv_and_json_lines(pairs: list[tuple[str, str]]) -> None:
    expected = tuple(Example(prompt, completion) for prompt, completion in pairs)
    table = io.StringIO(newline="")
    csv.writer(table).writerows([("prompt", "completion"), *pairs])
    assert read_content("a.csv", table.getvalue().encode()) == expected
    for ascii_only in (True, False):
        lines = "\n".join(
            json.dumps({"prompt": prompt, "completion": completion}, ensure_ascii=ascii_only)
            for prompt, completion in pairs
        )
        assert read_content("a.jsonl", lines.encode()) == expected


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.jsonl", "a.json", "a.txt", "a.tsv"]))
def test_any_bytes_are_examples_or_a_stated_error(content: bytes, name: str) -> None:
    with suppress(ExamplesError):
        assert read_content(name, content)
