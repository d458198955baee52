import os
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from interp.analysis.accumulators import GroupedSums
from interp.analysis.resume import ResumeFile
from interp.analysis.saving import save_tables
from interp.data.contexts import Block
from interp.data.shards.file import write_shard
from interp.data.spacy_pipelines import load_pipeline, tag
from interp.data.tagging.pool import TagCache
from interp.errors import InterpError, nearest
from interp.files import check_writable, owning, sweep, writing
from interp.model.checkpoint import save_checkpoint
from interp.page.document import write_page
from interp.replicate.jobs import write_json
from tests import commands


def test_a_file_takes_its_place_only_when_it_is_whole(tmp_path):
    place = tmp_path / "new" / "table.csv"
    with writing(place) as path:
        path.write_text("whole")
        assert not place.exists()
    assert place.read_text() == "whole"
    with pytest.raises(ValueError, match="in the middle"), writing(place) as path:
        path.write_text("half")
        raise ValueError("in the middle")
    assert place.read_text() == "whole"
    assert list(place.parent.iterdir()) == [place]


def test_files_are_as_the_umask_says_also_those_that_their_library_makes_private(tmp_path):
    before = os.umask(0o022)
    try:
        with writing(tmp_path / "folder") as path:
            (path / "deep").mkdir(parents=True)
            save_file({"a": torch.zeros(1)}, path / "deep" / "model.safetensors")
        with writing(tmp_path / "table.csv") as path:
            path.touch(0o600)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {"model.safetensors": 0o644, "table.csv": 0o644}


WRITERS = {
    "a checkpoint": lambda place, model: save_checkpoint(model, place),
    "tables": lambda place, _: save_tables(place, {"one": pd.DataFrame({"a": [1]})}, {}, csv=["one"]),
    "shards": lambda place, _: [write_shard(place / name, np.zeros(3, np.uint16)) for name in ("a.bin", "a.npy")],
    "a page": lambda place, _: write_page("<p>", place / "page.html"),
    "tags": lambda place, _: TagCache(place, "").write("A fox.", tag(load_pipeline("blank:en"), "A fox.")),
    "partial sums": lambda place, _: ResumeFile(place, {}, every_seconds=0).save(Block(), GroupedSums(1, 1, 2)),
    "a result of replicate": lambda place, _: write_json(place / "measured.json", {"a": 1}),
    "an owned folder": lambda place, _: owned(place),
}


def owned(place):
    kept = owning(place)
    kept.__enter__()
    return kept  # and not given back before it is looked at


@pytest.mark.parametrize("what", WRITERS)
def test_whatever_is_written_may_be_read_by_others_as_the_umask_says(tmp_path, make_model, what):
    before = os.umask(0o022)
    try:
        kept = WRITERS[what](tmp_path / "place", make_model())
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "place").rglob("*") if path.is_file()}
    assert modes and set(modes.values()) == {0o644}, (kept, modes)


def test_the_files_of_a_folder_replace_those_of_the_same_name_and_leave_others(tmp_path):
    place = tmp_path / "folder"
    for number, names in enumerate((("a", "b", "deep/d"), ("b", "c", "deep/e"))):
        with writing(place) as path:
            for name in names:
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_text(f"{name}{number}")
    written = {str(p.relative_to(place)): p.read_text() for p in place.rglob("*") if p.is_file()}
    assert written == {"a": "a0", "b": "b1", "c": "c1", "deep/d": "deep/d0", "deep/e": "deep/e1"}
    assert list(tmp_path.iterdir()) == [place]


def test_whether_a_place_can_be_written_is_known_before_and_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("x")
    check_writable(tmp_path / "file")
    check_writable(tmp_path, folder=True)
    check_writable(tmp_path / "new" / "page.html")
    for place, folder, told in (
        (tmp_path, False, "it is not a file"), (tmp_path / "file", True, "it is not a folder"),
        (tmp_path / "file" / "page.html", False, "choose a folder that can be written"),
    ):  # fmt: skip
        with pytest.raises(InterpError, match=f"Cannot write .*{told}"):
            check_writable(place, folder)
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "new"}


FULL = {
    "a tokenizer": (
        "from interp.vocabulary import load_tokenizer, tokenizer_texts\n"
        "texts = tokenizer_texts(load_tokenizer('checkpoints/tiny-bq'))\n"
        "with writing(place) as path: path.write_text(texts['tokenizer.json'])"
    ),
    "partial sums": (
        "import torch; from interp.analysis.resume import ResumeFile; from interp.data.contexts import Block\n"
        "class Sums: state = lambda self: {'a': torch.zeros(10**6)}\n"
        "ResumeFile(place, {}, every_seconds=0).save(Block(), Sums())"
    ),
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_told_in_one_sentence_by_whatever_library_writes(tmp_path, what):
    code = f"""
import sys; from interp.errors import InterpError; from interp.files import writing
place = sys.argv[1]
try:
    exec({FULL[what]!r})
except InterpError as error:
    sys.exit(str(error))
"""
    place = tmp_path / "place"
    ended = commands.run([sys.executable, "-c", code, str(place)], limits={resource.RLIMIT_FSIZE: (10_000, 10_000)})
    assert ended.returncode == 1 and ended.stderr.startswith(f"Cannot write {place}"), ended.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    code = (
        "import os, signal, sys; from interp.files import writing\n"
        "with writing(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "table.csv")])
    (tmp_path / "other").write_text("stays")
    assert len(list(tmp_path.iterdir())) == 2
    sweep(tmp_path / "table.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InterpError, match=r"Cannot write .*file/child"), writing(tmp_path / "file" / "child") as path:
        path.write_text("never")
    with pytest.raises(InterpError, match="No space left"), writing(tmp_path / "full"):
        raise OSError(28, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_nearest_name_is_suggested_only_if_it_is_near():
    assert nearest("hook_patern", ["hook_pattern", "hook_z"]) == "; did you mean 'hook_pattern'?"
    assert nearest("xyz", ["hook_pattern"]) == "."
