"""Large JSON files, element by element, against Python's own reader of whole files."""

import json

import pytest

from getam.utils import json_stream
from getam.utils.json_stream import read_object

CONTENT = {
    "info": {"of": ["a", [1, {"b": None}]], "largest": []},
    "images": [{"id": 1, "name": "straße 語"}, [2.5e-3, -17, True], "plain", '\\" ]},', 12345, 12345, {}, []],
    "none": [],
    "number": 12345,
}


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 2**20])
@pytest.mark.parametrize("layout", [{}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}], ids=str)
def test_elements_are_those_of_the_whole_file(tmp_path, monkeypatch, chunk, layout):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = write(tmp_path / "a.json", json.dumps(CONTENT, **layout) + "\n ")
    found = {"images": [], "none": []}
    content = read_object(path, {key: lambda *element, to=to: to.append(element) for key, to in found.items()})
    assert [value for value, _, _ in found["images"]] == CONTENT["images"]
    assert found["none"] == []
    assert content == {**CONTENT, "images": len(CONTENT["images"]), "none": 0}
    whole = path.read_bytes()
    assert [json.loads(whole[start : start + length]) for _, start, length in found["images"]] == CONTENT["images"]


def test_byte_order_mark(tmp_path):
    places = []
    path = write(tmp_path / "a.json", '{"a": [7]}', "utf-8-sig")
    assert read_object(path, {"a": lambda *element: places.append(element)}) == {"a": 1}
    assert places == [(7, 10, 1)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '{' at byte 0, found 'the end'"),
        ("[1]", "expected '{' at byte 0"),
        ('{"a": [1, 2', "expected ']' at byte 11, found 'the end'"),
        ('{"a": [1, {"b": 2]}', "Expecting"),
        ('{"a": [1,]}', "Expecting value"),
        ('{"a": {"b": 1}}', "expected '\\['"),
        ('{"a" [1]}', "expected ':'"),
        ('{"a": [1]} {', "more after the object, at byte 11"),
        ('{"b": "\udcff"}', "utf-8"),
    ],
)
def test_what_is_not_such_a_file(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=message):
        read_object(path, {"a": lambda *element: None})
