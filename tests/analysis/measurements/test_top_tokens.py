import numpy as np
import pytest
import torch
from scipy import stats

from interp.analysis.measurements.static_alignment import static_tables
from interp.analysis.measurements.top_tokens import STATIC_COLUMNS, VALUE_COLUMNS, fitting_k
from interp.analysis.measurements.value_bias import value_tables
from interp.analysis.run import measure
from interp.analysis.settings import Settings
from interp.model.config import BiasConfig
from tests.analysis.reference import rows_of

LENGTHS = [400, 7, 300, 200]
NO_BIAS = BiasConfig()


@pytest.fixture(scope="module")
def schemes(make_scheme):
    return [make_scheme("s", 3), make_scheme("t", 4)]


@pytest.fixture(scope="module")
def measured(make_model, make_documents, schemes):
    def measured(**changes):
        """A model, documents of its first 60 tokens, and the tokens table along any of its directions."""
        model = make_model(**changes)
        documents = make_documents(schemes, 60, LENGTHS)
        return model, documents, measure(model, documents, schemes, Settings(nulls=0, replicates=2)).tokens

    return measured


def cosine(row, weights, vector):
    key = row.detach().double().numpy() @ weights.detach().double().numpy()
    return key @ vector / np.sqrt((key @ key) * (vector @ vector))


def directions(model, other):
    mean = model.bias_q.mean.expand(model.cfg.n_layers, model.cfg.n_heads, -1).detach().double()
    return {
        "bias": ("bias", mean),
        "effective": ("effective", mean + model.b_Q.detach().double()),
        "another model's": (other, other.mean_biases()[0].detach().double()),
    }


@pytest.mark.parametrize("name", ["bias", "effective", "another model's"])
def test_the_tokens_and_positions_that_each_head_points_at_are_those_of_the_largest_cosines(make_model, measured, name):
    model, _, tokens = measured(seed=1)
    direction, vectors = directions(model, make_model(q=BiasConfig((-1.0, 1.0), 0.1, "batch")))[name]
    found = static_tables(model, tokens, ["s"], direction=direction, k=5)
    count = tokens[(tokens["layer"] == 0) & (tokens["head"] == 0)].set_index("token_index")["count"]
    frequent = count.index[count >= 10]
    assert 10 < len(frequent) < 60  # some are left out
    for layer, head in np.ndindex(2, 3):
        vector, weights = vectors[layer, head].numpy(), model.W_K[layer, head]
        cosines = {token: cosine(model.W_E[token], weights, vector) for token in frequent}
        order = sorted(frequent, key=cosines.get)
        listed = found["static_tokens"].query(f"layer == {layer} and head == {head}").set_index(["end", "rank"])
        assert listed.loc["top", "token_index"].tolist() == order[::-1][:5]
        assert listed.loc["bottom", "token_index"].tolist() == order[:5]
        np.testing.assert_allclose(listed["static_alignment"], listed["token_index"].map(cosines), atol=1e-5)
        np.testing.assert_array_equal(listed["count"], listed["token_index"].map(count))
        positions = found["static_positions"].query(f"layer == {layer} and head == {head}")
        expected = [cosine(model.W_pos[pos], weights, vector) for pos in range(model.cfg.n_ctx)]
        np.testing.assert_allclose(positions["static_alignment"], expected, atol=1e-5)


