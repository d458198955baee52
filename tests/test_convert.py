"""The command from a foreign model to a checkpoint, and from there to a report along the effective direction."""

import json

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from typer.testing import CliRunner

import interp
from interp.amplify import app as amplify
from interp.convert import app, convert
from interp.data.classes.built_in import Scheme
from interp.errors import InterpError
from interp.files import contents
from interp.model.checkpoint import read_training, save_checkpoint
from interp.model.config import BiasConfig
from tests.model.foreign.gpt2 import gpt2
from tests.model.foreign.release import Release

TEXT = "The quick brown fox jumps over 13 lazy dogs; it sleeps."


@pytest.fixture(autouse=True)
def _offline(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def release(tmp_path):
    """A file of the authors' release whose vocabulary is the test tokenizer's."""
    torch.save(Release(seed=1, kind="bqbv", vocabulary=300, context=20).checkpoint(), tmp_path / "model_best.pt")
    return tmp_path / "model_best.pt"


@pytest.fixture
def tokenizer_file(tokenizer, tmp_path):
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.fixture
def gpt2_folder(tokenizer, tmp_path):
    """A random GPT-2 with the test tokenizer beside its weights, and the folder it lies in."""
    theirs = gpt2(vocab_size=300, n_positions=40, attn_implementation="eager")
    theirs.save_pretrained(tmp_path / "gpt2")
    tokenizer.backend_tokenizer.save(str(tmp_path / "gpt2" / "tokenizer.json"))
    return theirs, tmp_path / "gpt2"


@torch.no_grad()
def test_the_command_writes_a_checkpoint_and_says_what_it_is(release, tokenizer_file, tmp_path):
    outcome = CliRunner().invoke(app, [str(release), str(tmp_path / "out"), "--tokenizer", str(tokenizer_file)])
    assert outcome.exit_code == 0, outcome.stderr
    assert outcome.stdout.strip() == str(tmp_path / "out")
    first, second, note = outcome.stderr.strip().splitlines()
    assert first.startswith(
        "the authors' release, bqbv: 2 layers, 3 heads, d_model 24, context 20, vocabulary 300, prelu, learned positions; "
    )
    model = interp.load_model(tmp_path / "out")
    assert first.endswith(f"; {sum(p.numel() for p in model.parameters()):,} parameters")
    assert second == "b_Q: mean 0.5, std 0.05 to 0.15; b_V: mean 0.5, std 0.05; tokenizer: 300 tokens"
    assert note.startswith("note: bK is left out")
    tokens = torch.arange(20)
    expected = Release(seed=1, kind="bqbv", vocabulary=300, context=20).logits(tokens)
    torch.testing.assert_close(
        model(tokens[None])[0].double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max())
    )
    assert model.cfg.model_name == "out"
    assert model.to_string(model.to_tokens("fox", prepend_bos=False)[0]) == "fox"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "Converted from `model_best.pt` (the authors' release)" in card
    assert note in card


def test_a_checkpoint_remembers_what_it_was_made_from(release, tmp_path):
    convert(release, tmp_path / "out", activation=None)
    origin = read_training(tmp_path / "out")
    assert origin["converted_from"] == str(release)
    assert origin["format"] == "the authors' release"
    assert len(origin["source_sha256"]) == 64


def test_without_a_tokenizer_there_is_a_note_and_a_model_that_takes_tokens(release, tmp_path):
    lines = convert(release, tmp_path / "out")
    assert lines[-1].startswith(
        "note: No tokenizer: the vocabulary of 300 is not GPT-2's; give it with --tokenizer PATH."
    )
    assert "tokenizer: none" in lines[1]
    assert interp.load_model(tmp_path / "out").tokenizer is None


def test_an_old_checkpoint_is_replaced_only_when_told_so(release, tokenizer_file, make_model, tmp_path):
    place = save_checkpoint(make_model(), tmp_path / "out")
    (place / "training.jsonl").write_text("{}")
    before = {file.name: file.read_bytes() for file in place.iterdir()}
    with pytest.raises(InterpError, match="out exists; choose another place, or say --overwrite"):
        convert(release, place)
    assert {file.name: file.read_bytes() for file in place.iterdir()} == before
    convert(release, place, overwrite=True)
    assert contents(place) == ["README.md", "config.json", "model.safetensors"]
    assert interp.load_model(place).cfg.activation == "prelu"


def test_what_is_no_checkpoint_is_never_replaced(release, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InterpError, match="is not a checkpoint folder; it is left alone"):
        convert(release, tmp_path / "mine", overwrite=True)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_told_before_the_model_is_read(release, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr("interp.model.foreign.formats.read_foreign", lambda *_: pytest.fail("it was read"))
    for place in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(InterpError, match=r"Cannot write .*file"):
            convert(release, place, overwrite=True)


def test_a_checkpoint_that_does_not_read_back_is_reported(release, tmp_path, monkeypatch):
    def faulty(folder, device):
        model = load_model(folder, device)
        model.W_E.data[0, 0] += 1
        return model

    load_model = interp.load_model
    monkeypatch.setattr("interp.model.checkpoint.load_model", faulty)
    with pytest.raises(InterpError, match="does not read back as it was written"):
        convert(release, tmp_path / "out")


def evil(path):
    class Attack:
        def __reduce__(self):
            return exec, (f"open({str(path.with_name('mark'))!r}, 'w').close()",)

    torch.save({"model": {"x": Attack()}}, path)
    return str(path)


@pytest.mark.parametrize(
    ("source", "words", "status", "message"),
    [
        (lambda f: str(f / "nowhere.pt"), [], 1, "There is no file or folder"),
        (lambda f: evil(f / "evil.pt"), [], 1, "names exec, which is no part of a model"),
        (
            lambda f: str(f / "model_best.pt"),
            ["--tokenizer", "nowhere.json"],
            1,
            "There is no tokenizer at nowhere.json",
        ),
        (lambda f: str(f / "model_best.pt"), ["--activation", "gelu"], 1, "leave out --activation gelu"),
        (lambda f: str(f / "model_best.pt"), ["--activation", "relu"], 2, "relu"),
    ],
)
def test_bad_input_is_one_line_and_a_non_zero_exit_and_nothing_is_written(
    unchecked, release, tmp_path, source, words, status, message
):
    outcome = CliRunner().invoke(app, [source(tmp_path), str(tmp_path / "out"), *words])
    assert outcome.exit_code == status
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "mark").exists()
    if status == 1:
        assert len(outcome.stderr.strip().splitlines()) == 1


