"""Examples to fine-tune on: prompts with completions, or chats; which of their tokens are to be learned."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64
from transformers import PreTrainedTokenizerFast

from interp.data.corpora.corpus import encodable, existing, split_of
from interp.data.corpora.formats import read_records
from interp.data.corpora.hugging_face import PREFIX, read_rows
from interp.data.tokenizer import encode_parts
from interp.errors import InterpError, few
from interp.options import say
from interp.vocabulary import NOT_SPLIT, border_id, library_errors

FIELDS = ["prompt", "completion", "messages"]
LAYOUT = "{role}: {content}"
"""How a message of a chat stands in a text, for a tokenizer without a chat template; a newline stands between two."""


class Message(NamedTuple):
    """What one side of a chat says."""

    role: str  # system, user, assistant; what the assistant says is to be learned
    content: str


@dataclass(frozen=True)
class Example:
    """A prompt with its completion, or a chat."""

    place: str  # as messages name it
    prompt: str = ""
    completion: str = ""
    messages: tuple[Message, ...] = ()

    @property
    def text(self) -> str:
        """All of it, to train a tokenizer on."""
        if self.messages:
            return "".join(text for text, _ in _plain(self.messages))
        return self.prompt + self.completion


@dataclass(frozen=True)
class TokenizedExamples:
    """Tokens of examples, one after the other."""

    tokens: Int64[np.ndarray, " token"]
    learned: Bool[np.ndarray, " token"]  # which are predicted in the loss
    ends: Int64[np.ndarray, " example"]  # behind the last token of each
    padding: int  # the token that fills up a row

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Int64[np.ndarray, " example"]:
        """Tokens of each example."""
        return np.diff(self.ends, prepend=0)

    def rows(
        self, numbers: Int64[np.ndarray, " row"]
    ) -> tuple[Int64[np.ndarray, "row pos"], Bool[np.ndarray, "row pos"]]:
        """Return tokens of some examples, one a row, and which are learned; padded on the right to the longest."""
        lengths = self.lengths[numbers]
        places = np.arange(lengths.max(initial=1))[None] + (self.ends[numbers] - lengths)[:, None]
        real = np.arange(places.shape[1])[None] < lengths[:, None]
        places = np.where(real, places, 0)
        return np.where(real, self.tokens[places], self.padding), self.learned[places] & real

    def first(self, tokens: int) -> TokenizedExamples:
        """Return the first examples of at most so many tokens, at least one."""
        count = max(1, int(np.searchsorted(self.ends, tokens, side="right")))
        ends = self.ends[:count]
        return TokenizedExamples(self.tokens[: ends[-1]], self.learned[: ends[-1]], ends, self.padding)

    def digest(self) -> str:
        """Return "12 examples, sha256 ..." of all there is."""
        found = hashlib.sha256()
        for values in (self.tokens, self.learned.astype(np.int64), self.ends):
            found.update(values.astype("<i8").tobytes())
        return f"{len(self):,} examples, sha256 {found.hexdigest()[:16]}"


def read_examples(corpus: str | Path, split: Literal["all", "train", "validation"] = "all") -> list[Example]:
    """Return the examples of a corpus, in its order.

    A record is ``{"prompt": ..., "completion": ...}``, or ``{"messages": [{"role": ..., "content": ...}, ...]}``; other
    fields are ignored.

    Args:
        corpus: a .jsonl, .json, .csv, .tsv or .parquet file, or a folder of those; "hf:NAME[:CONFIG][:SPLIT]".
        split: "validation" is every eighth example, "train" the other seven.

    Raises:
        InterpError: no such corpus, a record that lacks a field or has nothing to learn, or no example in the split.
    """
    examples = [_example(place, record) for place, record in _records(corpus)]
    kept = [one for index, one in enumerate(examples) if split in ("all", split_of(index))]
    if not kept:
        raise InterpError(
            f"The corpus {corpus} has {len(examples)} examples, of which none is in the split {split!r}: every eighth is "
            "held out; give at least 8."
        )
    return kept


def tokenize_examples(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], n_ctx: int) -> TokenizedExamples:
    """Tokenize examples: a border before each; after each completion, and what an assistant says, a border that is learned.

    Prompt and completion are tokenized apart, so that what stands before a completion does not depend on it. A chat is
    laid out by the tokenizer's chat template, if it has one, and by `LAYOUT` otherwise: "User: Hello" newline "Assistant:
    Hi" border newline and so on. Examples of more than n_ctx tokens are left out, of which a line tells.

    Raises:
        InterpError: all are longer than n_ctx, or a chat template fails.
    """
    border = border_id(tokenizer)
    template = isinstance(tokenizer.chat_template, str)
    rows = [
        _by_template(tokenizer, one) if one.messages and template else _ended(own, border)
        for one, own in zip(examples, _encoded(tokenizer, examples, template), strict=True)
    ]
    rows = [row if row[0][:1] == [border] else ([border, *row[0]], [False, *row[1]]) for row in rows]
    fitting = [row for row in rows if len(row[0]) <= n_ctx]
    if len(fitting) < len(rows):
        number = next(number for number, row in enumerate(rows) if len(row[0]) > n_ctx)
        told = f"{examples[number].place}, has {len(rows[number][0])}"
        if not fitting:
            raise InterpError(
                f"All {len(rows)} examples are longer than the context of {n_ctx} tokens (the first, {told}); use a "
                "longer --context."
            )
        say(f"{len(rows) - len(fitting)} of {len(rows):,} examples are longer than {n_ctx} tokens and left out: {told}")
    return TokenizedExamples(
        np.array([token for row in fitting for token in row[0]], dtype=np.int64),
        np.array([learned for row in fitting for learned in row[1]], dtype=bool),
        np.cumsum([len(row[0]) for row in fitting], dtype=np.int64),
        border,
    )


Row = tuple[list[int], list[bool]]  # tokens, and whether each is learned


def _records(corpus: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    hub = isinstance(corpus, str) and corpus.startswith(PREFIX)
    for _, place, record in read_rows(str(corpus)) if hub else read_records(existing(corpus), FIELDS):
        if record:  # an empty line of a CSV has no fields
            yield place, record


def _example(place: str, record: Mapping[str, Any]) -> Example:
    if record.get("messages") is not None:
        return Example(place, messages=_messages(place, record["messages"]))
    missing = [name for name in FIELDS[:2] if record.get(name) is None]
    if missing:
        raise InterpError(
            f"{place} has no {missing[0]!r}; an example has a prompt and a completion, or messages, and the fields are "
            f"{few([str(name) for name in record])}."
        )
    for name in FIELDS[:2]:
        if not isinstance(record[name], str):
            raise InterpError(f"{place}: the {name} is a {type(record[name]).__name__}; text is expected.")
    if not record["completion"]:
        raise InterpError(f"{place} has an empty completion, and so nothing to learn; give it one or leave it out.")
    return Example(place, encodable(record["prompt"]), encodable(record["completion"]))


def _messages(place: str, found: Any) -> tuple[Message, ...]:
    if not isinstance(found, list) or not found:
        raise InterpError(f"{place}: the messages are no list of messages; each has a role and a content.")
    messages = []
    for number, one in enumerate(found, start=1):
        role, content = (one.get(name) if isinstance(one, Mapping) else None for name in Message._fields)
        if not isinstance(role, str) or not isinstance(content, str) or not role:
            raise InterpError(
                f"{place}, message {number} has no role and content, both texts; every message needs them."
            )
        messages.append(Message(role, encodable(content)))
    if not any(message.role == "assistant" and message.content for message in messages):
        raise InterpError(f"{place} has no message of the role 'assistant', and so nothing to learn; leave it out.")
    return tuple(messages)


def _plain(messages: Sequence[Message]) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a chat without a template, and whether each is learned."""
    for number, (role, content) in enumerate(messages):
        before, after = ("\n" * (number > 0) + LAYOUT).replace("{role}", role.capitalize()).split("{content}")
        if role == "assistant":
            yield before.rstrip(" "), False
            yield f" {content}{after}", True
        else:
            yield f"{before}{content}{after}", False


