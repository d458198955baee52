"""Nothing of a foreign file is run: each attack works on Python's own pickle, and leaves no trace here."""

import functools
import io
import os
import pickle
import runpy
import subprocess
import sys
import zipfile
from collections import OrderedDict
from dataclasses import dataclass, make_dataclass

import pytest
import torch

from interp.errors import InterpError
from interp.model.foreign.formats import read_foreign
from interp.model.foreign.source import InertConfig, read_pickled
from tests.model.foreign.release import Release


@dataclass
class Calls:
    """Pickles as a call of a function."""

    function: object
    arguments: tuple

    def __reduce__(self):
        return self.function, self.arguments


def touch(mark):
    return f"open({str(mark)!r}, 'w').close()"


def script(mark):
    path = mark.with_suffix(".py")
    path.write_text(touch(mark))
    return str(path)


def inner_file(mark):
    """A file whose reading without weights_only runs code."""
    path = mark.with_suffix(".inner")
    torch.save(Calls(exec, (touch(mark),)), path)
    return str(path)


ATTACKS = {
    "os.system": lambda mark: Calls(os.system, (f"touch '{mark}'",)),
    "builtins.eval": lambda mark: Calls(eval, (touch(mark),)),
    "builtins.exec": lambda mark: Calls(exec, (touch(mark),)),
    "subprocess": lambda mark: Calls(subprocess.check_call, (["touch", str(mark)],)),
    "an open file": lambda mark: Calls(open, (str(mark), "w")),
    "a script": lambda mark: Calls(runpy.run_path, (script(mark),)),
    "a partial": lambda mark: Calls(functools.partial(exec, touch(mark)), ()),
    "a method by getattr": lambda mark: Calls(mark.touch, ()),
    "an inner file": lambda mark: Calls(functools.partial(torch.load, weights_only=False), (inner_file(mark),)),
}  # fmt: skip
PLACES = {
    "the whole file": lambda attack: attack,
    "beside the weights": lambda attack: Release().checkpoint(extra=attack),
    "in the config": lambda attack: Release().checkpoint() | {"config": {"n_head": 3, "n_layer": attack}},
    "among the weights": lambda attack: {"model": {"transformer.h.0.sa.c_attn.weight": attack}},
    "in an ordered dictionary's state": lambda attack: OrderedDict(model=[(1, {"x": attack})]),
}


def written(path, content, kind):
    if kind == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=4))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def run_unsafely(path, kind):
    """What somebody would do who trusts the file; attacks may end in errors of their own."""
    try:
        if kind == "pickle":
            pickle.loads(path.read_bytes())
        else:
            torch.load(path, weights_only=False)
    except Exception:
        return


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_file_that_tries_to_run_code_is_refused_and_nothing_ran(tmp_path, attack, kind):
    mark = tmp_path / "mark"
    path = written(tmp_path / "model.pt", Release().checkpoint(extra=attack(mark)), kind)
    for read in (read_foreign, read_pickled):
        with pytest.raises(InterpError) as error:
            read(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
        assert not mark.exists()
    run_unsafely(path, kind)
    assert mark.exists(), "this attack does nothing, so refusing it proves nothing"


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_code_is_refused_wherever_it_stands(tmp_path, place):
    mark = tmp_path / "mark"
    path = written(tmp_path / "model.pt", place(Calls(exec, (touch(mark),))), "zip")
    with pytest.raises(InterpError, match=r"names exec, which is no part of a model .*; nothing of the file was run"):
        read_foreign(path)
    assert not mark.exists()
    run_unsafely(path, "zip")
    assert mark.exists()


@pytest.fixture
def foreign_config(monkeypatch, tmp_path):
    """Make an object of the authors' config class, then hide the class behind a package that tells if it is imported."""

    def make(module="ecd_symbreak.config", **fields):
        kind = make_dataclass("GPTConfig", list(fields))
        kind.__module__ = module
        packages = {name: type(sys)(name) for name in ("ecd_symbreak", "ecd_symbreak.config")}
        packages["ecd_symbreak.config"].GPTConfig = kind
        with monkeypatch.context() as patch:
            for name, package in packages.items():
                patch.setitem(sys.modules, name, package)
            if module == "__main__":
                patch.setattr(sys.modules["__main__"], "GPTConfig", kind, raising=False)
            buffer = io.BytesIO()
            torch.save(Release(kind="symmetric").checkpoint() | {"config": kind(**fields)}, buffer)
        spy = tmp_path / "path" / "ecd_symbreak"
        spy.mkdir(parents=True)
        for name in ("__init__", "config"):
            (spy / f"{name}.py").write_text(touch(tmp_path / "imported") + "\nclass GPTConfig: pass\n")
        monkeypatch.syspath_prepend(str(spy.parent))
        (tmp_path / "model.pt").write_bytes(buffer.getvalue())
        return tmp_path / "model.pt"

    return make


@pytest.mark.parametrize("module", ["ecd_symbreak.config", "__main__"])
def test_the_authors_config_is_read_without_importing_its_class(foreign_config, tmp_path, module):
    fields = {"context_length": 13, "vocab_size": 31, "n_layer": 2, "n_head": 6, "n_embd": 24}
    path = foreign_config(module, **fields)
    assert read_pickled(path)["config"] == fields
    assert read_foreign(path).model.cfg.n_heads == 6
    assert not (tmp_path / "imported").exists()
    assert "ecd_symbreak" not in sys.modules


def test_a_config_object_of_another_class_is_refused(foreign_config):
    path = foreign_config("ecd_symbreak.config", n_head=3)
    renamed = path.with_name("renamed.pt")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for item in old.infolist():
            new.writestr(item, old.read(item).replace(b"cecd_symbreak.config\n", b"cecd_symbreak_config\n"))
    with pytest.raises(InterpError, match=r"names ecd_symbreak_config\.GPTConfig, which is no part of a model"):
        read_pickled(renamed)


def program(path, steps):
    """Write a file whose pickle names the authors' config class and goes on with `steps`."""
    with zipfile.ZipFile(path, "w") as file:
        opening = b"\x80\x02}X\x06\x00\x00\x00configcecd_symbreak.config\nGPTConfig\n"
        file.writestr("model/data.pkl", opening + steps + b"s.")
        file.writestr("model/version", "3\n")
        file.writestr("model/byteorder", "little")
    return path


WORD = b"X\x04\x00\x00\x00trap"
STEPS = {"no state": b")\x81", "a state that is a word": b")\x81" + WORD + b"b", "called": b")R", "the class": b""}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_the_stand_in_for_a_config_knows_nothing_and_does_nothing(tmp_path, steps):
    content = read_pickled(program(tmp_path / "model.pt", steps))
    assert content["config"] in ({}, InertConfig)


def test_the_stand_in_for_a_config_takes_no_arguments(tmp_path):
    with pytest.raises(InterpError, match="takes no arguments"):
        read_pickled(program(tmp_path / "model.pt", WORD + b"\x85R"))


BROKEN = {
    "empty": b"",
    "text": b"this is no model",
    "half a zip": b"PK\x03\x04 and then nothing",
    "a pickle of a list": pickle.dumps([1, 2], protocol=2),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_pytorch_file_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(
        InterpError, match=r"cannot be read as a PyTorch file of tensors and plain values \(.+\)"
    ) as error:
        read_pickled(path)
    assert "\n" not in str(error.value)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(InterpError, match="Cannot read"):
        read_pickled(tmp_path)
