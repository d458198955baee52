"""What is saved and loaded."""

from dataclasses import replace

import pandas as pd
import pytest

from interp.analysis.interventions.measure import intervene
from interp.analysis.interventions.result import TABLES, Interventions
from interp.analysis.result import Amplification
from interp.analysis.run import measure
from interp.analysis.settings import InterventionSettings, Settings
from interp.errors import InterpError


def test_interventions_survive_saving_and_loading(make_model, corpus, tmp_path):
    scheme, documents = corpus
    found = intervene(
        make_model(), documents, [scheme], InterventionSettings(where="all,L1,L0H2", scales=(0, 2), replicates=10)
    )
    files = found.save(tmp_path / "found")
    text = {f"{name}.{kind}" for name in ("loss", "predictions", "paths") for kind in ("csv", "json")}
    assert {f.name for f in files} == {f"{name}.parquet" for name in TABLES} | text | {"run.json"}
    loaded = Interventions.load(tmp_path / "found")
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(loaded, name), getattr(found, name))
    assert loaded.run == found.run
    (tmp_path / "found" / "paths.parquet").unlink()
    with pytest.raises(InterpError, match=r"lacks paths\.parquet"):
        Interventions.load(tmp_path / "found")


def test_they_go_with_an_amplification_and_do_not_outlive_it(make_model, corpus, tmp_path):
    scheme, documents = corpus
    found = intervene(make_model(), documents, [scheme], InterventionSettings(where="all", scales=(0,), replicates=10))
    result = measure(make_model(), documents, [scheme], Settings(nulls=0, replicates=10))
    replace(result, interventions=found).save(tmp_path)
    pd.testing.assert_frame_equal(Amplification.load(tmp_path).interventions.loss, found.loss)
    result.save(tmp_path)
    assert Amplification.load(tmp_path).interventions is None
    assert not (tmp_path / "interventions").exists()
