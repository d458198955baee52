"""What b_Q is used for: the loss when every bias score is replaced by what its position, class or type says of it.

All heads of all layers are changed at once, so that a later layer's scores are those of the changed model, of which the
replacement keeps the part named: nothing (b_Q removed), the mean given position, class or token type, or what that mean
leaves over (`interp.analysis.interventions.scores`). The loss of each, less that of the unchanged model, is its cost, and

    restored = 1 - cost / cost of removing b_Q,

the share of what removing b_Q costs that is given back by a bias that knows so much. The control removes, beside b_Q, the
scores along another direction of each head along which keys spread as much: what removing such scores costs whatever
they mean.

Intervals: Poisson bootstrap over documents, paired; that of the ratio is Fieller's, from the same replicates: bounded
exactly where the interval of what removing costs does not hold 0, and missing elsewhere.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp.analysis.accumulators import BootstrapSums, Sums, poisson_weights
from interp.analysis.batch import Batch, Classes, DocumentCounts
from interp.analysis.direction import direction_name
from interp.analysis.interventions.measure import Replicates, Values, classes_with_overall, estimate, with_overall
from interp.analysis.interventions.result import OVERALL
from interp.analysis.interventions.run import by_document_and_class, losses_of, stacked
from interp.analysis.interventions.scores import POSITION, TYPE, KeysOfText, Known, TokenGroups
from interp.analysis.interventions.uses import CONTROL, NOTHING, REPLICATES_COLUMNS, USES_COLUMNS, Uses
from interp.analysis.readers.own import OwnReader
from interp.analysis.readers.reader import SIDE_BY_SIDE, Changes, Ran, Reader
from interp.analysis.resume import all_reduce_sums
from interp.analysis.settings import UsesSettings
from interp.analysis.significance import interval_over_documents
from interp.data.classes.scheme import Scheme
from interp.data.contexts import Contexts, TaggedDocument, pack
from interp.errors import InterpError
from interp.model.distributed import World
from interp.model.transformer import HookedSymmetryBrokenTransformer


class Replacement(NamedTuple):
    """What stays of the bias scores; `known` is what the fitted mean knows, None for the control and for nothing."""

    keeps: str
    known: Known | None = None
    rest: bool = False  # what the mean leaves over, not the mean
    draw: int = 0


def replacements(schemes: Iterable[str], controls: int) -> list[Replacement]:
    """Return all of them, b_Q removed first."""
    known = [POSITION, *(("class", name) for name in schemes), TYPE]
    return [
        Replacement(NOTHING),
        *(Replacement(each[0], each) for each in known),
        *(Replacement(f"all but {each[0]}", each, rest=True) for each in known),
        *(Replacement(CONTROL, draw=draw) for draw in range(controls)),
    ]


class UsesSums(Sums):
    """Losses per class of predicted tokens, of every replacement and last of the unchanged model.

    Of several processes that read the same text each makes every so many of the stacks of runs, and the first the unchanged
    one too; merged, they have all. Sums are float64 and do not grow with the corpus.

    Args:
        keys: of the first pass over the text.
        plan: the replacements; their rows go in this order.
        classes: of the predicted tokens.
        settings: replicates, controls and seed.
        stack: runs that go side by side along the batch axis.
        world: this process among others.
    """

    PARTS = ("losses", "predicted")

    def __init__(
        self,
        keys: KeysOfText,
        plan: Sequence[Replacement],
        classes: Classes,
        settings: UsesSettings,
        stack: int,
        world: World | None = None,
    ) -> None:
        self.reader, self.keys, self.plan, self.numbering = keys.reader, keys, plan, classes
        self.replicates, self.seed = settings.replicates, settings.seed
        self.rank, self.size = (world.rank, world.size) if world else (0, 1)
        draws = sum(each.keeps == CONTROL for each in plan)
        drawn = keys.spread().directions(keys.bias, draws, settings.seed) if draws else None
        self.removed = {  # what queries lose; where scores are added attention is computed in the open, here it is not
            number: keys.bias if drawn is None or each.keeps == NOTHING else drawn[:, :, each.draw]
            for number, each in enumerate(plan)
            if each.known is None
        }
        rescored = [number for number in range(len(plan)) if number not in self.removed]
        self.stacks = [
            each for numbers in (list(self.removed), rescored) for each in stacked(numbers, stack, self.size)
        ]
        device = self.reader.device
        self.losses = BootstrapSums((len(plan) + 1, classes.number), self.replicates, device)
        self.predicted = BootstrapSums((1, classes.number), self.replicates, device)

    @torch.no_grad()
    def update(self, contexts: Contexts) -> None:
        """Run the model over a batch of contexts, unchanged and with every replacement, and add it."""
        batch = Batch(contexts, self.numbering, self.reader.device)
        weights = poisson_weights(batch.document_indices, self.replicates, self.seed)
        as_is = self.reader.run(batch.contexts)
        if self.rank == 0:
            ones = torch.ones(1, 1, int((batch.places > 0).sum()), device=batch.tokens.device)
            self.predicted.add(0, by_document_and_class(ones, batch)[:, 0, 0], weights)
            self._predict([len(self.plan)], as_is, batch, weights)
        turn = (self.rank - 1) % self.size  # the first process has the unchanged run, so it comes last
        for numbers in islice(self.stacks, turn, None, self.size):
            if numbers[0] in self.removed:
                taken = torch.stack([self.removed[number] for number in numbers])
                changed = self.reader.rerun(as_is, _from_queries(taken))
            else:
                changed = self._rescored(as_is, [self.plan[number] for number in numbers], contexts)
            self._predict(numbers, changed, batch, weights)

    def _rescored(self, as_is: Ran, made: Sequence[Replacement], contexts: Contexts) -> Ran:
        """Run with beta_j + added_j, or with added_j alone and the direction taken out of the queries."""
        groups = self.keys.groups.of(contexts, self.reader.device)
        offsets = [self.keys.offset_given(groups[each.known]) for each in made if each.known]
        added = [-offset if each.rest else offset for each, offset in zip(made, offsets, strict=True)]
        taken = torch.stack([torch.zeros_like(self.keys.bias) if each.rest else self.keys.bias for each in made])
        return self.reader.rerun(as_is, _from_queries(taken), scores=torch.stack(added, 1))

    def _predict(
        self, numbers: Sequence[int], changed: Ran, batch: Batch, weights: Float64[Tensor, "document replicate"]
    ) -> None:
        losses = losses_of(changed, range(len(numbers)), batch.contexts)[:, None]
        per_document = by_document_and_class(losses[:, :, batch.mask[:, 1:]], batch)[:, :, 0]
        for place, number in enumerate(numbers):
            self.losses.add(number, per_document[:, place], weights)

    def mean_loss(self, number: int) -> tuple[Values, Replicates]:
        """Return the mean loss per class, [token_class], and its replicates."""
        total = self.losses.total[number] / self.predicted.total[0]
        resampled = self.losses.resampled[:, number] / self.predicted.resampled[:, 0]
        return total.cpu().numpy(), resampled.cpu().numpy()


def _from_queries(taken: Float[Tensor, "run layer head_index d_head"]) -> Changes:
    return torch.stack([-taken, torch.zeros_like(taken)], 1)


def measure_uses(
    model: HookedSymmetryBrokenTransformer | Reader,
    documents: Iterable[TaggedDocument],
    schemes: Sequence[Scheme],
    settings: UsesSettings = UsesSettings(),
    *,
    stack: int = SIDE_BY_SIDE,
    on_tokens: Callable[[int], None] | None = None,
    world: World | None = None,
) -> Uses:
    """Run the model with its bias scores replaced by parts of themselves, and with controls, and compare losses.

    The text is read once and kept, as whole numbers (8 bytes a token for each scheme, and 25), for it is passed over twice.

    Args:
        model: run in evaluation mode; or what reads it.
        documents: tagged with exactly these schemes.
        schemes: partitions of the tokens.
        settings: which text is read, and how many controls there are.
        stack: runs that go side by side along the batch axis at most; changes results only by float32 rounding.
        on_tokens: called with the number of tokens of each batch when it is done.
        world: of processes that read the same text and share the runs; all of them return the whole result.

    Raises:
        InterpError: no document, a model without tokenizer, without such a direction, or whose attention scores cannot be
            changed, or a scheme that is called "overall".
    """
    reader = model if isinstance(model, Reader) else OwnReader(model)
    reader.need_scores()
    classes = classes_with_overall(schemes)
    names = list(classes.names)[1:]
    counts = DocumentCounts(classes)
    size, max_tokens = reader.contexts_per_rerun(settings), settings.max_tokens
    stack = min(stack, reader.side_by_side(size * reader.n_ctx))
    passing = counts.passing(with_overall(documents, max_tokens), max_tokens)
    text = list(pack(passing, reader.n_ctx, size, reader.border))
    if not counts.documents:
        raise InterpError("The corpus has no document to measure; give one that is not empty.")
    with reader.reading(settings.bias), torch.no_grad():
        groups = TokenGroups(classes, reader.n_ctx, text)
        keys = KeysOfText(reader, reader.held(settings.direction), groups, classes, text)
        biased = bool(keys.bias.any())
        plan = replacements(names, settings.controls if biased and reader.linear else 0)

        def fresh() -> UsesSums:
            return UsesSums(keys, plan if biased else [], classes, settings, stack, world)

        sums = fresh()
        for contexts in text:
            sums.update(contexts)
            if on_tokens:
                on_tokens(int(contexts.mask.sum()))
        sums = all_reduce_sums(sums, fresh, world) if world else sums
    plain = replace(settings, schemes=schemes, direction=direction_name(settings.direction)).plain()
    loss = _table(sums, counts, plan)
    return Uses(
        loss,
        replicates=_replicates(sums, plan),
        run={
            "model": reader.name, "n_tokens": counts.tokens, "n_documents": counts.documents, "schemes": names,
            **{name: plain[name] for name in READ_FROM_RUN}, "bias": reader.bias_name(plain["bias"]),
                "warnings": _warnings(loss, biased, keys),
        },
    )  # fmt: skip


READ_FROM_RUN = ("bias", "direction", "controls", "max_tokens", "replicates", "seed")


def _warnings(loss: pd.DataFrame, biased: bool, keys: KeysOfText) -> list[str]:
    if not biased:
        return ["No query bias is in force, so nothing changes."]
    if bool(keys.offsets.isnan().any()):
        return ["Only one document: there is no other to fit the means given position, class and type on."]
    warnings = [] if keys.reader.linear else [NO_CONTROLS]
    overall = loss.loc[(loss["keeps"] == NOTHING) & (loss["predicted_scheme"] == OVERALL), "restored"]
    if overall.isna().all():
        warnings.append(
            "The interval of what removing b_Q costs holds 0 or is missing: which share of it is given back cannot be said."
        )
    return warnings


NO_CONTROLS = (
    "Queries are normalized after the bias, so no other direction can be said to spread as much: there are no controls."
)


def _table(sums: UsesSums, counts: DocumentCounts, plan: Sequence[Replacement]) -> pd.DataFrame:
    """Return the table `Uses.loss`."""
    schemes, labels = counts.numbering.labels()
    predicted = sums.predicted.total[0].cpu().numpy().astype(np.int64)
    rows = pd.DataFrame({
        "predicted_scheme": schemes, "predicted_class": labels, "n_tokens": predicted, "n_documents": counts.n_documents,
    })  # fmt: skip
    effective, frames = counts.effective(), []
    with np.errstate(divide="ignore", invalid="ignore"):
        before, before_resampled = sums.mean_loss(-1)
        losses = [sums.mean_loss(number if sums.plan else -1) for number in range(len(plan))]
        costs = [(loss - before, resampled - before_resampled) for loss, resampled in losses]
        for each, (loss, _), cost in zip(plan, losses, costs, strict=True):
            change = estimate("difference", *cost, effective)
            restored = {} if each.keeps == CONTROL else given_back(cost, costs[0], effective)
            known = each.known or ("", "")
            frame = rows.assign(keeps=each.keeps, scheme=known[1], draw=each.draw, loss=loss, loss_unchanged=before)
            frames.append(frame.assign(**change, **restored))
    return pd.concat(frames, ignore_index=True).reindex(columns=list(USES_COLUMNS))


def _replicates(sums: UsesSums, plan: Sequence[Replacement]) -> pd.DataFrame:
    """Return the table `Uses.replicates`, of the first class, which is all tokens."""
    unchanged, frames = sums.mean_loss(-1)[1][:, 0], []
    for number, each in enumerate(plan):
        loss = sums.mean_loss(number)[1][:, 0] if sums.plan else unchanged
        columns = {"keeps": each.keeps, "scheme": (each.known or ("", ""))[1], "draw": each.draw}
        frames.append(
            pd.DataFrame({"replicate": range(len(loss)), "loss": loss, "loss_unchanged": unchanged}).assign(**columns)
        )
    return pd.concat(frames, ignore_index=True).loc[:, list(REPLICATES_COLUMNS)]


def given_back(
    cost: tuple[Values, Replicates],
    of_removing: tuple[Values, Replicates],
    effective: Float64[np.ndarray, " token_class"],
) -> dict[str, Values]:
    """Return the columns `restored`, 1 - cost / cost of removing b_Q, and the ends of Fieller's 95% interval.

    The interval of the ratio r = x / y holds every r for which 0 is in the interval of x - r y, whose half length is h
    times its standard deviation over replicates: (x - r y)^2 <= h^2 (v_xx - 2 r v_xy + r^2 v_yy). It is bounded where y's
    own interval does not hold 0, y^2 > h^2 v_yy; elsewhere all three columns are missing.
    Source: Fieller, "Some problems in interval estimation", 1954.
    """
    (x, xs), (y, ys) = cost, of_removing
    known = np.isfinite(xs) & np.isfinite(ys)  # [replicate, token_class]
    count = known.sum(0)
    off_x, off_y = (np.where(known, s - np.where(known, s, 0).sum(0) / count, 0) for s in (xs, ys))
    v_xx, v_xy, v_yy = ((a * b).sum(0) / (count - 1) for a, b in ((off_x, off_x), (off_x, off_y), (off_y, off_y)))
    _, half = interval_over_documents(np.zeros_like(y), np.ones_like(y), effective)
    a, b, c = (p - half**2 * v for p, v in ((y * y, v_yy), (x * y, v_xy), (x * x, v_xx)))
    bounded = a > 0
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    ends = (1 - x / y, 1 - (b + root) / a, 1 - (b - root) / a)
    return {
        name: np.where(bounded & np.isfinite(end), end, np.nan)
        for name, end in zip(("restored", "restored_ci_low", "restored_ci_high"), ends, strict=True)
    }
