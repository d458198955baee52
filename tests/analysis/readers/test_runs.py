"""Changed runs of any model: against the Hugging Face model with its weights changed, and ours against its bridge."""

import numpy as np
import pytest
import torch

import interp
from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.measure_uses import measure_uses
from interp.analysis.readers.bridge import BridgeReader
from interp.analysis.readers.open import bridge_of, open_reader
from interp.analysis.settings import InterventionSettings, UsesSettings
from interp.errors import InterpError
from interp.report.explorer.explorer import explore
from tests.analysis.interventions.observed import mean_by_class, rows_about
from tests.analysis.readers.families import CONTEXT, HEADS, LAYERS, VOCABULARY, made, without_query_bias
from tests.analysis.reference import rows_of

TEXT = "The dog <b>sleeps</b> in 1905."
LENGTHS = [30, 7, 25, 40]
FAMILIES = ["qwen2", "pythia", "gpt2", "llama-bias", "opt", "bloom", "qwen3-bias", "gemma2-bias", "gpt-oss"]


def reader_of(name, tokenizer, **asked):
    return BridgeReader(bridge_of(made(name), tokenizer), CONTEXT, **asked)


@pytest.fixture(scope="module")
def corpus(make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    return scheme, make_documents([scheme], VOCABULARY, LENGTHS)


class HuggingFace:
    """Attention per class [layer, head, class], mean over queries, and losses of predicted tokens, of a model as it is."""

    def __init__(self, model, rows, labels, **inputs):
        self.shares, losses = np.zeros((LAYERS, HEADS, 3)), []
        for row, label in zip(rows, labels, strict=True):
            with torch.no_grad():
                out = model(row[None], output_attentions=True, use_cache=False, **inputs)
            for layer, pattern in enumerate(out.attentions):
                for c in range(3):
                    self.shares[layer, :, c] += pattern[0][:, :, label == c].sum((1, 2)).numpy() / sum(LENGTHS)
            losses.append(torch.nn.functional.cross_entropy(out.logits[0, :-1].float(), row[1:], reduction="none"))
        self.loss = torch.cat(losses).numpy()
        self.label = np.concatenate([label[1:] for label in labels])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bias_scaled_by_0_in_a_layer_is_a_hugging_face_model_with_that_bias_zeroed(name, corpus, tokenizer):
    scheme, documents = corpus
    asked = {"direction": "effective", "scales": (0,), "random_directions": 0, "replicates": 2, "paths": False}
    found = intervene(
        reader_of(name, tokenizer), documents, [scheme], InterventionSettings(where="layers", **asked), stack=3
    )
    rows, labels = rows_of(documents, CONTEXT, "s")
    before = HuggingFace(made(name), rows, labels)
    for layer in range(LAYERS):
        model = made(name)
        without_query_bias(model, name, layer)
        after = HuggingFace(model, rows, labels)
        losses = rows_about(found.loss, f"L{layer}", 0)
        np.testing.assert_allclose(losses["loss_unchanged"], mean_by_class(before.loss, before.label, 3), atol=1e-5)
        np.testing.assert_allclose(losses["loss"], mean_by_class(after.loss, after.label, 3), atol=1e-5)
        assert losses["difference"].abs().max() > 1e-4
        attention = rows_about(found.attention, f"L{layer}", 0)
        for (at, head), of_head in attention.groupby(["layer", "head"]):
            np.testing.assert_allclose(of_head["share"], after.shares[at, head], atol=1e-5)
            np.testing.assert_allclose(of_head["share_unchanged"], before.shares[at, head], atol=1e-5)
        assert set(attention["layer"]) == set(range(layer, LAYERS))
    assert found.run["bias"] == "learned" and found.run["direction"] == "effective"


@pytest.mark.parametrize("name", ["qwen2", "pythia", "gpt2"])
def test_numbers_added_to_scores_are_a_mask_with_these_numbers(name, corpus, tokenizer):
    rows, labels = rows_of(corpus[1], CONTEXT, "s")
    added = torch.randn(CONTEXT, generator=torch.Generator().manual_seed(3))
    visible = torch.full((CONTEXT, CONTEXT), -torch.inf).triu(1) + added
    expected = HuggingFace(made(name), rows[:1], labels[:1], attention_mask=visible[None, None])
    reader = reader_of(name, tokenizer)
    seen = []
    ran = reader.run(rows[0][None])
    zeros = torch.zeros(1, 2, LAYERS, HEADS, reader.d_head)
    scores = added.expand(LAYERS, 1, 1, HEADS, CONTEXT)
    again = reader.rerun(ran, zeros, lambda layer, attended: seen.append(attended), scores=scores)
    loss = -again.log_probabilities(0)[0, :-1].gather(1, rows[0][1:, None])[:, 0]
    np.testing.assert_allclose(loss, expected.loss, atol=1e-5)
    shares = [each.shares(torch.nn.functional.one_hot(torch.from_numpy(labels[0]), 3)[None].float()) for each in seen]
    found = torch.stack(shares)[:, 0].sum(1).numpy() / sum(LENGTHS)
    np.testing.assert_allclose(found, expected.shares, atol=1e-5)
    unchanged = -ran.log_probabilities(0)[0, :-1].gather(1, rows[0][1:, None])[:, 0]
    assert (loss - unchanged).abs().max() > 0.01


@pytest.fixture(scope="module")
def both(make_model):
    model = make_model(n_ctx=30)
    return model, model.to_bridge()


def agree(ours, theirs, atol, **columns):
    for name in ours.select_dtypes("number"):
        np.testing.assert_allclose(theirs[name], ours[name], atol=columns.get(name, atol), rtol=1e-4, err_msg=name)
    for name in ours.columns.difference(ours.select_dtypes("number").columns):
        assert ours[name].astype(str).tolist() == theirs[name].astype(str).tolist()


@pytest.mark.parametrize("direction", ["effective", "folded"])
def test_interventions_on_our_model_and_on_its_bridge_give_the_same_tables(
    both, make_documents, make_scheme, direction
):
    scheme = make_scheme("s", 3)
    documents = make_documents([scheme], 60, [28, 17, 40, 30, 25])
    asked = InterventionSettings(where="all,L1,L0H1", scales=(0, 2), replicates=4, direction=direction)
    ours, theirs = (intervene(open_reader(model), documents, [scheme], asked) for model in both)
    assert ours.loss["difference"].abs().max() > 0.001 and ours.attention["log2_change"].abs().max() > 0.01
    assert ours.paths.loc[ours.paths["path"] == "direct beyond position", "log2_amplification"].abs().max() > 1e-3
    agree(ours.attention, theirs.attention, 1e-5)
    agree(ours.loss, theirs.loss, 1e-5)
    agree(ours.predictions, theirs.predictions, 1e-5)
    agree(ours.paths, theirs.paths, 1e-5)


def test_uses_of_our_model_and_of_its_bridge_give_the_same_table(both, make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    documents = make_documents([scheme], 60, [28, 17, 40, 30, 25])
    asked = UsesSettings(controls=2, replicates=4, direction="effective")
    ours, theirs = (measure_uses(open_reader(model), documents, [scheme], asked).loss for model in both)
    assert ours["keeps"].nunique() == 8 and ours["difference"].abs().max() > 0.001
    columns = ["keeps", "scheme", "draw", "predicted_class", "n_tokens", "loss", "loss_unchanged", "difference"]
    agree(ours[columns], theirs[columns], 1e-5)


def test_uses_of_rotated_and_of_normalized_queries(corpus, tokenizer):
    scheme, documents = corpus
    asked = UsesSettings(controls=2, replicates=4, direction="effective")
    found = {
        name: measure_uses(reader_of(name, tokenizer), documents, [scheme], asked) for name in ("qwen2", "qwen3-bias")
    }
    intervened = intervene(
        reader_of("qwen2", tokenizer), documents, [scheme],
        InterventionSettings(where="all", scales=(0,), replicates=2, direction="effective", paths=False),
    )  # fmt: skip
    overall = (
        found["qwen2"].loss.query("predicted_scheme == 'overall'").set_index(["keeps", "scheme", "draw"])["difference"]
    )
    removed = rows_about(intervened.loss, "all", 0, scheme="overall")["difference"].item()
    assert overall["nothing", "", 0] == pytest.approx(removed, abs=1e-6)
    assert overall.notna().all() and overall.nunique() == len(overall) == 9
    normalized = found["qwen3-bias"]
    assert "control" not in set(normalized.loss["keeps"]) and normalized.controls.empty
    assert any("there are no controls" in warning for warning in normalized.run["warnings"])
    one = measure_uses(reader_of("gpt2", tokenizer), documents[:1], [scheme], asked).loss.set_index("keeps")[
        "difference"
    ]
    assert one["position"].isna().all() and one["nothing"].notna().all()


@pytest.mark.parametrize("direction", ["effective", "mean-query"])
def test_a_sentence_is_read_the_same_by_our_model_and_by_its_bridge(both, direction):
    asked = {"scale": 0.3, "where": "L1", "part": "q", "direction": direction, "corpus": [TEXT, "in 1905 the dog " * 2]}
    ours, theirs = (interp.read_sentence(model, TEXT, ["surface", "freq"], **asked) for model in both)
    assert ours.tokens["difference"].abs().max() > 1e-4
    for name in ("tokens", "scores"):
        agree(getattr(ours, name), getattr(theirs, name), 1e-5)
    columns = ["place", "token_index", "probability", "probability_unchanged"]
    agree(ours.predictions[columns], theirs.predictions[columns], 1e-5)
    assert ours.run["direction"] == theirs.run["direction"] == direction


def test_a_tensor_is_taken_out_of_the_queries_by_a_scale_of_0(tokenizer):
    model, vector = made("qwen2"), torch.randn(LAYERS, HEADS, 8, generator=torch.Generator().manual_seed(1))
    found = interp.read_sentence(model, TEXT, ["surface"], scale=0, where="L1H2", direction=vector, tokenizer=tokenizer)
    bridge, patterns = bridge_of(made("qwen2"), tokenizer), []
    taken = torch.zeros(HEADS, 8)
    taken[2] = vector[1, 2]
    hooks = [
        ("blocks.1.attn.hook_q", lambda q, hook: q - taken.view(q.shape[2:])),
        ("blocks.1.attn.hook_pattern", lambda pattern, hook: patterns.append(pattern[0, 2])),
    ]
    ids = torch.tensor(found.tokens["token_index"].to_numpy())[None]
    with torch.no_grad():
        logits = bridge.run_with_hooks(ids, fwd_hooks=hooks)[0]
    expected = torch.nn.functional.cross_entropy(logits[:-1], ids[0, 1:], reduction="none")
    np.testing.assert_allclose(found.tokens["loss"][1:], expected, atol=1e-5)
    received = torch.stack([patterns[0][key:, key].mean() for key in range(ids.shape[1])])
    of_head = found.of_head(1, 2)
    np.testing.assert_allclose(of_head["attention"], received, atol=1e-5)
    np.testing.assert_allclose(of_head["attention_unbiased"], received, atol=1e-5)  # nothing else was changed
    assert (of_head["attention"] - of_head["attention_unchanged"]).abs().max() > 1e-3
    assert found.run["part"] == "q" and found.run["direction"] == "given vector"


def test_the_explorer_opens_on_a_model_of_transformers(tokenizer):
    model = made("qwen2")
    explorer = explore(model, text=TEXT, schemes=["surface"], direction="effective", tokenizer=tokenizer)
    assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()
    controls = explorer._widget.controls
    assert len(controls["head"].options) == LAYERS * HEADS
    assert controls["part"].options == (("the query bias", "q"),)
    controls["scale"].value = 0.0
    assert "the query bias × 0 in" in explorer.summary()
    assert "without its own query bias" in [trace.name for trace in explorer.figures()["attention"].data]
    names = {"interp": interp, "model": model, "tokenizer": tokenizer}
    exec(explorer.python, names)
    np.testing.assert_allclose(names["sentence"].tokens["loss"], explorer.sentence.tokens["loss"])
    with pytest.raises(InterpError, match="has no unlearned value bias to scale"):
        explorer.set(part="v")


def test_the_explorer_looks_along_the_direction_of_the_result(tokenizer):
    texts, asked = [f"{TEXT} {n}" for n in range(16)], {"nulls": 0, "shifts": 0, "replicates": 2, "fit_tokens": 0}
    model = made("llama")
    result = interp.amplification(
        model, texts, ("surface",), tokenizer=tokenizer, direction="mean-query", workers=0, **asked
    )
    explorer = explore(model, result, text=TEXT, tokenizer=tokenizer, corpus=texts)
    assert explorer.sentence.run["direction"] == "mean-query" and "direction='mean-query'" in explorer.python
    assert "without its own mean query" in explorer.summary()


def test_interventions_along_the_mean_query_are_of_documents_that_it_is_not_fitted_on(tokenizer):
    texts, asked = [f"{TEXT} {n}" for n in range(16)], {"workers": 0, "replicates": 2, "direction": "mean-query"}
    settings = {**asked, "where": "all", "scales": (0,), "random_directions": 0}
    found = interp.interventions(made("llama"), texts, "surface", tokenizer=tokenizer, **settings)
    overall = rows_about(found.loss, "all", 0, scheme="overall")
    assert found.run["n_documents"] == 14 and overall["difference"].abs().item() > 1e-4


def test_what_cannot_be_changed_is_refused_with_what_would_work(corpus, tokenizer):
    scheme, documents = corpus
    with pytest.raises(InterpError, match=r"only after its softmax, .* \(interventions\)"):
        measure_uses(reader_of("opt", tokenizer), documents, [scheme], UsesSettings(direction="effective"))
    for part in ("v", "qv"):
        asked = InterventionSettings(direction="effective", part=part)
        with pytest.raises(InterpError, match="has no unlearned value bias to scale; leave part at q"):
            intervene(reader_of("qwen2", tokenizer), documents, [scheme], asked)
    for ask in (interp.interventions, interp.uses):
        with pytest.raises(InterpError, match="has no unlearned query bias; choose --direction effective"):
            ask(made("qwen2"), [TEXT], "surface", tokenizer=tokenizer, workers=0)
    with pytest.raises(InterpError, match="has no query bias to look along"):
        interp.read_sentence(made("llama"), TEXT, ["surface"], tokenizer=tokenizer, direction="effective")


def test_a_named_border_stands_before_every_document(tokenizer):
    reader = open_reader(made("qwen2"), tokenizer, border="T")
    assert reader.border == tokenizer.convert_tokens_to_ids("T") != tokenizer.bos_token_id
    tokens = interp.read_sentence(reader, TEXT, ["surface"], direction="effective").tokens
    assert tokens["token_index"].iloc[0] == reader.border