def _encoded(
    tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], template: bool
) -> Iterator[list[tuple[list[int], bool]]]:
    """Yield the tokens of the parts of every example that no template lays out, and whether each part is learned."""
    parts = [
        ([] if template else list(_plain(one.messages))) if one.messages else
        [(one.prompt, False), (one.completion, True)]
        for one in examples
    ]  # fmt: skip
    tokens = iter(encode_parts(tokenizer, [text for own in parts for text, _ in own]))
    for own in parts:
        yield [(next(tokens), learned) for _, learned in own]


def _ended(parts: list[tuple[list[int], bool]], border: int) -> Row:
    rows = [([border], False), *((tokens + [border] * learned, learned) for tokens, learned in parts)]
    return [t for tokens, _ in rows for t in tokens], [learned for tokens, learned in rows for _ in tokens]


def _by_template(tokenizer: PreTrainedTokenizerFast, example: Example) -> Row:
    """Lay a chat out by the tokenizer's template; what it adds for a message of the assistant is learned.

    Special tokens that the template writes are tokens. So are, as everywhere in chats, those that a message spells out.
    """
    messages, texts, learned = [message._asdict() for message in example.messages], [""], [False]
    for number, message in enumerate(example.messages):
        if message.role == "assistant":
            prompt = _rendered(tokenizer, messages[:number], example, add_generation_prompt=True)
            whole = _rendered(tokenizer, messages[: number + 1], example)
            known = "".join(texts)
            if not prompt.startswith(known) or not whole.startswith(prompt):
                raise InterpError(
                    f"{example.place}: the tokenizer's chat template writes a message otherwise when another follows, so "
                    "that what is to be learned cannot be told; give prompts with completions."
                )
            texts += [prompt[len(known) :], whole[len(prompt) :]]
            learned += [False, True]
    with library_errors(*NOT_SPLIT):
        encodings = tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    ids = [encoding.ids for encoding in encodings]
    flat = [own for tokens, own in zip(ids, learned, strict=True) for _ in tokens]
    return [token for tokens in ids for token in tokens], flat


def _rendered(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]], example: Example, **options: Any
) -> str:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except Exception as error:  # of the template, which may raise whatever it likes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InterpError(f"{example.place}: the tokenizer's chat template fails ({reason}).") from error
