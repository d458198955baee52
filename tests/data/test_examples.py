"""Examples are read from every format, laid out as documented, and only completions are learned."""

import json

import numpy as np
import pandas as pd
import pytest

from interp.data.corpora.corpus import open_corpus
from interp.data.examples import TokenizedExamples, read_examples, tokenize_examples
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError
from interp.vocabulary import load_tokenizer, tokenizer_texts

PAIRS = [{"prompt": f"What is {n} + 1?", "completion": f" It is {n + 1}.", "level": n} for n in range(16)]
CHAT = [
    {"role": "system", "content": "Be short."}, {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye!"},
]  # fmt: skip


def written(folder, name, records):
    path = folder / name
    if name.endswith(".parquet"):
        pd.DataFrame(records).to_parquet(path)
    elif name.endswith((".csv", ".tsv")):
        pd.DataFrame(records).to_csv(
            path, index=False, sep=";" if name == "semicolons.csv" else "\t" * name.endswith("tsv") or ","
        )
    else:
        lines = [json.dumps(record) for record in records]
        path.write_text(json.dumps(records) if name.endswith(".json") else "\n".join(lines))
    return path


def shown(tokenizer, examples, n_ctx=200):
    """Every example as text, what is learned in brackets and the border as a bar."""
    found, texts = tokenize_examples(tokenizer, examples, n_ctx), []
    for end, length in zip(found.ends, found.lengths, strict=True):
        text, before = "", False
        own = (part[end - length : end].tolist() for part in (found.tokens, found.learned))
        for token, learned in zip(*own, strict=True):
            piece = "|" if token == found.padding else tokenizer.decode([token])
            text += ("[" if learned else "]") * (learned != before) + piece
            before = learned
        texts.append(text + "]" * before)
    return texts


@pytest.fixture(scope="module")
def bytewise():
    return train_tokenizer([""], 257)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "semicolons.csv", "a.tsv", "a.parquet"])
def test_prompts_with_completions_are_read_from_every_format_and_every_eighth_is_held_out(tmp_path, bytewise, name):
    path = written(tmp_path, name, PAIRS)
    assert shown(bytewise, read_examples(path))[3] == "|What is 3 + 1?[ It is 4.|]"
    kept = [[one.prompt for one in read_examples(path, split)] for split in ("train", "validation")]
    assert kept[1] == [PAIRS[7]["prompt"], PAIRS[15]["prompt"]]
    assert sorted(kept[0] + kept[1]) == sorted(record["prompt"] for record in PAIRS)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_a_chat_without_template_has_the_documented_layout_and_what_the_assistant_says_is_learned(
    tmp_path, bytewise, name
):
    [text] = shown(bytewise, read_examples(written(tmp_path, name, [{"messages": CHAT}])))
    assert text == "|System: Be short.\nUser: Hello\nAssistant:[ Hi|]\nUser: Bye\nAssistant:[ Bye!|]"


