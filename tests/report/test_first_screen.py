"""The first screen: it answers, opens on the strongest finding, and ranks and hatches as all the rest of the page."""

from __future__ import annotations

import dataclasses
import re
from urllib.parse import parse_qs, urlencode

import numpy as np
import pytest
from spacy.glossary import GLOSSARY

from interp.analysis.findings import findings as findings_of
from interp.analysis.findings import rankable
from interp.data.classes.built_in import UNIVERSAL
from interp.report.dashboard import render, write_dashboard
from interp.report.findings import facts, findings, how_made, opening, overview, plain_word
from interp.report.metrics import (
    METRICS,
    indistinct,
    metrics_of,
    ranking_metric,
    strength,
    strongest_first,
    with_evidence,
)
from interp.report.panels.panel import View
from tests.report.reading import hash_of, ready, settle, watched
from tests.report.test_evidence import unpacked
from tests.report.test_explained_and_uses import made_explained, made_uses

NOTES = ["The corpus is small: 31 documents.", "Another note, which is long. " * 9, "A third note."]


def sure(result):
    """The result with all pairs beyond shifted labels."""
    return dataclasses.replace(result, heads=result.heads.assign(beyond_shifted_q=0.01))


def test_every_label_of_the_tagger_has_a_plain_word_and_others_none():
    words = [plain_word("pos", name) for name in (*UNIVERSAL, "SPACE", "bos")]
    assert all(words) and len(set(words)) == len(words)
    assert plain_word("pos", "ADP") == "prepositions" and plain_word("tag", "NNP") == GLOSSARY["NNP"]
    assert plain_word("ent", "B-GPE") == plain_word("ent", "GPE") == GLOSSARY["GPE"]
    assert plain_word("function", "number") == plain_word("mine/X", "X") == plain_word("pos", "mine") == ""


def test_findings_page_and_pictures_rank_alike(result):
    changed = sure(result)
    heads, found = with_evidence(changed), findings_of(changed)
    metric = ranking_metric(heads)
    rows = heads.loc[rankable(heads) & (strength(heads, metric) > 0) & ~indistinct(heads, metric)]
    ranked = strongest_first(rows, metric)
    keys = ["layer", "head", "scheme", "token_class"]
    kept = found.merge(ranked[keys])  # a finding need not be beyond the made-up band
    assert len(kept) > 100 and kept[keys].to_numpy().tolist() == ranked[keys].to_numpy().tolist()
    low, high = ranked["beyond_ci_low"], ranked["beyond_ci_high"]
    nearest = np.where(low > 0, low, -high)
    assert (np.diff(nearest) <= 0).all() and (nearest > 0).all()
    [pos] = [table for name, table in found.groupby("scheme") if name == "pos"]
    first = pos.iloc[0]
    assert opening(changed, heads) == {
        "head": f"L{first['layer']}H{first['head']}", "class": first["token_class"], "scheme": "pos",
        "metric": "log2_amplification_beyond",
    }  # fmt: skip
    shown = findings(changed, heads, "pos").strongest
    best = pos.drop_duplicates(["layer", "head"]).head(5)
    assert [(each.head, each.token_class) for each in shown] == [
        (f"L{row.layer}H{row.head}", row.token_class) for row in best.itertuples()
    ]


def test_a_wide_interval_a_missing_one_and_a_hatched_cell_rank_below(result):
    rows = with_evidence(result).head(5).reset_index(drop=True)
    rows = rows.assign(
        log2_amplification=[3.0, 1.0, -0.9, 5.0, 4.0], ci_low=[0.1, 0.8, -1.1, np.nan, 3.9],
        ci_high=[6.0, 1.2, -0.7, np.nan, 4.1], log2_amplification_null_low=[-0.5] * 4 + [-5.0],
        log2_amplification_null_high=[0.5] * 4 + [5.0],
    )  # fmt: skip
    metric = METRICS["log2_amplification"]
    assert list(strongest_first(rows, metric).index) == [1, 2, 0, 3, 4]
    assert list(strength(rows, metric)) == pytest.approx([0.1, 0.8, 0.7, -np.inf, 3.9])
    without = rows.drop(columns=["ci_low", "ci_high"])
    assert list(strength(without, metric)) == pytest.approx([3, 1, 0.9, 5, 4])
    centred = rows.assign(auroc=[0.1, 0.6, 0.5, 0.9, 0.55])
    assert list(strength(centred, METRICS["auroc"])) == pytest.approx([0.4, 0.1, 0.0, 0.4, 0.05])


def test_without_findings_the_page_opens_on_the_strongest_pair_of_enough_tokens(result):
    heads = result.heads.assign(beyond_shifted_q=0.5)
    rare = (heads["layer"] == 2) & (heads["token_class"] == "X")  # of 60 tokens or so
    heads.loc[rare, ["log2_amplification_beyond", "beyond_ci_low", "beyond_ci_high"]] = 9.0, 8.9, 9.1
    none = dataclasses.replace(result, heads=heads)
    assert heads.loc[rare, "n_tokens"].max() < 100
    place = opening(none, with_evidence(none))
    assert place["class"] not in ("X", "bos", "EMPTY") and place["scheme"] == "pos"
    few = dataclasses.replace(none, heads=heads.assign(n_tokens=heads["n_tokens"].clip(upper=99)))
    assert opening(few, with_evidence(few))["head"] == "L0H0"


