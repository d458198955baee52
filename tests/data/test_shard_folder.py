"""A folder of shards survives kills, full disks and other settings, and says when it is damaged."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from itertools import count

import numpy as np
import pytest

from interp.data import tokenizing
from interp.data.corpus import Document, Place
from interp.data.prepare import prepare
from interp.data.prepare_config import PrepareConfig
from interp.data.processes import Processes
from interp.data.shard_folder import shard_folder
from interp.data.shards import open_shards, tokenizer_of
from interp.data.verify import verify
from interp.errors import InterpError

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def write_corpus(path, documents):
    choose = random.Random(0)
    words = ["rain", "and", "snow", "in", "1905", "London"]
    lines = [json.dumps({"text": " ".join(choose.choices(words, k=choose.randint(5, 60)))}) for _ in range(documents)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", 100)


def command(corpus, folder, *more):
    options = ("--vocabulary", "280", "--shard-tokens", "200", "--workers", "0", *more)
    return [sys.executable, "-m", "interp.data", "prepare", str(corpus), str(folder), *options]


def run(corpus, folder, *more, **options):
    return subprocess.run(command(corpus, folder, *more), env=ENVIRONMENT, capture_output=True, text=True, **options)


def make(corpus, folder, **settings):
    return prepare(
        PrepareConfig(str(corpus), folder, **{"vocabulary": 280, "workers": 0, "shard_tokens": 200, **settings})
    )


def contents(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != ".lock"}


def shards_in(folder):
    try:
        return len(json.loads((folder / "manifest.json").read_text())["shards"])
    except OSError:
        return -1


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(tmp_path):
    corpus = write_corpus(tmp_path / "corpus.jsonl", 600)
    whole = contents(make(corpus, tmp_path / "whole"))
    folder, choose = tmp_path / "killed", random.Random(7)
    kills = []
    for until in (-1, 0, 20, 40, 70):  # finished shards to wait for before the next kill, -1: no manifest yet
        process = subprocess.Popen(
            command(corpus, folder, "--workers", str(choose.choice([0, 1]))), env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
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
    assert "error: Another process is preparing" in done.stderr
    with shard_folder(tmp_path / "shards", settings, False):
        pass


def test_a_full_disk_is_one_clear_sentence_and_loses_nothing(tmp_path):
    corpus, folder = write_corpus(tmp_path / "corpus.jsonl", 300), tmp_path / "shards"

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))

    done = run(corpus, folder, preexec_fn=little_room)  # the manifest grows beyond it
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
    process = subprocess.Popen(command(corpus, tmp_path / "shards"), env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and shards_in(tmp_path / "shards") < 3:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "shards are finished, and the same command goes on after them" in said
    assert "Traceback" not in said


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def cut(file, place):
    file.write_bytes(file.read_bytes()[:place])


def beyond(file, place):
    content = bytearray(file.read_bytes())
    content[place : place + 2] = np.uint16(300).tobytes()
    file.write_bytes(content)


DAMAGE = {
    "a flipped bit": ("train-000002.bin", lambda file: flip(file, 1100), r"train-000002\.bin is damaged: its checksum"),
    "cut short": ("train-000002.bin", lambda file: cut(file, 1100), r"train-000002\.bin ends at byte 1100"),
    "an id too large": (
        "train-000000.bin",
        lambda file: beyond(file, 1034),
        r"holds the token id 300 at position 5; the .* has \d+ entries",
    ),
    "a missing shard": ("validation-000001.bin", lambda file: file.unlink(), r"validation-000001\.bin is missing, but"),
    "another tokenizer": ("tokenizer.json", lambda file: cut(file, 500), r"tokenizer\.json is missing or not the one"),
    "no tokenizer": ("tokenizer.json", lambda file: file.unlink(), r"tokenizer\.json is missing or not the one"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(corpus, tmp_path, name):
    folder = make(corpus, tmp_path / "shards")
    file, damage, message = DAMAGE[name]
    damage(folder / file)
    (problem,) = verify(folder)
    with pytest.raises(InterpError, match=message):
        raise InterpError(problem)


def test_opening_finds_what_can_be_found_without_reading_tokens(corpus, tmp_path):
    folder = make(corpus, tmp_path / "shards")
    (folder / "train-000001.bin").write_bytes((folder / "train-000000.bin").read_bytes())
    with pytest.raises(InterpError, match=r"train-000001\.bin holds \d+ tokens, manifest\.json says \d+"):
        open_shards(folder, "train")
    (folder / "train-000001.bin").unlink()
    with pytest.raises(InterpError, match=r"train-000001\.bin is missing"):
        open_shards(folder, "train")
    assert len(open_shards(folder, "validation")) > 100
    cut(folder / "tokenizer.json", 300)
    with pytest.raises(InterpError, match=r"tokenizer\.json is missing or not the tokenizer the shards were made with"):
        tokenizer_of(folder)


def broken(change):
    def write(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps(change(manifest)))

    return write


MANIFESTS = {
    "no JSON": (lambda folder: cut(folder / "manifest.json", 100), "cannot be read as JSON"),
    "a list": (broken(lambda m: [m]), "holds a JSON list; expected a manifest"),
    "another kind": (broken(lambda m: {**m, "kind": "ships"}), "is not a manifest of token shards"),
    "a newer format": (broken(lambda m: {**m, "format": 2}), "has format 2; this version reads 1: install a newer"),
    "a missing key": (broken(lambda m: {k: v for k, v in m.items() if k != "shards"}), r"is damaged \('shards'\)"),
    "an unknown key": (broken(lambda m: {**m, "colour": 1}), r"is damaged \(.*colour.*\); prepare the shards again"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_one_clear_sentence(corpus, tmp_path, name):
    folder = make(corpus, tmp_path / "shards")
    damage, message = MANIFESTS[name]
    damage(folder)
    with pytest.raises(InterpError, match=message):
        verify(folder)


def test_the_commands_print_verdicts_and_exit_statuses(corpus, tmp_path):
    folder = tmp_path / "shards"
    done = run(corpus, folder)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder)), done.stderr
    verifying = [sys.executable, "-m", "interp.data", "verify", str(folder)]
    good = subprocess.run(verifying, env=ENVIRONMENT, capture_output=True, text=True)
    assert (good.returncode, good.stdout.strip()) == (0, f"{folder} is complete and whole")
    flip(folder / "train-000002.bin", 1100)
    (folder / "tokenizer.json").unlink()
    bad = subprocess.run(verifying, env=ENVIRONMENT, capture_output=True, text=True)
    assert bad.returncode == 1
    assert "tokenizer.json is missing" in bad.stderr
    assert "train-000002.bin is damaged" in bad.stderr
    assert f"error: {folder} has 2 faults" in bad.stderr


def test_help_teaches_by_example():
    for name in ("prepare", "verify"):
        command = [sys.executable, "-m", "interp.data", name, "--help"]
        shown = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True).stdout
        assert f"{name} " in shown
        assert "shards/wikipedia" in shown


def test_a_tokenizing_process_that_dies_is_one_clear_sentence(tmp_path, tokenizer, monkeypatch):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    with Processes("tokenizing", "interp.data.token_worker", str(tmp_path / "tokenizer.json"), 1) as processes:
        assert processes.submit(["two words"]).result()[1].tolist() == [len(tokenizer.encode("two words")) + 1]
        processes.started[0].kill()
        with pytest.raises(InterpError, match=r"tokenizing process ended unexpectedly.*workers=0"):
            processes.ask(["more"])


def test_closing_the_iterator_early_stops_the_processes(tmp_path, tokenizer, monkeypatch):
    pools = []

    class Recorded(Processes):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            pools.append(self)

    monkeypatch.setattr(tokenizing, "Processes", Recorded)
    monkeypatch.setattr(tokenizing, "CHUNK_DOCUMENTS", 1)
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    documents = ((Place(number, number), Document("", "some text")) for number in count(1))
    tokens = tokenizing.tokenize(tmp_path / "tokenizer.json", documents, 2)
    assert next(tokens)[0] == Place(1, 1)
    tokens.close()
    (pool,) = pools
    assert pool.started
    assert all(process.poll() is not None for process in pool.started)
