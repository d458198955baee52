import json

import numpy as np
import pandas as pd
import pytest
import torch

from interp.analysis.measurements.static_alignment import StaticAlignment, static_alignment
from interp.analysis.measurements.value_bias import ValueBias, measure_value_bias
from interp.analysis.saving import load_tables, save_tables
from interp.errors import InterpError
from interp.model.config import BiasConfig

TABLE = pd.DataFrame({"token": ["null", "nan", "<b>", "\n", "😀"], "value": [1.5, np.nan, -0.0, 2.0, 3.0]})


def test_tables_and_run_come_back_as_they_were_and_every_file_is_named(tmp_path):
    run = {"model": "m", "n": 3, "warnings": ["שלום"]}
    files = save_tables(tmp_path / "new" / "folder", {"one": TABLE, "two": TABLE[:0]}, run, csv=["one"])
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())
    tables, loaded = load_tables(tmp_path / "new" / "folder", ["one"], "Thing.save", ["two", "three"])
    assert loaded == run and list(tables) == ["one", "two"]
    pd.testing.assert_frame_equal(tables["one"], TABLE)
    assert list(tables["two"].columns) == ["token", "value"]
    csv = pd.read_csv(tmp_path / "new" / "folder" / "one.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(csv, TABLE)
    rows = json.loads((tmp_path / "new" / "folder" / "one.json").read_text(encoding="utf-8"))
    assert [row["token"] for row in rows] == list(TABLE["token"])
    assert [row["value"] for row in rows] == [1.5, None, 0.0, 2.0, 3.0]


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InterpError, match=r"lacks one\.parquet, run\.json; expected a folder written by Thing\.save"):
        load_tables(tmp_path, ["one"], "Thing.save", ["two"])
    for broken in ("one.parquet", "run.json"):
        save_tables(tmp_path, {"one": TABLE}, {})
        (tmp_path / broken).write_text("no")
        with pytest.raises(InterpError, match="cannot be read"):
            load_tables(tmp_path, ["one"], "Thing.save")


@pytest.mark.parametrize("changes", [{}, {"positional": "rope"}, {"q": BiasConfig()}], ids=str)
def test_a_static_alignment_survives_saving_and_loading(make_model, tmp_path, changes):
    static_alignment(make_model()).save(tmp_path)  # a folder may hold an earlier one
    found = static_alignment(make_model(seed=3, **changes))
    found.save(tmp_path)
    loaded = StaticAlignment.load(tmp_path)
    torch.testing.assert_close(loaded.tokens, found.tokens, equal_nan=True, rtol=0, atol=0)
    if found.positions is None:
        assert loaded.positions is None
    else:
        torch.testing.assert_close(loaded.positions, found.positions, equal_nan=True, rtol=0, atol=0)
    table = pd.read_parquet(tmp_path / "tokens.parquet")
    row = table[(table["layer"] == 1) & (table["head"] == 2) & (table["token_index"] == 7)].iloc[0]
    np.testing.assert_array_equal(row["alignment"], found.tokens[1, 2, 7].item())


def test_a_value_bias_survives_saving_and_loading(make_model, make_documents, make_scheme, tmp_path):
    model, scheme = make_model(), make_scheme("s", 3)
    found = measure_value_bias(model, make_documents([scheme], model.cfg.d_vocab, [33, 7]), [scheme])
    names = {file.name for file in found.save(tmp_path)}
    assert names == {"components.parquet", "components.csv", "components.json", "run.json"}
    loaded = ValueBias.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.components, found.components)
    assert (
        loaded.inverse_scale == found.inverse_scale == json.loads((tmp_path / "run.json").read_text())["inverse_scale"]
    )
