"""One function per picture: a table in, a Plotly figure out, nothing else happens. Page, notebook and widget use them alike.

Red is amplified and blue is suppressed, the sign is printed too, and what is not beyond its control is hatched.

    head_grid(result.heads, "pos", "PUNCT").show()
    class_bars(with_evidence(result), layer=3, head=7, scheme="pos", metric="bias_score_contrast", theme="dark").show()

`with_evidence(result)` is `result.heads` with the intervals and null bands that the other tables of the result have; a
figure draws those it finds. Every function takes `theme` ("light" or "dark"); those with diverging colours take
`palette` ("red-blue", or "orange-purple" for readers who see red and blue badly). `paper` gives any of them the size, the
letters and the template of a paper:

    paper(head_grid(result.heads, "pos", "PUNCT"), width=3.25, font=8).write_image("grid.pdf")
"""

from interp.page.look import paper
from interp.report.metrics import with_evidence
from interp.report.panels.classes import class_bars, token_bars
from interp.report.panels.compare import class_differences, class_distributions, comparison_grids
from interp.report.panels.effect import attention_change, loss_change
from interp.report.panels.explained import explained_chart
from interp.report.panels.heads import head_grid
from interp.report.panels.pattern import attention_pattern
from interp.report.panels.position import adjusted_contrasts, position_profile
from interp.report.panels.scatter import head_scatter, head_table
from interp.report.panels.uses import uses_chart

__all__ = [
    "adjusted_contrasts", "attention_change", "attention_pattern", "class_bars", "class_differences", "class_distributions",
    "comparison_grids", "explained_chart", "head_grid", "head_scatter", "head_table", "loss_change", "paper",
    "position_profile", "token_bars", "uses_chart", "with_evidence",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__
