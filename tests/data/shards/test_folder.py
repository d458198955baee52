"""A folder of shards survives kills, full disks and other settings."""

import json
import os
import random
import resource
import signal
import time

import pytest

from interp.data.shards.config import PrepareConfig
from interp.data.shards.folder import shard_folder
from interp.data.shards.manifest import verify
from interp.data.shards.open import open_shards
from interp.errors import InterpError
from tests import commands
from tests.data.folders import ENVIRONMENT, command, contents, flip, make, run, shards_in, write_corpus


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", 100)


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", 600)
    whole = contents(make(corpus, tmp_path / "whole"))
    folder, choose = tmp_path / "killed", random.Random(7)
    kills = []
    for until in (-1, 0, 20, 40, 70):  # finished shards to wait for before the next kill, -1: no manifest yet
        process = commands.start(command(corpus, folder, "--workers", str(choose.choice([0, 1]))), env=ENVIRONMENT)
        while process.poll() is None and shards_in(folder) < until:
            time.sleep(0.001)
        time.sleep(choose.uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
        kills.append(shards_in(folder))
    assert kills[-1] < len(whole) - 2
    assert kills == sorted(kills)
    done = run(corpus, folder, "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert f"going on after {kills[-1]} shards" in done.stderr
    assert contents(folder) == whole
    assert [file.name for file in folder.glob(".*")] == [".lock"], "nothing half-written is left"
    assert verify(folder) == []


def test_what_a_kill_between_shard_and_manifest_leaves_is_made_again(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards")
    whole = contents(folder)
    manifest = json.loads(whole["manifest.json"])
    for kept in (0, 1, 9):
        shortened = {**manifest, "shards": manifest["shards"][:kept], "complete": False}
        (folder / "manifest.json").write_text(json.dumps(shortened))
        (folder / "train-000070.bin").write_bytes(b"stale")
        assert any("not complete" in problem for problem in verify(folder))
        with pytest.raises(InterpError, match=rf"not complete \({kept} are finished\); run the `interp.data prepare`"):
            open_shards(folder, "train")
        make(corpus, folder)
        assert contents(folder) == whole


def test_a_finished_folder_is_verified_and_left_alone(corpus, tmp_path, capsys):
    folder = make(corpus, tmp_path / "shards")
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if file.name != ".lock"}
    make(corpus, folder, workers=2)
    assert "already complete: " in capsys.readouterr().err
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir() if file.name != ".lock"} == before
    flip(folder / "train-000003.bin", 1030)
    with pytest.raises(InterpError, match=r"complete and is damaged: .*train-000003\.bin .*Use --overwrite"):
        make(corpus, folder)
    make(corpus, folder, overwrite=True)
    assert verify(folder) == []


def test_other_settings_are_refused_with_the_difference_unless_told_to_overwrite(corpus, tmp_path, tokenizer):
    folder = make(corpus, tmp_path / "shards")
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    changes = [
        ({"shard_tokens": 300}, r"\(shard_tokens was 200, is 300\); use the same ones, .* or --overwrite them"),
        ({"vocabulary": 290}, "vocabulary was 280, is 290"),
        (
            {"tokenizer": str(tmp_path / "tokenizer.json")},
            "tokenizer was None, is sha256 [0-9a-f]{16}; vocabulary was 280",
        ),
        ({"text_field": "n"}, "text_field was text, is n"),
    ]
    before = contents(folder)
    for change, message in changes:
        with pytest.raises(InterpError, match=message):
            make(corpus, folder, **change)
    with corpus.open("a") as file:
        file.write('\n{"text": "one more"}')
    with pytest.raises(InterpError, match=r"corpus_files was 1 files of \d+ bytes"):
        make(corpus, folder)
    assert contents(folder) == before
    make(corpus, folder, overwrite=True, shard_tokens=5000)
    assert contents(folder) == contents(make(corpus, tmp_path / "fresh", shard_tokens=5000))


def test_fewer_documents_than_before_are_other_settings_and_so_are_more(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards", documents=40)
    for documents in (None, 50):
        with pytest.raises(InterpError, match=rf"documents was 40, is {documents}"):
            make(corpus, folder, documents=documents)


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("where", ["a file", "a folder"])
def test_an_edit_of_equal_size_is_noticed(tmp_path, where, finished):
    (tmp_path / "texts").mkdir()
    file = write_corpus(tmp_path / "texts" / "corpus.jsonl", 60)
    corpus = file if where == "a file" else file.parent
    folder = make(corpus, tmp_path / "shards")
    if not finished:
        manifest = json.loads((folder / "manifest.json").read_text())
        shortened = {**manifest, "shards": manifest["shards"][:3], "complete": False}
        (folder / "manifest.json").write_text(json.dumps(shortened))
    text = file.read_text()
    file.write_text(text.replace("rain", "hail", 1))
    with pytest.raises(
        InterpError, match=r"\(corpus_sha256 was \w{16}, is \w{16}\); use the same ones, .*--overwrite them"
    ):
        make(corpus, folder)
    file.write_text(text)  # its time of change is another, its text is not
    make(corpus, folder)


def test_shards_of_before_without_a_checksum_of_their_texts_are_gone_on_with(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["settings"]["corpus_sha256"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    make(corpus, folder)


def test_a_run_that_failed_before_the_first_shard_can_be_corrected(corpus, tmp_path):
    with pytest.raises(InterpError, match=r"vocabulary of 100 is too small"):
        make(corpus, tmp_path / "shards", vocabulary=100)
    assert verify(make(corpus, tmp_path / "shards")) == []


def test_a_folder_of_other_things_is_left_alone_unless_told_to_overwrite(corpus, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(InterpError, match=r"holds other things \(thesis\.txt, \.\.\.\).*choose another folder"):
        make(corpus, folder)
    assert [file.name for file in folder.iterdir()] == ["thesis.txt"]
    make(corpus, folder, overwrite=True)
    assert (folder / "thesis.txt").read_text() == "precious"
    with pytest.raises(InterpError, match=r"thesis\.txt is a file; give a folder"):
        make(corpus, folder / "thesis.txt")
    with pytest.raises(InterpError, match=r"Cannot write .*thesis\.txt/below"):
        make(corpus, folder / "thesis.txt" / "below")


def test_two_processes_cannot_have_one_folder(corpus, tmp_path):
    settings = PrepareConfig(str(corpus), tmp_path / "shards", vocabulary=280).settings()
    with shard_folder(tmp_path / "shards", settings, False):
        done = run(corpus, tmp_path / "shards")
    assert done.returncode == 1
    assert f"shards is being written by process {os.getpid()} on " in done.stderr
    with shard_folder(tmp_path / "shards", settings, False):
        pass


def test_a_full_disk_is_one_clear_sentence_and_loses_nothing(tmp_path):
    corpus, folder = write_corpus(tmp_path / "corpus.jsonl", 300), tmp_path / "shards"
    done = run(corpus, folder, limits={resource.RLIMIT_FSIZE: (12_000, 12_000)})  # the manifest grows beyond it
    assert done.returncode == 1
    assert "error: Cannot write" in done.stderr
    assert "File too large" in done.stderr
    kept = shards_in(folder)
    assert f"{kept} shards are finished, and the same command goes on after them" in done.stderr
    assert kept > 10
    done = run(corpus, folder)
    assert f"going on after {kept} shards" in done.stderr
    assert contents(folder) == contents(make(corpus, tmp_path / "whole"))


def test_ctrl_c_says_how_to_go_on(corpus, tmp_path):
    process = commands.start(command(corpus, tmp_path / "shards"), env=ENVIRONMENT)
    while process.poll() is None and shards_in(tmp_path / "shards") < 3:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "shards are finished, and the same command goes on after them" in said
    assert "Traceback" not in said