def test_the_marks_of_hatching_are_those_of_every_metric(result):
    view = View.of(result)
    rows = view.heads[view.heads["scheme"] == "function"]
    [packed] = [scheme for scheme in view.payload()["schemes"] if scheme["name"] == "function"]
    marks = unpacked(packed["hatched"]).reshape(24, -1)
    for bit, metric in enumerate(metrics_of(rows.columns)):
        shown = rows.assign(hatched=indistinct(rows, metric), number=rows["layer"] * 6 + rows["head"])
        wanted = shown.pivot(index="number", columns="token_class", values="hatched")[packed["classes"]]
        np.testing.assert_array_equal((marks >> bit) & 1, wanted)


def test_seed_date_and_versions_are_not_facts_of_the_first_screen(result):
    run = result.run | {"date": "2026-03-01T14:05:09+01:00"}
    assert [label for label, _ in facts(run)] == [
        "model", "corpus", "read", "token classes by", "bias in force", "direction",
    ]  # fmt: skip
    made = dict(how_made(run))
    assert list(made) == ["command", "seed", "made on", "took", "versions"]
    assert (made["made on"], made["took"]) == ("2026-03-01 13:05 UTC", "41 s")
    assert how_made({"seed": None}) == []
    table = dict(overview(with_evidence(result), "pos").rows)
    assert table["L0"][5] == "PUNCT +1.62"


def chosen(page):
    return {name: page.locator(f"#{name}").input_value() for name in ("class", "scheme", "metric")} | {
        "head": page.locator("#head option:checked").inner_text()
    }


def addressed(page):
    named = {name: text for name, [text] in parse_qs(hash_of(page)[1:]).items()}
    return {"metric": "log2_amplification"} | {name: named[name] for name in sorted(named) if name in chosen(page)}


