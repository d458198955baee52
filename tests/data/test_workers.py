"""Processes that tokenize: one that dies, and ones that are no longer needed."""

from itertools import count

import pytest

from interp.data import tokenizer as tokenizing
from interp.data.corpora.corpus import Document, Place
from interp.data.workers import WorkerPool
from interp.errors import InterpError


def test_a_tokenizing_process_that_dies_is_one_clear_sentence(tmp_path, tokenizer):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with WorkerPool("tokenizing", "interp.data.tokenizer", str(tmp_path / "tokenizer.json"), 1) as processes:
        assert processes.submit(["two words"]).result()[1].tolist() == [len(tokenizer.encode("two words")) + 1]
        processes.started[0].kill()
        with pytest.raises(InterpError, match=r"tokenizing process ended unexpectedly.*workers=0"):
            processes.ask(["more"])


@pytest.mark.slow
def test_closing_the_iterator_early_stops_the_processes(tmp_path, tokenizer, monkeypatch):
    pools = []

    class Recorded(WorkerPool):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(tokenizing, "WorkerPool", Recorded)
    monkeypatch.setattr(tokenizing, "CHUNK_DOCUMENTS", 1)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    documents = ((Place(number, number), Document("", "some text")) for number in count(1))
    tokens = tokenizing.tokenize(tmp_path / "tokenizer.json", documents, 2)
    assert next(tokens)[0] == Place(1, 1)
    tokens.close()
    (pool,) = pools
    assert pool.started
    assert all(process.poll() is not None for process in pool.started)
