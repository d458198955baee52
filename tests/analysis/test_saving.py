import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import interp
from interp.analysis.measurements.static_alignment import static_alignment
from interp.analysis.measurements.value_bias import measure_value_bias
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.saving import load_tables, read_csv, save_tables, write_csv
from interp.analysis.settings import Settings
from interp.errors import InterpError
from interp.model.config import BiasConfig
from tests.report.made import FORMULAS

TABLE = pd.DataFrame({"token": ["null", "nan", "<b>", "\n", "😀"], "value": [1.5, np.nan, -0.0, 2.0, 3.0]})


def test_tables_and_run_come_back_as_they_were_and_every_file_is_named(tmp_path):
    run = {"model": "m", "n": 3, "warnings": ["שלום"]}
    files = save_tables(tmp_path / "new" / "folder", {"one": TABLE, "two": TABLE[:0]}, run, csv=["one"])
    assert sorted(files) == sorted((tmp_path / "new" / "folder").iterdir())
    tables, loaded = load_tables(tmp_path / "new" / "folder", ["one"], "Thing.save", others=True)
    assert loaded == run and list(tables) == ["one", "two"]
    assert list(load_tables(tmp_path / "new" / "folder", ["one"], "Thing.save")[0]) == ["one"]
    pd.testing.assert_frame_equal(tables["one"], TABLE)
    assert list(tables["two"].columns) == ["token", "value"]
    csv = pd.read_csv(tmp_path / "new" / "folder" / "one.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(csv, TABLE)
    rows = json.loads((tmp_path / "new" / "folder" / "one.json").read_text(encoding="utf-8"))
    assert [row["token"] for row in rows] == list(TABLE["token"])
    assert [row["value"] for row in rows] == [1.5, None, 0.0, 2.0, 3.0]


def test_csv_is_safe_to_open_in_a_spreadsheet_and_comes_back_exactly(tmp_path):
    texts = {"token": FORMULAS, "kind": pd.Categorical(FORMULAS), "flag": [text > "a" for text in FORMULAS]}
    numbers = {"value": np.linspace(-1, 1, len(FORMULAS)), "=n": range(len(FORMULAS))}
    table = pd.DataFrame({**texts, **numbers})
    write_csv(table, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["token", "kind", "flag", "value", "'=n"] and len(rows) == len(FORMULAS)
    formulas = {row[0] for row in rows if row[0].startswith(tuple("=+-@\t\r"))}
    assert formulas == {"-5", "+3", "-0.5 1e-05"}  # numbers
    assert [row[3] for row in rows] == [str(value) for value in table["value"]]
    back = read_csv(tmp_path / "table.csv")
    assert list(back.columns) == list(table.columns)
    for name in ("token", "kind"):  # an empty text and a missing one are the same to CSV
        assert back[name].fillna("").tolist() == FORMULAS
    for name in ("flag", "value", "=n"):
        assert back[name].tolist() == table[name].tolist()


def test_a_table_without_rows_keeps_its_columns_and_one_file_writes_all_csv(tmp_path):
    write_csv(TABLE[:0], tmp_path / "table.csv")
    assert list(read_csv(tmp_path / "table.csv").columns) == ["token", "value"]
    package = Path(interp.__file__).parent
    assert [path.name for path in package.rglob("*.py") if "to_csv" in path.read_text(encoding="utf-8")] == [
        "saving.py"
    ]


def test_what_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InterpError, match=r"lacks one\.parquet, run\.json; expected a folder written by Thing\.save"):
        load_tables(tmp_path, ["one"], "Thing.save", others=True)
    for broken in ("one.parquet", "run.json"):
        save_tables(tmp_path, {"one": TABLE}, {})
        (tmp_path / broken).write_text("no")
        with pytest.raises(InterpError, match="cannot be read"):
            load_tables(tmp_path, ["one"], "Thing.save")


@pytest.mark.parametrize("changes", [{}, {"positional": "rope"}, {"q": BiasConfig()}, {"v": BiasConfig()}], ids=str)
def test_tables_on_request_survive_saving_and_loading_and_earlier_ones_do_not(
    make_model, make_documents, make_scheme, tmp_path, changes
):
    schemes = [make_scheme("s", 3)]
    documents = make_documents(schemes, 60, [400, 300])
    for seed, more in ((0, {}), (3, changes)):  # a folder may hold an earlier one
        model = make_model(seed=seed, **more)
        plain = measure(model, documents, schemes, Settings(nulls=0, replicates=2))
        result = plain.with_tables({**plain.static(model), **plain.values(model, documents, schemes)})
        result.save(tmp_path)
    loaded = Amplification.load(tmp_path)
    asked = set(loaded.tables) - set(plain.tables)
    expected = {
        "static_tokens",
        "static_positions",
        "static_agreement",
        "static_enrichment",
        "value_tokens",
        "value_components",
    }
    absent = {"positional": {"static_positions"}, "v": {"value_tokens", "value_components"},
              "q": {name for name in expected if name.startswith("static_")}}  # fmt: skip
    assert asked == expected.difference(*(absent[name] for name in changes))
    for name in asked:
        pd.testing.assert_frame_equal(loaded.tables[name], result.tables[name], check_exact=True)
    if "static_positions" in asked:
        found = loaded.tables["static_positions"].set_index(["layer", "head", "pos"])["static_alignment"]
        assert found.loc[(1, 2, 7)] == static_alignment(model).positions[1, 2, 7].item()
    if "value_components" in asked:
        components = measure_value_bias(model, documents, schemes).components
        for name in components:
            np.testing.assert_array_equal(loaded.tables["value_components"][name], components[name])


def test_tables_that_were_attributes_say_where_they_are(make_model, make_documents, make_scheme):
    scheme = make_scheme("s", 3)
    result = measure(make_model(), make_documents([scheme], 60, [40]), [scheme], Settings(nulls=0, replicates=2))
    for name in ("replicates", "bias_samples", "static_tokens", "value_components"):
        with pytest.raises(AttributeError, match=rf"result\.tables\['{name}'\]"):
            getattr(result, name)
    with pytest.raises(AttributeError, match="no attribute 'hedas'; did you mean 'heads'"):
        result.hedas  # noqa: B018 - reading it is what fails
