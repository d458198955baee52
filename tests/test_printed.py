"""What a person sees who prints a result, or names it in the last line of a notebook's cell."""

import html
from dataclasses import replace

import pandas as pd
import pytest

import interp
from interp.analysis.result import Amplification
from interp.analysis.sentences import read_sentence
from interp.evals import arithmetic, puzzles
from interp.evals.held_out import held_out_loss
from interp.model.checkpoint import load_model
from interp.provenance import WIDTH, Summarized
from interp.replicate.plan import scale
from interp.train import optim
from tests.analysis.test_saved_before import BEFORE
from tests.report import turned
from tests.report.made import make_result
from tests.report.test_explained_and_uses import made_explained, made_uses


@pytest.fixture(scope="module")
def results():
    """One of every class whose objects people print."""
    full, model = make_result(), load_model("tiny-bq", "cpu")
    full = replace(full, further={"explained": made_explained(full)}, uses=made_uses())
    return {
        "amplification": full,
        "comparison": compared(full),
        "interventions": Amplification.load(BEFORE).interventions,
        "uses": made_uses(),
        "sentence": read_sentence(model, "The cat sat on the <b>mat</b>.\nAnd there it sat.", ["surface"]),
        "held-out loss": held_out_loss(model, ["The cat sat on the mat. " * 9, "A dog."], ("surface",)),
        "puzzles": puzzles.evaluate(model, n_items=2),
        "arithmetic": arithmetic.evaluate(model, arithmetic.generate("test", 4)),
        "plan": scale("tiny"),
    }


def compared(result):
    """A comparison in which three classes differ, over heads."""
    made = turned.comparison(result.heads)
    rows = made.classes.loc[(made.classes["statistic"] == "mean") & (made.classes["scheme"] == "pos")]
    rows = rows.assign(statistic="root_mean_square").set_index("token_class")
    columns = ["n_tokens", "value_a", "value_b", "difference", "ci_low", "ci_high"]
    rows.loc["DET", columns] = [5000, 2.0, 1.0, -1.0, -1.25, -0.75]
    rows.loc["ADP", columns] = [5000, 1.0, 3.0, 2.0, 0.25, 3.75]
    rows.loc["SYM", columns] = [99, 1.0, 9.0, 8.0, 7.5, 8.5]
    rows = rows.loc[["ADP", "SYM", "DET"]].reset_index()
    return replace(made, classes=pd.concat([made.classes, rows], ignore_index=True))


def test_a_result_prints_as_a_few_lines_that_end_with_what_to_call(results):
    for name, result in results.items():
        first, *lines = repr(result).split("\n")
        assert first == type(result).__name__, name
        assert 4 <= len(lines) <= 9 and max(map(len, lines)) <= WIDTH, repr(result)
        called = [word.strip(",").split("(")[0].split("[")[0] for word in lines[-1].split() if word.startswith(".")]
        assert len(called) >= 2 and all(hasattr(result, word[1:]) for word in called), lines[-1]


def test_a_notebook_shows_the_same_as_a_small_table(results):
    for name, result in results.items():
        shown, summary = result._repr_html_(), result._summary()
        assert len(shown) < 3000 and shown.count("<tr>") == len([text for text in summary.values() if text]), name
        assert "<b>" not in shown, name  # the text of the sentence
        assert html.escape(summary["next"]) in shown, name


def test_amplification_says_model_text_answer_and_findings(results):
    said = " ".join(repr(results["amplification"]).split())
    found = results["amplification"].findings()
    assert "tiny-bqbv, 4 layers of 6 heads, along bias" in said
    assert "wikipedia-sample (held out): 183,402 tokens, 31 documents; classes: pos, function" in said
    assert "Without b_Q the loss changes by +0.200 nats [" in said
    assert f"{len(found)} of " in said and f"{found.iloc[0]['token_class']}: A = " in said


def test_a_comparison_names_both_sides_and_says_what_its_page_says(results):
    comparison, said = results["comparison"], " ".join(repr(results["comparison"]).split())
    assert "A tiny-bqbv B tiny-bq text" in said and comparison.answer() in said
    # its interval ends 0.75 below 0, that of the larger difference 0.25 above it, and the largest is of a rare class
    clearest = "Clearest for DET: 2.00 doublings in tiny-bqbv, 1.00 in tiny-bq, difference −1.00 [−1.25, −0.75]."
    assert clearest in said
    assert "do not correspond" in said
    apart = " ".join(repr(replace(comparison, heads=comparison.heads[:0])).split())
    assert "single ones are not compared" in apart


def test_hostile_names_are_escaped_and_lines_not_broken():
    result = make_result()
    hostile = replace(result, run=result.run | {"model": "<script>alert(1)</script>\n\x1b[31m", "corpus": "a\nb & <i>"})
    shown, said = hostile._repr_html_(), repr(hostile)
    assert "<script>" not in shown and "<i>" not in shown and "&lt;script&gt;" in shown and "b &amp; &lt;i&gt;" in shown
    assert r"\n\x1b[31m" in said and "\x1b" not in said and len(said.split("\n")) == len(repr(result).split("\n"))
    heads = result.heads.replace({"token_class": {"PUNCT": "<b>", "NOUN": "</td>"}})
    assert "<b>" not in replace(result, heads=heads)._repr_html_()


def test_results_with_little_in_their_run_record_print_too():
    result = make_result(2, 2, passages=2)
    bare = replace(result, run={"model": "m"})
    assert "model" in repr(bare) and "m" in repr(bare) and bare._repr_html_()
    assert "there are no findings" in " ".join(repr(Amplification.load(BEFORE)).split())


def test_without_findings_the_line_says_why(results):
    result = results["amplification"]
    elsewhere = replace(result, run=result.run | {"direction": "b_Q of another"})
    assert "not in force in this model" in " ".join(repr(elsewhere).split())


def test_what_says_no_summary_cannot_be_printed():
    with pytest.raises(NotImplementedError):
        repr(Summarized())


def test_dir_shows_what_is_public_and_all_of_it_is_there():
    from interp.report import figures

    assert set(dir(interp)) == {*interp.__all__, "__version__"}
    for module in (optim, puzzles, figures):
        assert dir(module) == sorted(module.__all__)
        assert all(getattr(module, name) is not None for name in dir(module))