def test_beside_the_static_alignment_stands_that_of_keys_in_the_text_and_their_correlation(measured):
    model, _, tokens = measured()
    found = static_tables(model, tokens, ["s"], k=100)
    keys = ["layer", "head", "token_index"]
    listed = found["static_tokens"].set_index(keys)
    np.testing.assert_array_equal(listed["alignment"], tokens.set_index(keys)["alignment"].loc[listed.index])
    one = listed.loc[(1, 2)]  # top and bottom together are all frequent tokens, but for one where their number is odd
    row = found["static_agreement"].set_index(["layer", "head"]).loc[(1, 2)]
    every = tokens.query("layer == 1 and head == 2 and count >= 10").set_index("token_index")["alignment"]
    static = [cosine(model.W_E[t], model.W_K[1, 2], np.full(model.cfg.d_head, 0.5)) for t in every.index]
    assert len(one) == 2 * (len(every) // 2)
    assert row["n_tokens"] == len(every)
    assert row["pearson"] == pytest.approx(np.corrcoef(static, every)[0, 1], abs=1e-5)
    assert row["spearman"] == pytest.approx(stats.spearmanr(static, every)[0], abs=1e-5)


def test_enrichment_counts_the_classes_of_the_tokens_that_are_listed(measured):
    model, _, tokens = measured()
    found = static_tables(model, tokens, ["s", "t"], k=8)
    assert len(found["static_enrichment"]) == 6 * 2 * (3 + 4)
    pool = tokens.query("layer == 0 and head == 1 and count >= 10").set_index("token_index")
    for end in ("top", "bottom"):
        chosen = found["static_tokens"].query(f"layer == 0 and head == 1 and end == '{end}'")["token_index"]
        table = found["static_enrichment"].query(f"layer == 0 and head == 1 and end == '{end}'")
        for row in table.to_dict("records"):
            inside = pool[row["scheme"]] == row["token_class"]
            a, c = inside.loc[chosen].sum(), inside.drop(chosen).sum()
            b, d = len(chosen) - a, len(pool) - len(chosen) - c
            assert (row["n_chosen"], row["n_pool"]) == (a, a + c)
            odds = (a + 0.5) * (d + 0.5) / ((b + 0.5) * (c + 0.5))
            half = 1.959964 * np.sqrt(sum(1 / (cell + 0.5) for cell in (a, b, c, d))) / np.log(2)
            expected = [np.log2(odds), np.log2(odds) - half, np.log2(odds) + half]
            np.testing.assert_allclose([row[name] for name in ("log2_odds", "ci_low", "ci_high")], expected, rtol=1e-5)


def test_where_few_tokens_are_frequent_fewer_are_listed_and_where_none_is_none(measured):
    model, _, tokens = measured()
    counts = np.sort(tokens.query("layer == 0 and head == 0")["count"].to_numpy())
    found = static_tables(model, tokens, ["s"], min_count=int(counts[-7]))
    n = int((counts >= counts[-7]).sum())
    sizes = found["static_tokens"].groupby(["layer", "head", "end"]).size()
    assert list(sizes) == [n // 2] * 12
    none = static_tables(model, tokens, ["s"], min_count=int(counts[-1]) + 1)
    assert none["static_tokens"].empty and none["static_enrichment"].empty
    assert (none["static_agreement"]["n_tokens"] == 0).all() and none["static_agreement"]["pearson"].isna().all()
    assert len(none["static_agreement"]) == 6 and len(none["static_positions"]) == 6 * model.cfg.n_ctx
    for name, table in {**found, **none}.items():
        assert list(table.columns) == STATIC_COLUMNS[name]


def test_a_head_without_values_does_not_count_when_the_others_are_listed():
    values = torch.ones(1, 3, 8)
    values[0, 1] = torch.nan  # no bias at all
    values[0, 2, 0] = torch.nan  # one token without a key
    count = np.array([9, 9, 9, 9, 9, 9, 0, 0])
    assert fitting_k(values[:, :2], count, 50, 9) == 3
    assert fitting_k(values, count, 50, 9) == 2
    assert fitting_k(values, count, 1, 9) == 1
    assert fitting_k(values, count, 50, 10) == 0


def test_without_a_direction_or_positions_tables_are_empty_and_have_their_columns(measured):
    model, _, tokens = measured(q=NO_BIAS)
    for settings in ({}, {"bias": "none"}):
        for name, table in static_tables(model, tokens, ["s"], **settings).items():
            assert table.empty and list(table.columns) == STATIC_COLUMNS[name]
    learned = static_tables(model, tokens, ["s"], direction="effective")["static_tokens"]
    assert len(learned) and learned["static_alignment"].notna().all()
    rope, _, tokens = measured(positional="rope")
    found = static_tables(rope, tokens, ["s"])
    assert found["static_positions"].empty and len(found["static_tokens"])
    assert static_tables(rope, tokens, ["s"], bias="none")["static_tokens"].empty


@torch.no_grad()
def test_value_tokens_are_those_whose_logits_the_value_bias_moves_most(measured, schemes):
    model, documents, tokens = measured(seed=2)
    found = value_tables(model.train(), tokens, documents, schemes, k=4)
    assert model.training
    model.eval()
    rows = rows_of(documents, model.cfg.n_ctx, "s")[0]
    model.double()
    streams = torch.cat([model(row[None], stop_at_layer=2)[0] for row in rows])
    scale = float((1 / (streams.var(-1, correction=0) + model.cfg.eps).sqrt()).mean())
    for layer, head in np.ndindex(2, 3):
        written = torch.full((model.cfg.d_head,), 0.3).double() @ model.W_O[layer, head]
        logits = ((written - written.mean()) * scale * model.ln_final.w) @ model.W_U
        logits = (logits - logits.mean()).numpy()
        frequent = tokens.query(f"layer == {layer} and head == {head} and count >= 10")["token_index"]
        order = sorted(frequent, key=lambda token, logits=logits: logits[token])
        listed = found["value_tokens"].query(f"layer == {layer} and head == {head}").set_index(["end", "rank"])
        assert listed.loc["top", "token_index"].tolist() == order[::-1][:4]
        assert listed.loc["bottom", "token_index"].tolist() == order[:4]
        np.testing.assert_allclose(listed["logit"], logits[listed["token_index"]], rtol=1e-4, atol=1e-5)
    model.float()
    components = found["value_components"]
    assert list(components.columns) == VALUE_COLUMNS["value_components"]
    assert components.groupby(["layer", "head", "scheme"])["n_tokens"].sum().eq(sum(LENGTHS)).all()
    np.testing.assert_allclose(components["bias_norm"], 0.3 * np.sqrt(model.cfg.d_head), rtol=1e-6)


def test_without_a_mean_value_bias_no_text_is_read(measured, schemes):
    def unread():
        pytest.fail("a document was read")
        yield

    for changes, bias in [({"v": NO_BIAS}, "mean"), ({"v": BiasConfig(0.0, 0.1, "batch")}, "sample"), ({}, "none")]:
        model, _, tokens = measured(**changes)
        for name, table in value_tables(model, tokens, unread(), schemes, bias=bias).items():
            assert table.empty and list(table.columns) == VALUE_COLUMNS[name]
