"""Going on from weights: the model of --init gives its logits, what contradicts it is refused, and such a run resumes."""

import shutil
from dataclasses import replace
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from interp.convert import convert
from interp.data.tokenizer import train_tokenizer
from interp.errors import InterpError
from interp.evals.held_out import validation_loss
from interp.model.checkpoint import load_model, read_training, save_checkpoint, tensors_sha256
from interp.model.config import BiasConfig, ModelConfig
from interp.model.transformer import HookedSymmetryBrokenTransformer
from interp.train.config import TrainConfig
from interp.train.loop import train
from interp.train.run import prepare
from tests.model.foreign.gpt2 import gpt2
from tests.train.conftest import WORDS
from tests.train.same_run import same_run

SIZES = {"n_layers": 2, "d_model": 16, "n_heads": 2, "n_ctx": 16, "activation": "gelu"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A tokenizer; a GPT-2 and a Llama of Hugging Face's, random and untied in values; a symmetric checkpoint of ours."""
    root, tokenizer = tmp_path_factory.mktemp("init"), train_tokenizer([WORDS] * 20, 280)
    size = len(tokenizer)
    theirs = gpt2(vocab_size=size, n_positions=16, n_embd=16, n_head=2)
    theirs.save_pretrained(root / "gpt2")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": size, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 16}
    llama = LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=0, eos_token_id=0))
    llama.save_pretrained(root / "llama")
    for name in ("gpt2", "llama"):
        tokenizer.backend_tokenizer.save(str(root / name / "tokenizer.json"))
    convert(root / "gpt2", root / "converted")
    model = HookedSymmetryBrokenTransformer(ModelConfig(**SIZES, d_vocab=size, seed=3), tokenizer)
    save_checkpoint(model, root / "symmetric")
    return root


@pytest.fixture
def going_on(folders, corpus, tmp_path):
    def make(name, **changes):
        settings = {"corpus": str(corpus), "init": str(folders / name), "steps": 20, "batch_size": 4, "lr": 3e-3}
        return TrainConfig(**{**settings, "evaluate_every": 10, "output": tmp_path / "run", **changes})

    return make


