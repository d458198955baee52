"""Checkpoints as people have them: wrapped, with prefixes, with odd things beside the weights; and tensors that lie."""

import argparse
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.errors import InterpError
from interp.model.foreign.formats import read_foreign
from interp.model.foreign.source import read_pickled
from tests.model.foreign.test_nanogpt import nanogpt

SIZES = {"n_layer": 2, "n_head": 3, "n_embd": 12, "block_size": 9, "vocab_size": 23}


def prefixed(state, prefix):
    return {prefix + name.replace("_orig_mod.", ""): value for name, value in state.items()}


WRAPPED = {
    "build-nanogpt": lambda s: {"model": prefixed(s, ""), "config": argparse.Namespace(**SIZES), "step": 3},
    "DDP": lambda s: {"model": prefixed(s, "module."), "config": SIZES},
    "FSDP": lambda s: {"model": prefixed(s, "module._fsdp_wrapped_module._orig_mod."), "config": SIZES},
    "Lightning": lambda s: {
        "state_dict": prefixed(s, "model.net."),
        "hyper_parameters": {"config": SIZES},
        "loops": {},
    },
    "DeepSpeed": lambda s: {"module": prefixed(s, "module."), "ds_version": "0.1", "client": {"x": 1}, "config": SIZES},
    "nested": lambda s: {"state_dict": {"model": prefixed(s, "")}, "config": SIZES},
}


@torch.no_grad()
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_checkpoints_have_the_logits_of_the_model_in_them(tmp_path, wrap):
    checkpoint, reference = nanogpt(activation="gelu_new")
    torch.save(wrap(checkpoint["model"]), tmp_path / "ckpt.pt")
    foreign = read_foreign(tmp_path / "ckpt.pt")
    tokens = torch.randint(23, (2, 9))
    expected = reference(tokens).logits
    torch.testing.assert_close(foreign.model(tokens), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert ["build-nanogpt" in note for note in foreign.notes] == [True]


def test_what_people_keep_beside_the_weights_is_read_inertly(tmp_path):
    beside = {
        "loss": np.float64(2.5), "heads": np.int64(3), "array": np.arange(3), "out": Path("runs/mine"),
        "args": argparse.Namespace(lr=0.1, data=Path("x"), seen=[np.float32(0.5)]),
    }  # fmt: skip
    for kind in (True, False):
        torch.save(beside, tmp_path / "file.pt", _use_new_zipfile_serialization=kind)
        assert read_pickled(tmp_path / "file.pt") == {
            "loss": 2.5, "heads": 3, "array": None, "out": None, "args": {"lr": 0.1, "data": None, "seen": [0.5]},
        }  # fmt: skip


def test_one_thing_in_many_places_is_read_once(tmp_path):
    laughs = [1]
    for _ in range(60):
        laughs = [laughs, laughs]
    torch.save({"laughs": laughs}, tmp_path / "file.pt")
    read_pickled(tmp_path / "file.pt")


def claims(**changes):
    return {"model": {"transformer.wte.weight": torch.zeros(1)} | changes, "model_args": SIZES}


TENSORS = {
    "sparse": (torch.eye(3).to_sparse(), "without numbers to read: x \\(sparse_coo\\)"),
    "meta": (torch.empty(3, device="meta"), "without numbers to read: x \\(meta\\)"),
    "more than the file holds": (
        torch.zeros(1).expand(10**6, 10**6),
        "holds 8 bytes, and its tensors claim 4,000,000,000,004",
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("tensor", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_without_numbers_of_their_own_are_refused(tmp_path, tensor, message):
    torch.save(claims(x=tensor), tmp_path / "file.pt")
    with pytest.raises(InterpError, match=message) as error:
        read_foreign(tmp_path / "file.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (torch.float64, r"not finite: transformer\.ln_f\.weight"),
        (torch.float8_e5m2, r"not finite: transformer\.ln_f\.weight"),
        (torch.bool, r"of another shape: .* of bool"),
        (torch.complex64, r"of another shape: .* of complex64"),
    ],
    ids=str,
)
def test_numbers_are_judged_as_they_will_be_used(tmp_path, number, message):
    checkpoint, _ = nanogpt()
    name = "_orig_mod.transformer.ln_f.weight"
    huge = 1e300 if number == torch.float64 else torch.nan
    checkpoint["model"][name] = (torch.ones(12, dtype=torch.float64) * huge).to(number)
    torch.save(checkpoint, tmp_path / "file.pt")
    with pytest.raises(InterpError, match=message):
        read_foreign(tmp_path / "file.pt")


def test_a_compressed_file_is_refused(tmp_path):
    torch.save(nanogpt()[0], tmp_path / "file.pt")
    with (
        zipfile.ZipFile(tmp_path / "file.pt") as old,
        zipfile.ZipFile(tmp_path / "new.pt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in ("data.pkl", "byteorder", "version"):
            new.writestr(f"file/{name}", old.read(f"file/{name}"))
    with pytest.raises(InterpError, match="is a compressed zip"):
        read_foreign(tmp_path / "new.pt")


def test_an_ordered_dictionary_stands_for_lightnings(tmp_path):
    text = pickle.dumps({"hyper_parameters": OrderedDict(a=1)}, protocol=2)
    text = text.replace(b"ccollections\nOrderedDict\n", b"clightning_fabric.utilities.data\nAttributeDict\n")
    with zipfile.ZipFile(tmp_path / "file.pt", "w") as file:
        file.writestr("file/data.pkl", text)
        file.writestr("file/version", "3\n")
        file.writestr("file/byteorder", "little")
    assert read_pickled(tmp_path / "file.pt") == {"hyper_parameters": {"a": 1}}
