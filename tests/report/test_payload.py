"""What the page carries: numbers that unpack to the tables, cut where the page says so, and findings that are true."""

from __future__ import annotations

import base64
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from interp.errors import InterpError
from interp.report.dashboard import payload, render, write_dashboard
from interp.report.findings import findings
from interp.report.metrics import with_evidence
from interp.report.panels.packing import pack, script_json
from interp.report.panels.panel import View
from tests.report.test_pattern import made_patterns


def unpacked(packed):
    return np.frombuffer(base64.b64decode(packed["base64"]), f"<{packed['dtype']}")


@pytest.fixture(scope="module")
def page(result):
    return json.loads(script_json(payload(View.of(result))))


def test_packing_keeps_numbers_and_missing_values():
    numbers = np.array([0.25, -1.5, np.nan, 60000.0])
    for dtype in ("f4", "f2"):
        np.testing.assert_array_equal(unpacked(pack(numbers, dtype)), numbers.astype(dtype))


def test_no_string_can_close_the_script_that_holds_the_data():
    text = script_json({"</script><script>alert(1)</script>": ["<!--", "\u2028", "שלום"]})
    assert "<" not in text
    assert json.loads(text) == {"</script><script>alert(1)</script>": ["<!--", "\u2028", "שלום"]}


def test_every_number_of_the_heads_table_is_in_the_page(result, page):
    for scheme in page["schemes"]:
        table = result.heads[result.heads.scheme == scheme["name"]]
        for column in ("log2_amplification", "ci_low", "share_unbiased", "auroc"):
            block = unpacked(scheme["values"][column]).reshape(4, 6, -1)
            place = table.token_class.map(scheme["classes"].index)
            np.testing.assert_allclose(block[table["layer"], table["head"], place], table[column], rtol=1e-6)


def test_row_order_of_the_tables_does_not_matter(result, page):
    heads = result.heads.sample(frac=1, random_state=0).sort_values("scheme", ascending=False, kind="stable")
    scores = result.passage_scores.sample(frac=1, random_state=0)
    shuffled = dataclasses.replace(result, heads=heads, passage_scores=scores)
    again = json.loads(script_json(payload(View.of(shuffled))))
    assert again["panels"]["passages"] == page["panels"]["passages"]
    assert again["schemes"][0]["values"] == page["schemes"][0]["values"]


def test_the_token_cut_keeps_both_ends_of_every_head(make):
    result = make(12, 12)
    tokens = payload(View.of(result))["panels"]["tokens"]
    head = np.repeat(np.arange(144), unpacked(tokens["rows"]))
    contrast = unpacked(tokens["values"]["bias_score_contrast"])
    table = result.tokens.query("layer == 3 and head == 4 and count >= 5").bias_score_contrast
    assert tokens["each"] == 55
    assert (np.bincount(head) <= 110).all()
    np.testing.assert_allclose(np.sort(contrast[head == 40])[-55:], np.sort(table)[-55:], rtol=1e-3)
    np.testing.assert_allclose(np.sort(contrast[head == 40])[:55], np.sort(table)[:55], rtol=1e-3)


def test_a_large_model_gets_fewer_passages_and_the_page_knows_how_many_there_were(make):
    passages = payload(View.of(make(9, 14)))["panels"]["passages"]
    assert len(set(unpacked(passages["passage"]))) == 13
    assert passages["total"] == 20


