"""One pass over some documents, for tests of the sums behind the tables."""

from dataclasses import replace

import pytest

from interp.analysis import run
from interp.analysis.measurement import Context, Found
from interp.analysis.readers.own import OwnReader
from interp.analysis.run import Pass
from interp.analysis.settings import Settings


def pass_over(model, documents, schemes, settings=Settings(), deciles=None):
    """All that one process sums of these documents."""
    with model.evaluating(), model.bias(bias=settings.bias):
        found = Pass(Context.of(OwnReader(model), schemes, settings, deciles))
        found.add(documents, None)
    return found


def alone(kind, model, documents, schemes, settings, deciles=None):
    """One measurement without the others, as a simulation needs it many times, and what its tables are made from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "MEASUREMENTS", (kind,))
        found = pass_over(model, documents, schemes, settings, deciles)
    return measurement_of(found, kind), Found(found.context, found.counts, found.measurements)


def measurement_of(found, kind):
    """The one measurement of a class in a pass."""
    [one] = [each for each in found.measurements if isinstance(each, kind)]
    return one


def halves_and_whole(model, documents, schemes, settings=Settings(), deciles=None):
    """The two halves of a corpus merged, and the corpus as a whole, without passages: these are numbered by blocks."""
    half, settings = len(documents) // 2 + 1, replace(settings, passages=0)
    left, right, whole = (
        pass_over(model, chosen, schemes, settings, deciles)
        for chosen in (documents[:half], documents[half:], documents)
    )
    left.merge(right)
    return left, whole
