import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.batch import Classes
from interp.analysis.measurements.static_alignment import extremes_table
from interp.analysis.measurements.value_bias import ValueSums, measure_value_bias, value_bias_logits
from interp.data.contexts import pack
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.analysis.reference import rows_of
from tests.model.cases import MIXED
from tests.model.reference import forward, head_scores

LENGTHS = [33, 7, 50, 21, 64]


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"n_layers": 1, "n_heads": 4, "d_model": 16, "positional": "rope"}], ids=str)
def test_value_bias_logits_are_what_it_adds_while_the_final_scale_is_held(make_model, changes):
    model = make_model(**changes).double()
    stream = torch.randn(5, model.cfg.d_model, generator=torch.Generator().manual_seed(0)).double()
    for layer, head in [(0, 1), (model.cfg.n_layers - 1, 2)]:
        added = model.biases_in_force()[1][layer, head] @ model.W_O[layer, head]
        for row in stream:
            scale = (row - row.mean()).pow(2).mean().sqrt()

            def logits(x, scale=scale):
                return ((x - x.mean()) / scale * model.ln_final.w + model.ln_final.b) @ model.W_U

            expected = logits(row + added) - logits(row)
            found = value_bias_logits(model, inverse_scale=float(1 / scale))[layer, head]
            torch.testing.assert_close(found, expected - expected.mean())
    model.float()


def test_without_a_value_bias_no_logit_moves_and_there_is_no_component(make_model, make_documents, make_scheme):
    model, scheme = make_model(v=BiasConfig()), make_scheme("s", 3)
    assert (value_bias_logits(model) == 0).all()
    found = measure_value_bias(model, make_documents([scheme], model.cfg.d_vocab, LENGTHS), [scheme])
    assert found.components[["component_mean", "component_contrast"]].isna().all(axis=None)
    assert (found.components["bias_norm"] == 0).all()


def test_the_tokens_that_a_head_raises_and_lowers_most_are_listed(make_model):
    model = make_model()
    logits = value_bias_logits(model)
    table = extremes_table(model, logits, np.full(model.cfg.d_vocab, 10), k=3, column="logit")
    one = table[(table["layer"] == 1) & (table["head"] == 0)].set_index(["end", "rank"])
    assert one.loc[("top", 0), "token_index"] == int(logits[1, 0].argmax())
    assert one.loc[("bottom", 0), "logit"] == pytest.approx(float(logits[1, 0].min()))


@torch.no_grad()
@pytest.mark.parametrize("changes", [{}, {"positional": "rope", "activation": "prelu", "n_layers": 1}, MIXED], ids=str)
def test_components_equal_a_slow_reference(make_model, make_documents, make_scheme, changes):
    model, schemes = make_model(**changes), [make_scheme("other", 2), make_scheme("s", 3)]
    documents = make_documents(schemes, model.cfg.d_vocab, LENGTHS)
    found = measure_value_bias(model, documents, schemes, batch_size=3)
    rows, labels = rows_of(documents, model.cfg.n_ctx, "s")
    model.double()
    components, layer, head = [], model.cfg.n_layers - 1, 1
    bias = model.biases_in_force()[1][layer, head]

    def visit(at, normalized):
        if at == layer:
            components.append((head_scores(model, at, head, normalized, 0 * bias)[1] @ bias / bias.norm()).numpy())

    for row in rows:
        forward(model, row, visit)
    model.float()
    flat, classes = np.concatenate(components), np.concatenate(labels)
    where = (found.components["scheme"] == "s") & (found.components["layer"] == layer)
    one = found.components[where & (found.components["head"] == head)]
    np.testing.assert_allclose(one["component_mean"], [flat[classes == c].mean() for c in range(3)], atol=1e-5)
    np.testing.assert_allclose(one["component_sd"], [flat[classes == c].std(ddof=1) for c in range(3)], atol=1e-5)
    np.testing.assert_allclose(one["component_contrast"], one["component_mean"] - flat.mean(), atol=1e-5)
    np.testing.assert_allclose(one["bias_norm"], float(bias.norm()), rtol=1e-6)


@torch.no_grad()
def test_the_inverse_scale_is_that_of_the_final_norm_and_halves_merge(make_model, make_documents, make_scheme):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, [20, 35, 5, 20])  # rows of 20 end where documents do
    found = measure_value_bias(model, documents, [scheme], batch_size=2)
    streams = [model(row[None], stop_at_layer=model.cfg.n_layers)[0] for row in rows_of(documents, 20, "s")[0]]
    inverse = 1 / (torch.cat(streams).var(-1, correction=0) + model.cfg.eps).sqrt()
    assert found.inverse_scale == pytest.approx(float(inverse.mean()), rel=1e-5)

    def sums_over(chosen):
        sums = ValueSums(model, Classes.of([scheme]))
        for contexts in pack(chosen, 20, 3, 0):
            sums.update(contexts)
        return sums

    whole, left, right = sums_over(documents), sums_over(documents[:3]), sums_over(documents[3:])
    left.merge(right)
    torch.testing.assert_close(left.inverse_scale, whole.inverse_scale, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(left.components.sum, whole.components.sum, rtol=1e-6, atol=1e-5)


def test_value_bias_does_not_depend_on_batches_leaves_the_model_and_refuses_nothing(
    make_model, make_documents, make_scheme
):
    model, scheme = make_model(), make_scheme("s", 3)
    documents = make_documents([scheme], model.cfg.d_vocab, LENGTHS)
    model.train()
    one, many = (measure_value_bias(model, documents, [scheme], batch_size=b) for b in (1, 6))
    assert model.training and not any(hook.has_hooks() for hook in model.hook_points())
    pd.testing.assert_frame_equal(one.components, many.components, rtol=1e-4, atol=1e-5)
    with pytest.raises(InterpError, match="no document"):
        measure_value_bias(model, [], [scheme])
    assert model.training