def test_every_head_is_found_for_the_most_frequent_tokens_and_all_tokens_where_they_are_few(make):
    for result, frequent in ((make(12, 12), 500), (make(48, 25, classes=3, passages=1), 60), (make(2, 3), None)):
        tokens = payload(View.of(result))["panels"]["tokens"]
        found = tokens["found"]
        heads = result.heads[["layer", "head"]].drop_duplicates().shape[0]
        counted = result.tokens.query("layer == 0 and head == 0 and count >= 5").sort_values("count", ascending=False)
        assert found["shape"] == [min(frequent or len(counted), len(counted)), heads]
        assert ("ci_low" in found["values"]) == (frequent is None)
        counts = unpacked(tokens["count"])
        assert (np.diff(counts) <= 0).all() and counts[0] == counted["count"].iloc[0]
        contrast = unpacked(found["values"]["bias_score_contrast"]).reshape(found["shape"])
        for token, head in ((0, 0), (found["shape"][0] - 1, heads - 1)):
            row = result.find(int(unpacked(tokens["token_index"])[token]))
            row = row[row["layer"] * result.run["n_heads"] + row["head"] == head]
            assert contrast[token, head] == pytest.approx(row["bias_score_contrast"].item(), rel=1e-3)


def test_top_passages_refer_to_texts_that_stand_once_and_pairs_that_change_most_come_first(make):
    result = make(6, 6)
    view, table = View.of(result), result.tables["top_passages"]
    top = payload(view)["panels"]["passages"]["top"]
    rows = pd.DataFrame({name: unpacked(packed) for name, packed in top["rows"].items()})
    assert top["total"] == len(table[["layer", "head", "scheme", "token_class"]].drop_duplicates())
    texts = {name: [top["shared"][name][code] for code in unpacked(top[name])] for name in ("title", "token_string")}
    texts |= {name: top[name] for name in ("before", "after")}
    assert len(set(zip(*texts.values(), unpacked(top["pos"]), unpacked(top["document"]), strict=True))) == len(
        top["before"]
    )
    schemes = list(view.schemes)
    looked_at = 0
    for row in rows.sample(200, random_state=0).itertuples():
        scheme = schemes[row.scheme]
        own = table[(table["layer"] * 6 + table["head"] == row.head_number) & (table["scheme"] == scheme)]
        own = own[own["token_class"] == view.schemes[scheme][row.place]]
        [expected] = own[(own["end"] == ["top", "bottom"][row.end]) & (own["rank"] == row.rank)].to_dict("records")
        assert {name: own[row.passage] for name, own in texts.items()} == {name: expected[name] for name in texts}
        assert row.bias_score_contrast == pytest.approx(expected["bias_score_contrast"], rel=1e-3)
        looked_at += 1
    assert looked_at == 200


def test_what_cannot_be_afforded_of_top_passages_is_of_the_weakest_pairs(make):
    result = make(12, 12)
    view = View.of(result)
    top = payload(view)["panels"]["passages"]["top"]
    assert len(json.dumps(top)) < 300_000
    assert 100 < top["pairs"] < top["total"]
    rows = {name: unpacked(packed) for name, packed in top["rows"].items()}
    shown = set(zip(*(rows[name].tolist() for name in ("head_number", "scheme", "place")), strict=True))
    heads = result.heads.query("n_tokens >= 100").copy()
    heads["key"] = list(zip(
        heads["layer"] * 12 + heads["head"], heads["scheme"].map(list(view.schemes).index),
        [view.schemes[scheme].index(name) for scheme, name in zip(heads["scheme"], heads["token_class"], strict=True)],
        strict=True,
    ))  # fmt: skip
    inside = heads["key"].isin(shown)
    strength = heads["log2_amplification"].abs()
    assert strength[inside].min() >= strength[~inside].max()


def test_lists_of_what_heads_write_unpack_to_the_table(result, page):
    writes = page["panels"]["writes"]
    values = unpacked(writes["values"]["value"]).reshape(writes["shape"])
    tokens = unpacked(writes["token"]).reshape(writes["shape"])
    for row in result.tables["writes"].sample(100, random_state=1).itertuples():
        place = (
            row.layer * 6 + row.head,
            ["b_Q", "OV", "b_V"].index(row.of),
            ["top", "bottom"].index(row.end),
            row.rank,
        )
        assert values[place] == pytest.approx(row.value, rel=1e-3)
        assert writes["strings"][tokens[place]] == row.token_string
        assert unpacked(writes["count"])[tokens[place]] == row.count