def parity(tokens, *_):
    return 1 + tokens % 2


@torch.no_grad()
def test_the_effective_direction_of_gpt2_is_what_its_query_bias_does_to_attention(gpt2_folder, tmp_path):
    theirs, folder = gpt2_folder
    convert(folder, tmp_path / "out")
    model = interp.load_model(tmp_path / "out")
    scheme = Scheme("parity", ("bos", "even", "odd"), False, parity)
    result = interp.amplification(model, [TEXT], [scheme], workers=0, direction="effective")
    tokens = model.to_tokens(TEXT)
    labels = np.concatenate([[0], parity(tokens[0, 1:].numpy())])
    shares = []
    for biased in (True, False):
        if not biased:
            theirs.transformer.h[0].attn.c_attn.bias[: theirs.config.n_embd] = 0
        pattern = theirs(tokens, output_attentions=True).attentions[0][0].double().mean(1)  # [head_index, key_pos]
        shares.append([[float(pattern[head, labels == c].sum()) for c in range(3)] for head in range(3)])
    expected = np.log2(np.array(shares[0]) / np.array(shares[1]))
    heads = result.heads[result.heads["layer"] == 0].sort_values("head", kind="stable")
    found = heads["log2_amplification"].to_numpy().reshape(3, 3)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.05
    assert result.run["direction"] == "effective"
    assert any("learned query bias beta_Q of each head: no unlearned bias" in w for w in result.run["warnings"])


@pytest.mark.slow
def test_the_amplify_command_reports_a_converted_gpt2_and_labels_the_direction(gpt2_folder, tmp_path):
    _, folder = gpt2_folder
    (tmp_path / "text.txt").write_text(TEXT)
    checkpoint = str(tmp_path / "out")
    assert CliRunner().invoke(app, [str(folder), checkpoint]).exit_code == 0
    words = [
        checkpoint,
        "--corpus",
        str(tmp_path / "text.txt"),
        "--schemes",
        "surface",
        "-o",
        str(tmp_path / "report"),
        "-q",
    ]
    outcome = CliRunner().invoke(amplify, [*words, "--direction", "effective", "--workers", "0"])
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads((tmp_path / "report" / "run.json").read_text())["direction"] == "effective"
    page = (tmp_path / "report" / "report.html").read_text()
    assert "the learned query bias of each head, and b_Q where there is one" in page
    assert "Read along the learned query bias beta_Q of each head" in page


SYMMETRIC, BROKEN = {"q": BiasConfig(), "v": BiasConfig()}, {}
NOTES = [
    (BROKEN, "effective", True, "effective direction b_Q + beta_Q: the learned query bias is part of it."),
    (BROKEN, "effective", False, "effective direction b_Q + beta_Q; the learned query bias is zero, so it is b_Q."),
    (SYMMETRIC, "effective", True, "learned query bias beta_Q of each head: no unlearned bias is in force."),
    (
        SYMMETRIC,
        "effective",
        False,
        "No query bias is in force, learned or unlearned: amplification is 0 by definition.",
    ),
    (SYMMETRIC, "bias", True, "is 0 by definition; --direction effective reads along the learned one."),
    (SYMMETRIC, "bias", False, "amplification along b_Q is 0 by definition."),
    ({**SYMMETRIC, "positional": "rope"}, "bias", True, "amplification along b_Q is 0 by definition."),
    (BROKEN, "bias", True, None),
]


@torch.no_grad()
@pytest.mark.parametrize(("changes", "direction", "learned", "note"), NOTES)
def test_a_result_says_along_which_query_bias_it_was_read(make_model, changes, direction, learned, note):
    model = make_model(**changes)
    if not learned:
        model.b_Q.zero_()
    scheme = Scheme("parity", ("bos", "even", "odd"), False, parity)
    result = interp.amplification(model, [TEXT], [scheme], workers=0, direction=direction)
    notes = [warning for warning in result.run["warnings"] if "documents" not in warning]
    assert len(notes) == (note is not None)
    assert all(found.endswith(note) for found in notes)
    if note and "0 by definition" in note:
        np.testing.assert_allclose(result.heads["log2_amplification"], 0, atol=1e-6)


def test_a_checkpoint_that_does_not_read_back_leaves_the_old_one(release, tmp_path, monkeypatch):
    convert(release, tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()}
    monkeypatch.setattr("interp.convert._verify", lambda *_: (_ for _ in ()).throw(InterpError("faulty")))
    with pytest.raises(InterpError, match="faulty"):
        convert(release, tmp_path / "mine", overwrite=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "mine").iterdir()} == before
