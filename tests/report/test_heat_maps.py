"""Attention weights as digits."""

import numpy as np
import pytest

from autocaption.report.heat_maps import DIGITS, heat_maps


def levels(maps):
    digits = "".join(DIGITS)
    return np.array([digits.index(digit) for digit in maps.digits]).reshape(-1, maps.side, maps.side) / 63


@pytest.mark.parametrize("side", [2, 7, 10])
def test_each_word_s_map_is_its_weights_over_the_largest(side):
    weights_TP = np.random.RandomState(0).dirichlet(np.ones(side * side), 5)
    maps = heat_maps(weights_TP)
    expected = (weights_TP / weights_TP.max(1, keepdims=True)).reshape(5, side, side)
    np.testing.assert_allclose(levels(maps), expected, atol=0.5 / 63 + 1e-9)


def test_fine_maps_are_averaged():
    weights = np.random.RandomState(0).rand(2, 14, 14)
    coarse = weights.reshape(2, 7, 2, 7, 2).mean((2, 4))
    maps = heat_maps(weights.reshape(2, -1))
    assert maps.side == 7
    np.testing.assert_allclose(levels(maps), coarse / coarse.max((1, 2), keepdims=True), atol=0.5 / 63 + 1e-9)


def test_a_side_that_does_not_divide_keeps_all_its_places():
    maps = heat_maps(np.ones((1, 15 * 15)))
    assert maps.side == 8
    assert set(maps.digits) == {"_"}


def test_what_is_no_grid_has_no_map():
    assert heat_maps(np.ones((3, 1))) is None
    assert heat_maps(np.ones((3, 50))) is None


def test_no_words_and_no_weight_are_maps_without_heat():
    assert heat_maps(np.ones((0, 4))).digits == ""
    assert heat_maps(np.zeros((1, 4))).digits == "AAAA"