def test_passage_scores_are_relative_to_the_mean_of_their_head(result, page):
    row = result.passage_scores.query("layer == 2 and head == 1 and passage == 3 and place == 7").iloc[0]
    classes = result.heads.query("layer == 2 and head == 1 and scheme == 'pos'")
    mean = np.average(
        classes.bias_score_mean.fillna(0) - classes.bias_score_contrast.fillna(0), weights=classes.n_tokens
    )
    block = unpacked(page["panels"]["passages"]["values"]["contrast"]).reshape(24, -1)
    assert block[13, 3 * 40 + 7] == pytest.approx(row.bias_score - mean, rel=1e-3)


def test_findings_exclude_zero_leave_out_the_sink_and_name_each_head_once(make):
    result = make(12, 12, passages=1)
    found = findings(result, with_evidence(result), "pos")
    assert len({item.head for item in found.strongest}) == len(found.strongest) == 5
    assert {item.way for item in found.strongest} == {"up", "down"}
    for item in found.strongest:
        interval = item.parts.split("[")[1].split("]")[0].split(", ")  # of what is beyond position
        assert {end[0] for end in interval} == {"+" if item.way == "up" else "−"}
    assert "bos" not in {item.token_class for item in found.strongest}
    assert found.has_sink


def test_a_model_without_bias_has_no_findings_and_still_a_page(result):
    numbers = [
        "log2_amplification",
        "ci_low",
        "ci_high",
        "bias_score_contrast",
        "hedges_g",
        "alignment",
        "bias_score_mean",
    ]
    heads = result.heads.assign(**dict.fromkeys(numbers, 0.0), auroc=0.5)
    numbers += ["log2_amplification_position", "log2_amplification_beyond", "beyond_ci_low", "beyond_ci_high"]
    none = dataclasses.replace(result, heads=heads.assign(**dict.fromkeys(numbers, 0.0)))
    found = findings(none, with_evidence(none), "pos")
    assert found.found == 0 and not found.strongest
    assert "No finding <small>pos</small>" in render(none)


def test_a_page_can_be_made_without_tokens_and_passages(result):
    bare = dataclasses.replace(
        result, tokens=result.tokens[:0], passages=result.passages[:0], passage_scores=result.passage_scores[:0]
    )
    assert 'id="panel-passages"' in render(bare)


def test_a_page_of_twelve_by_twelve_heads_stays_within_two_megabytes_beyond_plotly(make, tmp_path):
    result = make(12, 12).with_tables({"patterns": made_patterns(12, 12, [0, 3, 5, 9])})
    path = write_dashboard(result, tmp_path / "new" / "report.html")
    beyond = path.stat().st_size - len(get_plotlyjs().encode())
    print(f"\n12 x 12 heads: {beyond / 1e6:.2f} MB beyond plotly.js")
    assert beyond <= 2_000_000
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


CASES = [
    ({"run": {"model": "m"}}, "lacks corpus, n_tokens, n_documents"),
    ({"tokens": pd.DataFrame({"layer": []})}, "tokens table lacks the column(s) head"),
    ({"passage_scores": pd.DataFrame({"layer": []})}, "passage_scores table lacks the column(s) head"),
]


@pytest.mark.parametrize(("part", "message"), CASES, ids=[message for _, message in CASES])
def test_a_result_that_lacks_something_is_refused_by_name_and_leaves_no_file(result, tmp_path, part, message):
    with pytest.raises(InterpError) as refused:
        write_dashboard(dataclasses.replace(result, **part), tmp_path / "report.html")
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_counts_that_differ_between_heads_are_refused(result):
    heads = result.heads.copy()
    heads.loc[0, "n_tokens"] += 1
    with pytest.raises(InterpError, match="n_tokens of a class of 'pos' differs between heads"):
        render(dataclasses.replace(result, heads=heads))