def test_a_tokenizers_chat_template_is_kept_with_it_and_lays_chats_out(tmp_path, bytewise):
    template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    (tmp_path / "tokenizer.json").write_text(tokenizer_texts(bytewise)["tokenizer.json"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    for name, text in tokenizer_texts(load_tokenizer(tmp_path)).items():
        (tmp_path / name).write_text(text)
    tokenizer = load_tokenizer(tmp_path)
    examples = read_examples(written(tmp_path, "a.jsonl", [{"messages": CHAT}, PAIRS[0]]))
    chat, pair = shown(tokenizer, examples)
    assert chat == (
        "|<system>Be short.</s>\n<user>Hello</s>\n<assistant>[Hi</s>\n]<user>Bye</s>\n<assistant>[Bye!</s>\n]"
    )
    assert pair == "|What is 0 + 1?[ It is 1.|]"
    (tmp_path / "chat_template.jinja").write_text("{{ messages|length }}{{ raise_exception('no chats') }}")
    with pytest.raises(InterpError, match=r"line 1: the tokenizer's chat template fails .*no chats"):
        tokenize_examples(load_tokenizer(tmp_path), examples, 100)
    (tmp_path / "chat_template.jinja").write_text("{{ messages|length }} said {{ messages[-1].content }}")
    with pytest.raises(InterpError, match="writes a message otherwise when another follows"):
        tokenize_examples(load_tokenizer(tmp_path), examples, 100)


def test_a_text_that_spells_the_border_does_not_forge_one(tmp_path, bytewise):
    records = [{"prompt": "<|endoftext|>\0\ud800", "completion": "<|endoftext|>"}]
    found = tokenize_examples(bytewise, read_examples(written(tmp_path, "a.jsonl", records)), 100)
    assert (found.tokens == found.padding).sum() == 2


def test_rows_are_padded_on_the_right_and_padding_is_not_learned(bytewise, tmp_path):
    records = [{"prompt": "a" * n, "completion": "b" * n} for n in (1, 5, 2, 3)]
    found = tokenize_examples(bytewise, read_examples(written(tmp_path, "a.jsonl", records)), 100)
    tokens, learned = found.rows(np.array([3, 1, 0]))
    for row, n in enumerate((3, 5, 1)):
        text = "".join("|" if token == found.padding else bytewise.decode([token]) for token in tokens[row])
        assert text == "|" + "a" * n + "b" * n + "|" * (11 - 2 * n)
        assert np.flatnonzero(learned[row]).tolist() == list(range(1 + n, 2 + 2 * n))
    assert len(found.first(4)) == 1 and len(found.first(16)) == 2 and len(found.first(10**6)) == 4
    other = TokenizedExamples(found.tokens, ~found.learned, found.ends, found.padding)
    assert found.digest() == found.first(10**6).digest() != other.digest()


def test_longer_examples_than_the_context_are_left_out_and_told(bytewise, tmp_path, capsys):
    records = [{"prompt": "a" * n, "completion": "b"} for n in (3, 30, 4)]
    examples = read_examples(written(tmp_path, "a.jsonl", records))
    assert len(tokenize_examples(bytewise, examples, 10)) == 2
    assert "1 of 3 examples are longer than 10 tokens and left out" in capsys.readouterr().err
    with pytest.raises(InterpError, match=r"All 3 examples are longer than the context of 4 tokens .*line 1, has 6"):
        tokenize_examples(bytewise, examples, 4)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "a"}, r"a.jsonl, line 1 has no 'completion'; .*the fields are prompt"),
        ({"text": "a"}, "has no 'prompt'"), ({"prompt": 3, "completion": "a"}, "the prompt is a int; text is expected"),
        ({"prompt": "a", "completion": ""}, "empty completion"), ({"messages": []}, "no list of messages"),
        ({"messages": [{"role": "user"}]}, "message 1 has no role and content"), ({"messages": ["a"]}, "message 1"),
        ({"messages": CHAT[:2]}, "no message of the role 'assistant'"),
    ],
)  # fmt: skip
def test_a_record_that_lacks_something_is_named(tmp_path, record, message):
    with pytest.raises(InterpError, match=message):
        read_examples(written(tmp_path, "a.jsonl", [record]))


def test_who_takes_examples_for_texts_is_told_of_the_option(tmp_path):
    with pytest.raises(InterpError, match=r"no column 'text'.* or train on completions with --examples"):
        open_corpus(written(tmp_path, "a.jsonl", PAIRS))


def test_no_such_file_another_format_and_too_few_examples_are_refused(tmp_path):
    with pytest.raises(InterpError, match="neither a file, a folder"):
        read_examples(tmp_path / "gone.jsonl")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InterpError, match=r"the ending '.txt'; a corpus file ends in .jsonl"):
        read_examples(tmp_path / "a.txt")
    with pytest.raises(InterpError, match="of which none is in the split 'validation'"):
        read_examples(written(tmp_path, "a.jsonl", PAIRS[:5]), "validation")
