"""Labels that mean nothing: what the classes' labels give when they are shifted along each document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float64, Int64
from torch import Tensor

from interp.analysis.batch import Batch
from interp.analysis.measurement import Context, Found, LayerView, Measurement, as_numpy
from interp.analysis.measurements.bias_scores import BiasScores
from interp.analysis.nulls.table import Null, shifted_null, value_of
from interp.analysis.significance import p_of_deviation


class LabelShifts(Measurement):
    """The sums that labels give when those of each document are shifted along it, round and round.

    A shift keeps how often a class occurs and in what runs, and takes its meaning away: label i goes to token i + s of the n
    tokens of the document after its first, modulo n, all schemes alike. The first token (bos) keeps its label.

    With x_i a number of token i and c_i = 1 for a class, a shift gives the circular cross-correlation
    r(s) = sum_i c_i x_(i+s). If s is uniform and independent in each document, its mean is n_c times the mean of x, and by
    Parseval's theorem its variance is sum_{f != 0} |C_f|^2 |X_f|^2 / n^2, with C, X the discrete Fourier transforms: the
    product of the two circular autocovariances. This gives the null of the contrast, as if every shift had been made.

    Amplification is a ratio of such sums, of the attention that keys receive with and without the bias: there every document
    gets `shifts` drawn shifts, keyed by (seed, its running number), so the draws depend on neither batches nor workers.

    A document may go on in the next batch; its numbers are held until it ends, (readings + 1) * n_layers * n_heads for each
    token. Memory besides: shifts * n_layers * readings * n_heads * n_classes * 8 bytes.
    """

    PARTS = ("fixed", "mean", "variance", "received", "shares")

    def __init__(self, context: Context) -> None:
        layers, heads, classes = context.per_class
        self.readings = context.readings[:3]  # with the bias, without, and with what position explains
        self.seed, self.shifts, self.heads, self.classes = (
            context.settings.seed,
            context.settings.shifts,
            heads,
            classes,
        )

        def zeros(*shape: int) -> Float64[Tensor, "..."]:
            return torch.zeros(shape, dtype=torch.float64, device=context.device)

        self.fixed, self.mean, self.variance = (zeros(layers, heads, classes) for _ in range(3))
        self.received = zeros(layers, len(self.readings), heads, classes)  # by the first tokens
        self.shares = zeros(self.shifts, layers, len(self.readings), heads, classes)
        self.open: list[list[Tensor]] = [[] for _ in range(layers)]  # numbers of the document that goes on
        self.labels: list[Tensor] = []

    @classmethod
    def wanted(cls, context: Context) -> LabelShifts | None:
        """Return a fresh one unless shifts are left out."""
        return cls(context) if context.settings.shifts else None

    def start(self, batch: Batch) -> None:
        """Find the documents that end in the batch."""
        starts = torch.cat([batch.document_of.new_ones(1), batch.document_of.diff()]).nonzero().flatten().tolist()
        self.spans = list(zip(starts, [*starts[1:], batch.document_of.numel()], strict=True))
        if self.labels and int(batch.document_of[0]) != self.document:
            self.close()
        self.ended: list[_Shifted] = []
        for number, (first, last) in enumerate(self.spans):
            self.labels.append(batch.classes[:, first:last])
            self.document = int(batch.document_of[first])
            if number < len(self.spans) - 1:
                self.ended.append(self._shifted())

    def layer(self, view: LayerView, batch: Batch) -> None:
        """Hold one layer's numbers of the tokens, and add the documents that are over."""
        received = view.received[: len(self.readings)].sum(1).flatten(0, 1)  # [reading * head_index, token]
        numbers = torch.cat([received, view.scores])
        for number, (first, last) in enumerate(self.spans):
            self.open[view.layer].append(numbers[:, first:last])
            if number < len(self.ended):
                self._add(view.layer, self.ended[number])

    def close(self) -> None:
        """Add the document that is still open."""
        if self.labels:
            shifted = self._shifted()
            for layer in range(len(self.open)):
                self._add(layer, shifted)

    def _shifted(self) -> _Shifted:
        labels, self.labels = torch.cat(self.labels, 1), []
        one_hot = torch.nn.functional.one_hot(labels, self.classes).sum(0).T.double()  # [token_class, token]
        size = max(one_hot.shape[1] - 1, 1)
        drawn = np.random.default_rng([self.seed, self.document]).integers(0, size, self.shifts)
        return _Shifted(
            labels[:, 0], torch.fft.rfft(one_hot[:, 1:], n=size), torch.from_numpy(drawn).to(labels.device), size
        )

    def _add(self, layer: int, shifted: _Shifted) -> None:
        numbers, self.open[layer] = torch.cat(self.open[layer], 1).double(), []
        received, scores = numbers[: -self.heads], numbers[-self.heads :]
        first = received[:, 0].view(len(self.readings), self.heads)
        for label in shifted.first.tolist():
            self.fixed[layer, :, label] += scores[:, 0]
            self.received[layer, :, :, label] += first
        if numbers.shape[1] == 1:
            return
        mean, variance = shifted.moments(scores[:, 1:])
        self.mean[layer] += mean
        self.variance[layer] += variance
        spectrum = torch.fft.rfft(received[:, 1:])
        for label in shifted.present():
            every = torch.fft.irfft(shifted.labels[label].conj() * spectrum, n=shifted.size)  # [row, shift]
            sums = every[:, shifted.drawn]
            self.shares[:, layer, :, :, label] += sums.T.unflatten(1, (len(self.readings), self.heads))

    def nulls(self, found: Found) -> Iterator[Null]:
        """Yield the null of the contrast (exact), of A, and of what of A is beyond position."""
        scores = found.of(BiasScores).scores
        mean = as_numpy((self.fixed + self.mean) / scores.count - scores.overall(found.context.classes.spans))
        sd = as_numpy(self.variance.sqrt() / scores.count)
        sd = np.where(sd > 1e-9 * (1 + np.abs(mean)), sd, np.nan)  # where no shift changes anything, nothing is said
        p = p_of_deviation(value_of(found.heads, "contrast", mean.shape), mean, sd)
        yield Null("shifted", "contrast", mean, sd, p, np.full_like(p, np.nan), 0)
        shares = self.shares + self.received
        yield shifted_null("amplification", found.heads, shares, 1)
        if "position" in self.readings:
            yield shifted_null("amplification_beyond", found.heads, shares, 2)


@dataclass(frozen=True)
class _Shifted:
    """A document's labels, as their transform; the labels of its first token; the shifts drawn for it."""

    first: Int64[Tensor, " scheme"]
    labels: Complex[Tensor, "token_class frequency"]
    drawn: Int64[Tensor, " shift"]
    size: int

    def present(self) -> list[int]:
        """Return the classes that occur after the first token."""
        return (self.labels[:, 0].real > 0.5).nonzero().flatten().tolist()

    def moments(
        self, values: Float64[Tensor, "head_index token"]
    ) -> tuple[Float64[Tensor, "head_index token_class"], Float64[Tensor, "head_index token_class"]]:
        """Return mean and variance, over all shifts, of each class's sum of the values."""
        spectrum = torch.fft.rfft(values)
        mean = spectrum[:, :1].real * self.labels[:, 0].real / self.size
        twice = torch.full((spectrum.shape[1],), 2.0, dtype=torch.float64, device=values.device)  # f and -f
        twice[0] = 0
        if self.size % 2 == 0:
            twice[-1] = 1
        power = (spectrum.abs().square() * twice) @ self.labels.abs().square().T
        return mean, power / self.size**2
