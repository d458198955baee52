"""The colours of runs and models."""

import numpy as np
import pytest

from interp.page.look import COLOURS, PAGE, colour_of


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("panel", PAGE["panel"].values())
def test_a_colour_stands_out_from_the_light_and_the_dark_page(colour, panel):
    low, high = sorted((luminance(colour), luminance(panel)))
    assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, 1.4.11


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return np.dot(linear, [0.2126, 0.7152, 0.0722])


def test_eight_things_have_colours_of_their_own_and_the_ninth_has_the_first():
    colours = [colour_of(number) for number in range(9)]
    assert len(set(colours[:8])) == 8 and colours[8] == colours[0]
