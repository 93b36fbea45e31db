"""YAML files that people edit: strict reading, and mistakes with file and line."""

from pathlib import Path
from typing import Any

import pytest

from tokenworlds.config.yaml_files import line_of, read_mapping
from tokenworlds.errors import UserError

MISTAKES: dict[str, tuple[bytes, str]] = {
    "syntax": (b"a: 1\nb: [1, 2\nc: 3\n", "line 3 is no valid YAML"),
    "tab": (b"a:\n  b: 1\n\tc: 2\n", "line 3 is no valid YAML"),
    "utf-16": ("a: 1\n".encode("utf-16"), "line 1 is not UTF-8 text"),
    "utf-16 without a mark": ("a: 1\nb: 2\n".encode("utf-16-le"), "line 1 is not UTF-8 text (perhaps UTF-16)"),
    "latin-1": (b"a: 1\nb: \xe4\n", "line 2 is not UTF-8 text"),
    "control character": (b"a: \x01\n", "is no valid YAML"),
    "duplicate key": (b"a: 1\nb: {c: 1,\n    d: 2, c: 3}\n", "line 3 is no valid YAML: 'c' stands in line 2 already"),
    "duplicate in a line": (b"a: 1\nb: {c: 1, c: 3}\n", "line 2 is no valid YAML: 'c' stands in line 2 already"),
    "list": (b"# remark\n- a\n", "line 2: the file must be a mapping (key: value), not a list"),
    "scalar": (b"\n\n\nword\n", "line 4: the file must be a mapping (key: value), not the value word"),
    "two documents": (b"a: 1\n---\nb: 2\n", "line 2 is no valid YAML"),
    "unknown tag": (b"a: !!python/object/apply:os.getcwd []\n", "line 1 is no valid YAML"),
    "list as key": (b"[1, 2]: 3\n", "line 1 is no valid YAML"),
    "endless number": (b"a: " + b"1" * 5000 + b"\n", "is no valid YAML"),
}


def write(folder: Path, content: bytes) -> Path:
    (folder / "file.yaml").write_bytes(content)
    return folder / "file.yaml"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_file_and_line(tmp_path: Path, mistake: str) -> None:
    content, expected = MISTAKES[mistake]
    with pytest.raises(UserError) as caught:
        read_mapping(write(tmp_path, content), "shown.yaml")
    message = str(caught.value)
    assert f"shown.yaml {expected}" in message and "\n" not in message and len(message) <= 300


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*absent\.yaml: No such file"):
        read_mapping(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-08", -8), ("1e-4", 1e-4), ("1.0e-3", 1e-3), (".5", 0.5), ("5.", 5.0), ("true", True),
        ("yes", "yes"), ("off", "off"), ("null", None), ("~", None), ("", None), ("12:30", "12:30"), ("1_0", "1_0"),
        ("2024-01-01", "2024-01-01"), ("'8'", "8"), ("none", "none"), ("0x10", "0x10"), ("[1, 010]", [1, 10]),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(tmp_path: Path, text: str, value: Any) -> None:
    found = read_mapping(write(tmp_path, f"key: {text}\n".encode()))["key"]
    assert found == value and type(found) is type(value)


def test_a_byte_order_mark_and_an_empty_file_are_no_mistakes(tmp_path: Path) -> None:
    assert read_mapping(write(tmp_path, b"\xef\xbb\xbfa: 1\n")) == {"a": 1}
    assert read_mapping(write(tmp_path, b"# nothing\n")) == {}


def test_what_is_merged_from_elsewhere_may_be_overridden(tmp_path: Path) -> None:
    path = write(tmp_path, b"a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: *a\n")
    assert read_mapping(path) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    for number in range(5):
        assert read_mapping(write(tmp_path, f"a: {number}\n".encode())) == {"a": number}


def test_a_value_is_found_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, b"a:\n  b: 1\n  c: {d: 2,\n      e: 3}\na.b: 4\n")
    assert [line_of(path, keys) for keys in (["a"], ["a", "b"], ["a", "c", "e"], ["a.b"])] == [1, 2, 4, 5]
    assert line_of(path, ["a", "c", "absent"]) == 3 and line_of(path, ["absent"]) is None
