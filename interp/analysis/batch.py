"""What every layer needs of a batch of contexts, laid out once on the model's device; padding is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from interp.analysis.permutations import permuted_name
from interp.data.contexts import Contexts

Ranges = Mapping[str, tuple[int, int]]


def class_ranges(names: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, int]]:
    """Number the classes of all schemes through, and return each scheme's first number and the one after its last."""
    ranges, start = {}, 0
    for scheme, classes in names.items():
        ranges[scheme] = (start, start + len(classes))
        start += len(classes)
    return ranges


class Batch:
    """Tokens, classes, positions and documents of a batch; "token" axes run over what is not padding, in stream order.

    Classes are numbered through all schemes (`class_ranges`). `permuted` holds the one-hot classes of each permutation
    of the labels that the documents carry (`interp.analysis.permutations`).
    """

    def __init__(self, contexts: Contexts, ranges: Ranges, device: torch.device, permutations: int = 0) -> None:
        self.ranges = ranges
        self.mask = contexts.mask.to(device)  # [batch, pos]
        self.contexts = contexts.tokens.to(device)
        together = self._numbered(contexts, device)
        self.one_hot = self._one_hot(together)
        self.permuted = [self._one_hot(self._numbered(contexts, device, number)) for number in range(permutations)]
        self.classes: Int64[Tensor, "scheme token"] = together[:, self.mask]
        self.tokens: Int64[Tensor, " token"] = self.contexts[self.mask]
        self.places = torch.arange(self.mask.shape[1], device=device).expand_as(self.mask)[self.mask]
        self.document_of: Int64[Tensor, " token"] = contexts.documents.to(device)[self.mask]  # running index
        self.document_indices, self.document_places = self.document_of.unique(return_inverse=True)
        self.documents = F.one_hot(self.document_places, len(self.document_indices)).double()  # [token, document]

    def _numbered(
        self, contexts: Contexts, device: torch.device, permutation: int | None = None
    ) -> Int64[Tensor, "scheme batch pos"]:
        of = (lambda name: name) if permutation is None else (lambda name: permuted_name(name, permutation))
        return torch.stack([contexts.classes[of(name)] + first for name, (first, _) in self.ranges.items()]).to(device)

    def _one_hot(self, classes: Int64[Tensor, "scheme batch pos"]) -> Float[Tensor, "batch pos token_class"]:
        n_classes = max(last for _, last in self.ranges.values())
        return F.one_hot(classes, n_classes).sum(0).float()  # one 1 per scheme