@pytest.fixture(scope="module")
def full(context, result, tmp_path_factory):
    """A page with everything that the first screen can say."""
    run = result.run | {"warnings": NOTES}
    further = {"explained": made_explained(result)}
    path = tmp_path_factory.mktemp("first") / "report.html"
    page = context.new_page()
    wrong = watched(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    settle(
        ready(
            page,
            write_dashboard(
                dataclasses.replace(sure(result), run=run, further=further, uses=made_uses()), path
            ).as_uri(),
        )
    )
    yield page
    page.close()
    assert not wrong


@pytest.mark.browser
def test_the_first_screen_answers_in_the_order_of_a_readers_questions(full):
    answers = full.locator(".answer").all_inner_texts()
    assert answers[0].startswith(
        "Does the model rely on its bias, b_Q? It is worse without it, but not shown to be worse"
    )
    assert answers[1].startswith("What does it do? In the median head the position of a key explains ")
    places = [full.locator(name).first.bounding_box()["y"] for name in (".answer", ".facts", ".findings", "#controls")]
    assert places == sorted(places) and places[-1] < 700  # the grid begins on the first screen
    box = full.locator("#first").bounding_box()
    assert box["height"] <= 300
    note = full.locator("#first .warning")
    assert note.count() == 1 and note.inner_text().strip() == f"Note {NOTES[0]} 2 more"
    made = full.locator("details.made")
    assert made.get_attribute("open") is None and "seed 0" in made.text_content().replace("\n", " ")
    item = full.locator(".findings:visible li").first
    assert re.search(
        r"^L\d+H\d+ [A-Z]+, [a-z ()]+: \d+(\.\d+)?× the attention A = .*by position, .* beyond it; q = 0.010; n = ",
        item.inner_text(),
    )


@pytest.mark.browser
def test_the_first_screen_is_read_without_a_mouse_and_by_a_screen_reader(full):
    full.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    region = full.get_by_role("region", name="Findings, scheme pos")
    assert region.get_by_role("listitem").count() == 5
    assert region.get_by_role("heading", name="Findings, strongest first pos").count() == 1
    reached = []
    for _ in range(12):
        full.keyboard.press("Tab")
        reached.append(full.evaluate("document.activeElement.innerText"))
        if reached[-1] == "How this was made":
            break
    links = [text for text in reached if text.endswith("× the attention")]
    assert links == region.get_by_role("link").all_inner_texts()
    folded = [text for text in reached if text.endswith(("2 more", "what that means", "How this was made"))]
    assert len(folded) == 3
    full.keyboard.press("Enter")
    assert "41 s" in full.locator("details.made").inner_text()
    full.keyboard.press("Enter")
    region.get_by_role("link").nth(2).focus()
    full.keyboard.press("Enter")
    settle(full)
    assert chosen(full) == addressed(full) and full.locator("#readout").inner_text().startswith(chosen(full)["head"])


@pytest.mark.browser
def test_the_page_opens_on_its_first_finding_which_leads_every_list(fresh_page, address):
    page = fresh_page()
    link = page.locator(".findings:visible a").first
    named = {name: text for name, [text] in parse_qs(link.get_attribute("href")[1:]).items()}
    assert chosen(page) == addressed(page) == named
    assert page.locator("#ranking button b").first.inner_text() == named["head"]
    assert (
        page.locator("#grid [aria-selected=true] span").inner_text()
        == page.locator("#ranking .number").first.inner_text()
    )


@pytest.mark.browser
@pytest.mark.parametrize("name", ["log2_amplification", "log2_amplification_beyond", "contrast_frequency", "hedges_g"])
def test_the_list_of_heads_is_in_the_order_of_python(open_page, make, name):
    page = open_page(f"#head=L0H0&class=*&scheme=pos&metric={name}")
    table = with_evidence(make(12, 12, passages=15))
    rows, metric = table[(table.scheme == "pos") & rankable(table)], METRICS[name]
    wanted = strongest_first(rows, metric).drop_duplicates(["layer", "head"])
    shown = page.locator("#ranking li").all_inner_texts()
    shown = [tuple(text.split()[:2]) for text in shown]
    best = [(f"L{row.layer}H{row.head}", row.token_class) for row in wanted.head(50).itertuples()]
    # half precision may exchange neighbours
    places = [best.index(pair) for pair in shown if pair in best]
    assert len(places) >= 48 and max(abs(np.array(places) - np.arange(len(places)))) <= 3
    how = page.locator("#ranking-how").inner_text()
    assert ("no interval" in how) == (name == "hedges_g")


@pytest.mark.browser
def test_hatching_means_not_beyond_the_control_and_the_legend_names_it(open_page):
    for name, control in (
        ("log2_amplification", "labels shifted"),
        ("bias_score_contrast", "directions of equal spread"),
    ):
        page = open_page(f"#head=L3H2&class=*&scheme=pos&metric={name}")
        for place in ("#grid-legend", "#panel-classes .fine"):
            assert f"hatched: not beyond its control, {control}" in page.locator(place).inner_text()
        bars = page.locator("#bars .bars .point path").evaluate_all(
            "all => all.filter((e) => e.style.fill.includes('url')).length"
        )
        assert 0 < bars < 20
    page = open_page("#head=L3H2&class=*&scheme=pos&metric=hedges_g")
    assert page.locator("#grid .hatched").count() == 0
    assert "nothing is hatched" in page.locator("#grid-legend").inner_text()
    assert page.locator(".hatched:visible").count() == 0


@pytest.mark.browser
def test_a_class_comes_back_with_its_scheme(open_page):
    page = open_page("#head=L0H0&class=NOUN&scheme=pos&tokenClass=VERB")
    page.select_option("#scheme", "function")
    assert (chosen(page)["class"], page.locator("#token-class").input_value()) == ("*", "")
    page.select_option("#class", "number")
    page.select_option("#scheme", "pos")
    assert (chosen(page)["class"], page.locator("#token-class").input_value()) == ("NOUN", "VERB")
    page.select_option("#scheme", "function")
    assert chosen(page)["class"] == "number"
    assert chosen(page) == addressed(page)


@pytest.mark.browser
def test_back_keeps_view_and_address_together(fresh_page):
    page = fresh_page()
    first = chosen(page)
    links = page.locator(".findings:visible a")
    links.nth(1).click()
    settle(page)
    page.select_option("#head", label="L7H7")
    page.select_option("#metric", "auroc")
    second = chosen(page)
    links.nth(2).click()
    settle(page)
    third = chosen(page)
    assert len({urlencode(each) for each in (first, second, third)}) == 3 and third == addressed(page)
    for wanted, move in ((second, page.go_back), (first, page.go_back), (second, page.go_forward)):
        move()
        page.wait_for_function(
            "head => document.querySelector('#head option:checked').textContent === head", arg=wanted["head"]
        )
        settle(page)
        assert chosen(page) == addressed(page) == wanted
    page.evaluate("location.hash = ''")  # an address that names no view shows where the page opens
    page.wait_for_function("location.hash.includes('head=')")
    assert chosen(page) == addressed(page) == first


@pytest.mark.browser
def test_selects_are_as_wide_as_their_words(open_page):
    page = open_page()
    cut = page.locator("select:visible").evaluate_all("""selects => selects.filter((select) => {
      const width = select.offsetWidth;
      select.style.maxWidth = "none";
      const whole = select.offsetWidth;
      select.style.maxWidth = "";
      return width < whole;
    }).map((select) => select.id)""")
    assert cut == [] and page.locator("select:visible").count() >= 5


def test_a_page_without_findings_says_so_and_what_is_there_instead(result):
    none = dataclasses.replace(result, heads=result.heads.assign(beyond_shifted_q=0.5))
    page = render(none)
    assert "No finding <small>pos</small>" in page and "The largest changes are shown instead" in page
    assert "This was not measured in this run" in page
