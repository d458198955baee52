"""Direct and indirect paths, and effects planted by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.interventions.measure import intervene
from interp.analysis.run import measure
from interp.analysis.settings import InterventionSettings, Settings
from interp.model.config import BiasConfig
from tests.analysis.interventions.observed import Observed, rows_about

PER_HEAD = BiasConfig(0.0, 1.0, "fixed", shared_across_heads=False)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("part", ["q", "qv"])
def test_paths_equal_a_slow_reference_and_their_parts_sum_to_the_total(make_model, corpus, part):
    model, (scheme, documents) = make_model(n_layers=3, seed=1), corpus
    found = intervene(
        model, documents, [scheme], InterventionSettings(where="L0", scales=(2,), part=part, replicates=30)
    ).paths
    tables = {name: rows.set_index(["layer", "head", "token_class"])["log2_amplification"]
              for name, rows in found.groupby("path")}  # fmt: skip
    sources = found[found["path"] == "source"].groupby(["layer", "head", "token_class"])["log2_amplification"].sum()
    pd.testing.assert_series_equal(tables["direct"] + tables["indirect"], tables["total"], check_names=False)
    indirect = tables["indirect"][tables["indirect"].index.get_level_values("layer") > 0]
    pd.testing.assert_series_equal(sources, indirect, check_names=False, rtol=1e-9)
    assert (tables["indirect"].loc[0] == 0).all()
    parts = tables["direct position"] + tables["direct beyond position"]
    pd.testing.assert_series_equal(parts, tables["direct"], check_names=False)
    heads = measure(model, documents, [scheme], Settings(nulls=0)).heads.set_index(["layer", "head", "token_class"])
    np.testing.assert_allclose(tables["direct"], heads.loc[tables["direct"].index, "log2_amplification"], atol=1e-4)
    for part_of, column in (("position", "position"), ("beyond position", "beyond")):
        value = tables[f"direct {part_of}"]
        np.testing.assert_allclose(value, heads.loc[value.index, f"log2_amplification_{column}"], atol=1e-4)
    model.double()

    def share(present):  # log2 of the shares in layer 2 with the biases of the layers below `present` only
        off = torch.arange(3)[:, None, None] >= present
        q, v = model.biases_in_force()
        with model.bias(bias=(q.masked_fill(off, 0), v.masked_fill(off, 0) if "v" in part else None)):
            return np.log2(Observed(model, documents, "s", 3).shares[2].sum(1))

    found = found[found["layer"] == 2]
    steps = [share(present) for present in range(4)]
    model.float()
    for (path, source), value in {
        ("total", None): steps[3] - steps[0], ("direct", 2): steps[3] - steps[2], ("indirect", None): steps[2] - steps[0],
        ("source", 0): steps[1] - steps[0], ("source", 1): steps[2] - steps[1],
    }.items():  # fmt: skip
        here = (found["path"] == path) & (
            found["source_layer"].isna() if source is None else found["source_layer"] == source
        )
        np.testing.assert_allclose(found.loc[here, "log2_amplification"], value.ravel(), atol=1e-4)


def test_a_value_bias_has_no_direct_path_to_the_attention_of_its_own_layer(make_model, corpus):
    scheme, documents = corpus
    found = intervene(
        make_model(), documents, [scheme], InterventionSettings(where="L0", scales=(0,), part="v", replicates=20)
    )
    direct = found.paths[found.paths["path"] == "direct"]
    assert (direct["log2_amplification"] == 0).all() and (direct[["ci_low", "ci_high"]].dropna() == 0).all(axis=None)
    assert found.paths.loc[found.paths["path"].str.startswith("direct "), "log2_amplification"].isna().all()
    own = found.attention["layer"] == 0
    assert (found.attention.loc[own, "log2_change"] == 0).all() and (
        found.attention.loc[~own, "log2_change"] != 0
    ).any()


@torch.no_grad()
def test_a_planted_effect_is_found_where_it_was_planted_and_its_control_is_smaller(
    make_model, make_documents, make_scheme
):
    """Only head 1 of layer 1 has a bias, along the keys of odd tokens: removing it takes attention from them."""
    model, scheme = make_model(d_model=96, seed=4, std=0.05, q=PER_HEAD), make_scheme("s", 2)
    documents = make_documents([scheme], 60, [40] * 16)
    for document in documents:
        document.classes["s"][:] = document.tokens % 2
    keys, rows = [], torch.from_numpy(np.concatenate([document.tokens for document in documents])).view(-1, 20)
    model.bias_q.value.zero_()
    hook = ("blocks.1.attn.hook_k", lambda k, hook: keys.append(k[:, :, 1].flatten(0, 1)))
    model.run_with_hooks(rows, fwd_hooks=[hook], return_type=None)
    odd = (rows.flatten() % 2).bool()
    toward = keys[0][odd].mean(0) - keys[0][~odd].mean(0)
    model.bias_q.value[1, 1] = toward / toward.square().sum() * 32**0.5  # 1 nat on average
    found = intervene(
        model,
        documents,
        [scheme],
        InterventionSettings(where="all,L0,L1H0,L1H1", scales=(0, 2), random_directions=8, replicates=20),
    )
    for name in ("all", "L1H1"):
        removed, doubled = (rows_about(found.attention, name, scale) for scale in (0, 2))
        for rows, sign in ((removed, -1), (doubled, 1)):
            here = rows[(rows["layer"] == 1) & (rows["head"] == 1) & (rows["token_class"] == "s1")].iloc[0]
            assert sign * here["log2_change"] > 0.05 and np.sign(here["ci_low"]) == np.sign(here["ci_high"]) == sign
            assert (rows.loc[rows["head"] != 1, "log2_change"].abs() < 1e-5).all()
        controls = found.attention[
            (found.attention["intervention"] == name) & (found.attention["direction"] == "random")
        ]
        at = controls[(controls["scale"] == 0) & (controls["head"] == 1) & (controls["token_class"] == "s1")]
        assert len(at) == 8 and at["log2_change"].abs().median() < 0.1
    nothing = found.loss[found.loss["intervention"].isin(["L0", "L1H0"])]
    assert (nothing["difference"] == 0).all()
    whole, only = (rows_about(found.loss, name, 0) for name in ("all", "L1H1"))
    np.testing.assert_array_equal(whole["difference"], only["difference"])
