import json

import pytest

from interp.errors import InterpError
from interp.evals.puzzles import Item, read_items

PARIS = {"prompt": "The capital of France is", "expected": " Paris"}
KEYS = {"prompt": "The keys", "compare": [" are", " is"]}


@pytest.fixture
def read(tmp_path):
    def read(content, name="mine.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_items(path)

    return read


def test_the_documented_form_is_read_in_order(read):
    assert read({"capitals": [PARIS], "agreement": [KEYS, {"prompt": "A", "expected": " b"}]}) == [
        Item("capitals", "The capital of France is", " Paris"),
        Item("agreement", "The keys", compare=(" are", " is")),
        Item("agreement", "A", " b"),
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"prompt": "1, 2,", "answer": 3}, Item("f", "1, 2,", "3")),
        ({"prompt": "1, 2, ", "expected": 3}, Item("f", "1, 2,", " 3")),
        ({"prompt": "Q:\n", "completion": ["A"], "id": 7}, Item("f", "Q:", "\nA")),
        ({"prompt": "a ", "target": " b"}, Item("f", "a", " b")),
        ({"prompt": "The keys ", "compare": ["are", "is"]}, Item("f", "The keys", compare=(" are", " is"))),
        ({"prompt": "x", "compare": {"worse": "2", "better": "1"}}, Item("f", "x", compare=("1", "2"))),
        ({"prompt": "x", "compare": {"good": "1", "bad": "2"}}, Item("f", "x", compare=("1", "2"))),
        ({"prompt": "He is in.", "compare": "He are in."}, Item("f", "", compare=("He is in.", "He are in."))),
        ({"sentence_good": "I am.", "sentence_bad": "I is."}, Item("f", "", compare=("I am.", "I is."))),
    ],
)
def test_forms_that_others_write_are_read(read, values, expected):
    assert read({"f": [values]}) == [expected]
    assert read([{"family": "f", **values}]) == [expected]
    assert read(json.dumps({"family": "f", **values}) + "\n\n", "other.jsonl") == [expected]


def test_items_without_a_family_take_the_name_of_the_file(read):
    assert read([PARIS], "geography.json")[0].family == "geography"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"mine\.json is not JSON"),
        ("3", r"holds a number; a mapping of families"),
        ({}, "holds no items"),
        ({"f": PARIS}, r"family 'f': a mapping was found; a list of items is expected"),
        ({"f": [PARIS, "x"]}, r"family 'f', item 2: a text was found; a mapping with a prompt"),
        ({"f": [{"prompt": 3, "expected": "x"}]}, r"item 1: \"prompt\" is a number"),
        ({"f": [{"prompt": "p", "expcted": "x"}]}, r"item 1: There is neither .* found prompt, expcted"),
        ({"f": [{"prompt": "p", "expected": "a", "answer": "b"}]}, "2 answers under several names"),
        ({"f": [{"prompt": "p", "expected": ["a", "b"]}]}, r"\"expected\" has a list of 2; one text"),
        ({"f": [{"prompt": "p", "expected": None}]}, "\"expected\" has nothing"),
        ({"f": [{"prompt": "p", "expected": ""}]}, "A continuation is empty"),
        ({"f": [{"prompt": "p", "compare": ["a"]}]}, r"\"compare\" is a list of 1; a list of the better"),
        ({"f": [{"prompt": "p", "compare": ["a", "a"]}]}, "the same, 'a'"),
        ({"f": [{"prompt": "p", "compare": ["a", "b"], "expected": "c"}]}, "not both"),
        ({"f": [{"prompt": " ", "expected": "c"}]}, "prompt of an item with \"expected\" is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_named_by_file_family_and_item(read, content, message):
    with pytest.raises(InterpError, match=message) as error:
        read(content)
    assert "mine.json" in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InterpError, match=r"Cannot read .*nowhere.json"):
        read_items(tmp_path / "nowhere.json")