def logits_of(folder, tokens):
    """Hugging Face's own, of its folder."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(tokens).logits


@pytest.mark.parametrize(("init", "source"), [("gpt2", "gpt2"), ("converted", "gpt2"), ("llama", "llama")])
def test_a_model_of_hugging_face_gives_its_logits_at_the_start_and_after_steps_without_a_rate(
    folders, going_on, curve, init, source
):
    tokens = torch.arange(40, 56)[None]
    expected = logits_of(folders / source, tokens)
    settings = going_on(init, lr=0.0)
    start = prepare(settings).model
    assert (start.cfg.n_ctx, start.cfg.q.mode, start.cfg.seed) == (16, "none", 0)
    assert torch.allclose(start.eval()(tokens), expected, atol=1e-5 * float(expected.abs().max()))
    folder = train(replace(settings, weight_decay=0.1))
    after = load_model(folder / "step-00000020")
    assert torch.allclose(after(tokens), expected, atol=1e-5 * float(expected.abs().max()))
    losses = [row["validation_loss"] for row in curve(folder) if "validation_loss" in row]
    assert len(set(losses)) == 1


def test_an_id_of_the_hub_is_fetched_and_its_logits_are_those_at_the_start(folders, going_on, tmp_path, monkeypatch):
    asked = []

    def fetch(name, **_):
        asked.append(name)
        return str(folders / "gpt2")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    run = train(replace(going_on("gpt2"), init="someone/their-model", variant="symmetric", steps=1, lr=0.0))
    assert set(asked) == {"someone/their-model"}
    assert read_training(run)["initialized_from"]["name"] == "someone/their-model"
    tokens = torch.arange(3, 13)[None]
    torch.testing.assert_close(load_model(run)(tokens), logits_of(folders / "gpt2", tokens), rtol=0, atol=1e-5)


def test_a_symmetric_model_is_broken_by_going_on_and_the_bias_taken_away_again(folders, going_on, tmp_path, curve):
    tokens, symmetric = torch.arange(40, 56)[None], load_model(folders / "symmetric")
    run = prepare(going_on("symmetric", variant="bq", lr=0.0))
    assert run.model.cfg.q.mode == "batch" and run.model.cfg.v.mode == "none"
    with run.model.eval().bias(scale=0):
        assert torch.equal(run.model(tokens), symmetric(tokens))
    assert not torch.allclose(run.model(tokens), symmetric(tokens), atol=1e-3)
    folder = train(going_on("symmetric", variant="bq", lr=0.0))
    with load_model(folder).bias(scale=0) as left:
        assert torch.equal(left(tokens), symmetric(tokens))
    again = prepare(going_on("symmetric", init=str(folder), variant="symmetric", output=tmp_path / "again"))
    assert torch.equal(again.model.eval()(tokens), symmetric(tokens))
    assert prepare(going_on("symmetric", init=str(folder), output=tmp_path / "more")).model.cfg.q == left.cfg.q


def test_the_first_loss_is_the_checkpoint_s_and_the_card_says_where_it_came_from(folders, going_on, curve):
    run = prepare(going_on("symmetric", lr=0.0))
    symmetric = load_model(folders / "symmetric")
    expected = validation_loss(symmetric, run.tokens.held_out)
    first = symmetric(run.batches.at(0), return_type="loss").item()
    folder = train(going_on("symmetric", lr=0.0))
    rows = curve(folder)
    assert rows[0]["loss"] == pytest.approx(first, abs=1e-5)
    assert rows[9]["validation_loss"] == pytest.approx(expected, abs=1e-5)
    origin = read_training(folder)["initialized_from"]
    checksum = tensors_sha256(dict(symmetric.state_dict()))
    assert origin == {"name": str(folders / "symmetric"), "format": "checkpoint", "weights_sha256": checksum}
    card = (folder / "README.md").read_text()
    assert f"`{folders / 'symmetric'}` (checkpoint, sha256 of the weights in float32 `{checksum}`)" in card
    assert f"--init {folders / 'symmetric'} --" in card and "--preset" not in card and "--variant" not in card
    assert load_model(folder).cfg.model_name == "run"


@pytest.mark.parametrize("mode", ["fixed", "learned"])
def test_values_of_the_same_biases_go_on_and_others_are_drawn(folders, going_on, tmp_path, mode):
    run = prepare(going_on("symmetric", variant="bq", bias_mode=mode, bias_per_head=True, seed=7))
    save_checkpoint(run.model, tmp_path / "broken")
    value = run.model.bias_q.value
    for changes, same in (({}, True), ({"variant": "bq", "bias_mode": mode, "mean_q": "0"}, False)):
        on = prepare(going_on("symmetric", init=str(tmp_path / "broken"), output=tmp_path / "on", **changes))
        assert torch.equal(on.model.bias_q.value, value) == same and on.model.bias_q.config.mode == mode


CONTRADICTIONS = {
    "--norm is rms, and --init .*symmetric has layer": {"norm": "rms"},
    "--activation is prelu, and --init .* has gelu": {"activation": "prelu"},
    "--positional is rope, and --init .* has learned": {"positional": "rope"},
    "--context is 8, and --init .* has 16": {"context": 8},
    "--kv-heads is 1, and --init .* has 2": {"kv_heads": 1},
    "--experts is 4, and --init .* has None": {"experts": 4},
    "--experts-per-token is 3, and --init .* has None": {"experts_per_token": 3},
    "--tied is False, and --init .* has True": {"tied": False},
    "--learned-biases is False, and --init .* has True": {"learned_biases": False},
    "--preset mini has n_layers 3, and --init .* has 2": {"preset": "mini"},
    "--mean-q was given, but with --init .* say with --variant": {"mean_q": "0"},
    "--bias-mode was given, but with --init .* say with --variant": {"bias_mode": "learned"},
    "std of the q bias has 3 numbers; d_head is 8": {"variant": "bq", "std_q": "1,2,3"},
    "--layers names 'blocks.7', which has no weights .* blocks.0, blocks.1": {"layers": "blocks.0,blocks.7"},
    "--layers names 'unembed', which has no weights": {"layers": "unembed"},
    "leave nothing to train": {"layers": "embed", "freeze_embeddings": True},
    "There is no checkpoint folder nowhere/at/all": {"init": "nowhere/at/all"},
}


@pytest.mark.parametrize("told", CONTRADICTIONS)
def test_what_contradicts_the_model_is_refused_in_a_sentence_and_leaves_nothing(going_on, told):
    with pytest.raises(InterpError, match=told) as error:
        train(going_on("symmetric", **CONTRADICTIONS[told]))
    assert "\n" not in str(error.value)
    assert not going_on("symmetric").output.exists()


def test_with_rope_the_context_may_be_shorter_and_not_longer(going_on):
    assert prepare(going_on("llama", context=8)).model.cfg.n_ctx == 8
    with pytest.raises(InterpError, match=r"--context is 32, and --init .* has 16"):
        prepare(going_on("llama", context=32))


def test_tokenizers_of_others_are_refused(folders, going_on, tmp_path):
    from interp.data.shards.config import PrepareConfig
    from interp.data.shards.prepare import prepare as make_shards

    other = train_tokenizer([WORDS + " other words"] * 20, 275)
    other.backend_tokenizer.save(str(tmp_path / "other.json"))
    with pytest.raises(
        InterpError, match=r"--tokenizer .*other.json \(sha256 .* not the tokenizer of --init .*symmetric"
    ):
        prepare(going_on("symmetric", tokenizer=str(tmp_path / "other.json")))
    corpus = going_on("symmetric").corpus
    make_shards(PrepareConfig(corpus, tmp_path / "theirs", tokenizer=str(tmp_path / "other.json"), workers=0))
    with pytest.raises(InterpError, match=r"The tokenizer of --init .*symmetric .* not the tokenizer of the shards in"):
        prepare(going_on("symmetric", corpus=str(tmp_path / "theirs")))
    own = str(folders / "symmetric" / "tokenizer.json")
    make_shards(PrepareConfig(corpus, tmp_path / "ours", tokenizer=own, workers=0))
    shards = prepare(going_on("symmetric", corpus=str(tmp_path / "ours"), tokenizer=own))
    assert (shards.tokens.held_out == prepare(going_on("symmetric")).tokens.held_out).all()
    shutil.copytree(folders / "gpt2", tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer.json"))
    with pytest.raises(InterpError, match=r"comes without a tokenizer, and .* is text; give it with --tokenizer"):
        prepare(going_on("symmetric", init=str(tmp_path / "bare")))
    assert prepare(going_on("symmetric", init=str(tmp_path / "bare"), tokenizer=own)).tokens.tokenizer is not None


@pytest.mark.parametrize(
    "changes", [{"variant": "bqbv", "bias_mode": "learned"}, {"layers": "blocks.1,ln_final"}], ids=str
)
def test_such_a_run_goes_on_bit_by_bit_and_not_from_other_weights(folders, going_on, tmp_path, curve, changes):
    init = shutil.copytree(folders / "symmetric", tmp_path / "init")
    settings = going_on("symmetric", init=str(init), steps=6, evaluate_every=2, keep=9, dropout=0.1, **changes)
    whole = train(settings)
    part = tmp_path / "part"
    shutil.copytree(whole, part, ignore=shutil.ignore_patterns("step-*4", "step-*6"))
    torch.manual_seed(2)  # what a new process would have
    on = replace(settings, output=part, resume=True)
    for other, told in (
        (str(folders / "gpt2"), r"began with .*init \(sha256 \w+\), not with .*gpt2"),
        (None, "not with random"),
    ):
        with pytest.raises(InterpError, match=told):
            train(replace(on, init=other))
    train(on)
    same_run(whole, part, curve)
    renamed = init.rename(tmp_path / "renamed")
    train(replace(on, init=str(renamed), steps=7))  # the same weights under another name
    train(replace(on, init=str(renamed), steps=8, output=part))
    shutil.rmtree(renamed)
    train(replace(on, init=str(renamed), steps=9))  # what is in the states is enough
    with pytest.raises(InterpError):
        train(replace(on, init=str(init), steps=10))


def test_a_run_without_init_does_not_take_one_later(going_on, folders):
    settings = replace(going_on("symmetric"), init=None, preset="mini", variant="bq", bias_mode="batch", context=16)
    train(replace(settings, steps=2, evaluate_every=2))
    with pytest.raises(InterpError, match=r"began with random weights, not with .*symmetric"):
        train(going_on("symmetric", steps=4, resume=True))


@pytest.mark.parametrize("optimizer", ["adamw", "ecd", "soap"])
def test_only_the_parts_that_are_named_are_trained(folders, going_on, tmp_path, optimizer):
    before = load_model(folders / "symmetric").state_dict()
    for number, (changes, trained) in enumerate(
        (({"layers": "1"}, None), ({"layers": "blocks.1.attn, ln_final"}, ("blocks.1.attn.", "ln_final.")),
         ({"freeze_embeddings": True}, ("blocks.", "ln_final.")))
    ):  # fmt: skip
        settings = going_on("symmetric", steps=2, optimizer=optimizer, output=tmp_path / str(number), lr=0.1, **changes)
        if trained is None:
            with pytest.raises(InterpError, match="--layers names '1'"):
                train(settings)
            continue
        after = load_model(train(settings) / "step-00000002").state_dict()
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved and moved == {name for name in before if name.startswith(trained)}


def test_a_bias_config_of_another_kind_is_named_in_the_model(going_on):
    cfg = prepare(going_on("llama", variant="bqbv", mean_v="0.25")).model.cfg
    assert cfg.v == BiasConfig(0.25, 0.05, "batch") and cfg.n_key_value_heads == 2 and cfg.norm == "rms"
