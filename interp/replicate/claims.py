"""What a replication answers: three sentences, and what the paper says, claim by claim. The numbers choose the words."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from interp.analysis.significance import benjamini_hochberg
from interp.replicate import published
from interp.replicate.hierarchy import MOST_SEEDS, POWER, Estimate, Runs, detectable, largest_sd, seeds_needed, share_of
from interp.replicate.plan import MATRIX
from interp.replicate.results import BASE, Contrast, cells_of, contrasts, is_earlier, runs_of

NAMES = {"adamw": "AdamW", "soap": "SOAP", "sgdm": "SGDM", "ecd": "ECD"}
NOT_YET = "not measured"
ALPHA = 0.05
SIZE = (
    f"Seeds needed: so many find the published difference in {POWER:.0%} of cases (paired differences, two-sided t test at "
    "5%, the documents as they are), with the standard deviation between seeds that was seen here; in brackets with the "
    "upper end of its 95% interval, as few seeds tell it badly. Where no size was published: what the seeds that were run "
    "would find."
)
Side = Literal["below", "above"]


@dataclass(frozen=True)
class Claim:
    """A claim of the paper: what would show it, what was published, what is seen here, and what size is needed.

    `found` is the estimate that lies on the side `wanted` of 0 if the claim holds; `effect` is the published one, `more`
    what stands beside the verdict, `form` how numbers are written.
    """

    claim: str
    shows: str
    found: Estimate
    wanted: Side = "below"
    published: str = "–"
    effect: float | None = None
    more: str = ""
    form: str = "+.4f"

    def seen(self, q: float) -> str:
        """Return in words what is seen here; q is corrected for the number of claims."""
        return verdict(self.found, q, self.wanted, self.effect, self.form) + (self.more if self.found.seeds else "")

    @property
    def needed(self) -> str:
        """How many seeds tell the published effect, if it goes where it should; else what the seeds that were run tell."""
        goes = self.effect is not None and (self.effect < 0) == (self.wanted == "below")
        return size_needed(self.found, self.effect if goes else None, self.form.replace("+", ""))


def verdict(found: Estimate, q: float, wanted: Side, effect: float | None = None, form: str = "+.4f") -> str:
    """Return in words whether an estimate lies on the claimed side of 0, and whether a published effect is within it.

    Args:
        found: the estimate.
        q: its p, corrected for the number of claims; from 0.05 on it decides nothing.
        wanted: the claimed side.
        effect: the published one.
        form: how numbers are written.
    """
    if not found.seeds:
        return NOT_YET
    if found.side == "unknown":
        return f"{found:{form}}, one seed: no interval"
    number = f"{found:{form}}, {found.seeds} seeds"
    if found.side != "unsure":
        if q < ALPHA:
            return f"{'yes' if found.side == wanted else 'the opposite'}: {number}"
        return f"cannot be told among so many claims: {number}, q {q:.2f}"
    if effect is None:
        return f"cannot be told: {number}"
    return f"cannot be told: {number}; {effect:{form}} is {'in' if found.low <= effect <= found.high else 'outside'} it"


def size_needed(found: Estimate, effect: float | None = None, form: str = ".4f") -> str:
    """Return how many seeds tell a published effect, or, without one, what the seeds that were run can tell."""
    if found.seeds < 2:
        return "–"
    if effect is None:
        return f"{found.seeds} seeds find {detectable(found.sd, found.seeds):{form}}"
    least, most = (seeds_needed(effect, sd) for sd in (found.sd, largest_sd(found.sd, found.seeds)))
    return f"{_count(least)} [{_count(most)}] seeds"


def _count(seeds: int) -> str:
    return f"over {MOST_SEEDS:,}" if seeds >= MOST_SEEDS else f"{seeds:,}"


def claims(table: pd.DataFrame, activation: str) -> list[tuple[Claim, float]]:
    """Return what the paper says with what the table has to say of each, and q, corrected for the number of claims."""
    made = [*_of_losses(table, activation), *_of_gaps(table, activation), *_of_attention(table), *_of_uses(table)]
    return list(zip(made, benjamini_hochberg(np.array([claim.found.p for claim in made])).tolist(), strict=True))


def _of_losses(table: pd.DataFrame, activation: str) -> Iterator[Claim]:
    lower = "lower loss than symmetric"
    for optimizer, variant, act in (("ecd", "bq", "gelu"), (BASE, "bq", "prelu"), (BASE, "bqbv", "gelu")):
        ablation = MATRIX if act == activation else act
        runs = _minus(table, (optimizer, variant, ablation), (optimizer, "symmetric", ablation))
        told = published.published_differences(act, optimizer, variant).estimate
        name = {"bq": "b_Q lowers", "bqbv": "b_Q and b_V lower"}[variant]
        yield _loss(f"{name} the loss with {NAMES[optimizer]} ({_act(act)})", lower, told, runs)
    [alone] = published.published_losses("gelu", BASE, "symmetric")
    told = Estimate(round(published.FOUR_DIRECTIONS - alone.loss, 6), seeds=1)
    runs = _minus(table, (BASE, "bq", "four-directions"), (BASE, "symmetric", MATRIX))
    yield _loss("Four directions of b_Q lower the loss with AdamW (GELU)", lower, told, runs)
    for optimizer in (BASE, "ecd"):
        found = _minus(table, (optimizer, "bq", "learned"), (optimizer, "bq", MATRIX)).estimate
        yield Claim(
            f"A learned b_Q trains to a lower loss, with {NAMES[optimizer]}", "lower loss than drawn anew", found
        )
    found = _minus(table, (BASE, "bq", "fixed"), (BASE, "bq", MATRIX)).estimate
    yield Claim("b_Q has to be drawn anew for every batch (AdamW)", "higher loss if it is drawn once", found, "above")


def _of_gaps(table: pd.DataFrame, activation: str) -> Iterator[Claim]:
    narrowed, broken = (contrasts(table, kind) for kind in ("narrowing", "breaking"))
    for optimizer in ("ecd", "sgdm"):
        for variant, name in (("bq", "b_Q brings"), ("bqbv", "b_Q and b_V bring")):
            told = published.published_narrowing(activation, optimizer, variant).estimate
            hollow = "; AdamW itself gets worse" if _contrast(broken, BASE, variant).estimate.side == "above" else ""
            runs = _contrast(narrowed, optimizer, variant)
            yield _loss(f"{name} {NAMES[optimizer]} nearer to AdamW", "a smaller gap", told, runs, hollow)
    known = published.soap_minus_adamw()
    told = "; ".join(f"{', '.join(f'{x:+.3f}' for x in values)} with {_act(name)}" for name, values in known.items())
    for how, soap, adamw in (
        ("tuned learning rates", MATRIX, MATRIX),
        ("published rates, constant", "published-rate-soap", "published-rate"),
    ):
        found = _minus(table, ("soap", "symmetric", soap), (BASE, "symmetric", adamw)).estimate
        yield Claim(
            f"SOAP trains to a lower loss than AdamW ({how})", "SOAP minus AdamW below 0", found, published=told
        )


def _of_attention(table: pd.DataFrame) -> Iterator[Claim]:
    for optimizer in (BASE, "ecd"):
        name = NAMES[optimizer]
        own, zero, twin = (
            runs_of(table, optimizer, variant, "rms_beyond", ablation)
            for variant, ablation in (("bq", MATRIX), ("bq", "zero-mean"), ("symmetric", MATRIX))
        )
        shifted = runs_of(table, optimizer, "bq", "rms_shifted").estimate
        yield Claim(
            f"b_Q changes the attention to classes, with {name}",
            "rms A beyond position above that of the symmetric model along the same b_Q",
            (own - twin).estimate, "above", more=f"; A of shifted labels {shifted.mean:.2f}", form="+.3f",
        )  # fmt: skip
        one, two = (runs_of(table, optimizer, variant, "singled_out") for variant in ("bq", "symmetric"))
        yield Claim(
            f"b_Q singles out classes, with {name}",
            "more pairs beyond directions of equal spread than in the symmetric model",
            (one - two).estimate, "above", more=f"; {one.estimate.mean:.1%} of pairs", form="+.1%",
        )  # fmt: skip
        left = (zero - twin).estimate
        rest = {"above": "in part: still above symmetric", "below": "below symmetric", "unknown": "symmetric not known",
                "unsure": "not told from symmetric"}[left.side]  # fmt: skip
        yield Claim(
            f"A mean of 0 gives none of it, with {name}",
            "rms A beyond position below that with the mean, and not above that of the symmetric model",
            (zero - own).estimate, more=f"; {rest}, {left:+.3f}", form="+.3f",
        )  # fmt: skip
    low, high = published.ENRICHMENT
    for name, many in (("function", "Function words"), ("frequent", "Frequent tokens")):
        own, twin = (runs_of(table, BASE, variant, f"enrichment_{name}") for variant in ("bq", "symmetric"))
        yield Claim(
            f"{many} are over-represented among the most aligned tokens (AdamW)",
            "log2 odds above those of the symmetric model along the same b_Q", (own - twin).estimate, "above",
            f"{low:+.1f} to {high:+.1f}", low, f"; itself {own.estimate:+.2f}", "+.2f",
        )  # fmt: skip


def _of_uses(table: pd.DataFrame) -> Iterator[Claim]:
    for optimizer in dict.fromkeys(table["optimizer"]):
        kind, position, cost = (runs_of(table, optimizer, "bq", f"uses_{of}") for of in ("class", "position", "cost"))
        yield Claim(
            f"b_Q is used for classes before position, with {NAMES.get(optimizer, optimizer)}",
            "a bias that knows only the class gives back more of what removing b_Q costs than one that knows the position",
            (kind - position).estimate, "above", form="+.3f",
            more="" if cost.estimate.side == "above" else "; that removing b_Q costs anything is not shown",
        )  # fmt: skip
    cells = ((BASE, "bq", "rope"), (BASE, "bq", MATRIX))
    rope, own = (runs_of(table, *cell[:2], "uses_position", cell[2]) for cell in cells)
    yield Claim(
        "The use for position goes where no position is embedded (rotary positions, AdamW)",
        "a bias that knows only the position gives back less of the cost than with embedded positions",
        (rope - own).estimate, form="+.3f",
        more="; shares " + " and ".join(f"{_share(table, BASE, 'position', cell[2]):.0%}" for cell in cells),
    )  # fmt: skip


def _loss(claim: str, shows: str, told: Estimate, runs: Runs, more: str = "") -> Claim:
    """A claim that a loss is lower, of which a difference may be published."""
    if not told.seeds:
        return Claim(claim, shows, runs.estimate, more=more)
    said = f"{told:+.4f}, {told.seeds} seed{'s' * (told.seeds > 1)}"
    return Claim(claim, shows, runs.estimate, published=said, effect=told.mean, more=more)


def _act(name: str) -> str:
    return {"gelu": "GELU", "prelu": "PReLU"}.get(name, name)


def _minus(table: pd.DataFrame, own: tuple[str, str, str], other: tuple[str, str, str]) -> Runs:
    one, two = (runs_of(table, *cell[:2], "validation_loss", cell[2]) for cell in (own, other))
    return one - two


def _contrast(found: list[Contrast], optimizer: str, variant: str) -> Runs:
    cell = (optimizer, variant, MATRIX)
    return next((c.runs for c in found if (c.optimizer, c.variant, c.ablation) == cell), Runs())


def _share(table: pd.DataFrame, optimizer: str, what: str, ablation: str = MATRIX) -> Estimate:
    part, whole = (runs_of(table, optimizer, "bq", f"uses_{name}", ablation) for name in (what, "cost"))
    return share_of(part, whole)


def answers(table: pd.DataFrame) -> list[str]:
    """Return three sentences that a newcomer understands: on the loss, on attention to classes, on what b_Q is used for."""
    return [of(table) for of in SENTENCES]


def loss_sentence(table: pd.DataFrame) -> str:
    """Return what b_Q does to the loss, the optimizers sorted by where the interval lies."""
    found = [c for c in contrasts(table, "breaking") if c.ablation == MATRIX and c.variant == "bq"]
    told = {side: [c for c in found if c.estimate.side == side] for side in ("below", "above", "unsure")}
    verbs = {
        "below": "lowers the loss on new text",
        "above": "raises it" if told["below"] else "raises the loss on new text",
        "unsure": "makes no difference that the seeds can tell",
    }
    parts = [f"{verbs[side]} with {_listed(own)}" for side, own in told.items() if own]
    if not parts:
        return "Whether b_Q, a bias added to every query, lowers the loss on new text is not measured yet."
    if not told["below"] and not told["above"]:
        parts[0] = parts[0].replace("no difference", "no difference to the loss on new text", 1)
    return (
        f"A bias b_Q, added to every query while a model is trained, {'; it '.join(parts)}: nats per token, with b_Q minus "
        "without, with 95% intervals."
    )


def _listed(found: list[Contrast]) -> str:
    return ", ".join(f"{NAMES.get(c.optimizer, c.optimizer)} ({c.estimate:+.3f})" for c in found)


def attention_sentence(table: pd.DataFrame) -> str:
    """Return how much b_Q changes the attention to classes, beside its controls, and whether it singles classes out."""
    optimizer = _first(table, "rms_beyond")
    if optimizer is None:
        if is_earlier(table).any():
            return (
                "What b_Q does to the attention that classes of tokens get was measured by an earlier version against "
                "random directions only, which labels without meaning pass too, so nothing is said of it here."
            )
        return "What b_Q does to the attention that classes of tokens get is not measured yet."
    own, twin, shifted = (
        runs_of(table, optimizer, variant, metric)
        for variant, metric in (("bq", "rms_amplification"), ("symmetric", "rms_amplification"), ("bq", "rms_shifted"))
    )
    said = {"above": "more than", "below": "less than", "unsure": "which cannot be told from", "unknown": "beside"}
    one, two = (runs_of(table, optimizer, variant, "singled_out") for variant in ("bq", "symmetric"))
    pairs = (
        f"{one.estimate.mean:.0%} of all pairs of a head and a class, against {two.estimate.mean:.0%}, lie beyond "
        "directions along which keys spread as much"
    )
    single = {
        "above": f"it singles out classes: {pairs}",
        "below": f"it singles out fewer classes: {pairs}",
        "unsure": f"that it singles out classes is not shown: {pairs}",
        "unknown": f"whether it singles out classes takes more seeds: {pairs}",
    }
    return (
        f"With {NAMES.get(optimizer, optimizer)}, b_Q changes the attention that classes of tokens get by "
        f"{own.estimate.mean:.2f} doublings (root mean square), {said[(own - twin).estimate.side]} the "
        f"{twin.estimate.mean:.2f} of a model trained without it and read along the same b_Q "
        f"({shifted.estimate.mean:.2f} for labels that mean nothing); {single[(one - two).estimate.side]}."
    )


def uses_sentence(table: pd.DataFrame) -> str:
    """Return what b_Q is used for, if removing it costs anything."""
    optimizer = _first(table, "uses_cost", twin=False)
    if optimizer is None:
        return "What b_Q is used for is not measured yet."
    cost, control = (runs_of(table, optimizer, "bq", name) for name in ("uses_cost", "uses_control"))
    name, total = NAMES.get(optimizer, optimizer), cost.estimate
    if total.side == "unknown":
        return f"Removing b_Q costs {total.mean:+.3f} nats in one run with {name}; what it is used for takes two seeds."
    if total.side != "above":
        return (
            f"That removing b_Q costs anything with {name} is not shown ({total:+.3f} nats), so no use of it is either."
        )
    position, kind = (_share(table, optimizer, what) for what in ("position", "class"))
    beside = control.estimate.mean
    more = (cost - control).estimate.side
    alone = "" if more == "above" else ", so the cost alone says nothing of b_Q"
    return (
        f"Of the {total.mean:.3f} nats that removing b_Q costs with {name} (removing as widely spread scores along other "
        f"directions: {beside:.3f}{alone}), a bias that knows only a token's position gives back {position:.0%}, one that "
        f"knows only its class {kind:.0%}, {used_first(position, kind)}."
    )


def used_first(position: Estimate, kind: Estimate) -> str:
    """Return for what b_Q is used first: of which the share that is given back has its interval above the other's."""
    if position.low > kind.high:
        return "so it is used for position first"
    if kind.low > position.high:
        return "so it is used for classes first"
    return "and which of them it is used for first cannot be told"


SENTENCES: tuple[Callable[[pd.DataFrame], str], ...] = (loss_sentence, attention_sentence, uses_sentence)


def _first(table: pd.DataFrame, metric: str, twin: bool = True) -> str | None:
    """The first optimizer with at least one run with b_Q that is measured so, and one without if there has to be a twin."""
    for optimizer in dict.fromkeys(optimizer for optimizer, _, _ in cells_of(table)):
        cells = ["bq", *(["symmetric"] if twin else [])]
        if all(runs_of(table, optimizer, variant, metric).values for variant in cells):
            return optimizer
    return None
