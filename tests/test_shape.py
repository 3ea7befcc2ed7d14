"""Object shape against analytic rectangles, discs and ellipses. Run: pytest tests/test_shape.py"""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgnet.rng import generator
from asgnet.shape import object_shape


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def rectangle(height: int, width: int, top: int = 0, left: int = 0) -> np.ndarray:
    """A rectangle in a frame of 60 x 80."""
    mask = np.zeros((60, 80), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def ellipse(major: float, minor: float, degrees: float = 0) -> np.ndarray:
    """An ellipse of these semi-axes in the middle of a frame of 161 x 161."""
    row, col = np.mgrid[-80:81, -80:81]
    angle = np.deg2rad(degrees)
    along, across = col * np.cos(angle) + row * np.sin(angle), row * np.cos(angle) - col * np.sin(angle)
    return (along / major) ** 2 + (across / minor) ** 2 <= 1


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 50), width=st.integers(1, 50), top=st.integers(0, 10), left=st.integers(0, 30))
def test_rectangles(height: int, width: int, top: int, left: int):
    shape = object_shape(rectangle(height, width, top, left))
    elongation = 1 - min(height, width) / max(height, width)
    assert shape == pytest.approx({"scale": height * width / 48, "solidity": 1, "elongation": elongation})


def test_discs_and_ellipses():
    disc = object_shape(ellipse(40, 40))
    assert disc["scale"] == pytest.approx(100 * np.pi * 40**2 / 161**2, rel=0.01)
    assert disc["solidity"] > 0.97
    assert disc["elongation"] < 0.001
    for degrees in (0, 30, 45, 90, 160):
        shape = object_shape(ellipse(60, 20, degrees))
        assert shape["elongation"] == pytest.approx(2 / 3, abs=0.01)
        assert shape["solidity"] > 0.95


def test_components_are_one_object():
    mask = rectangle(10, 10) | rectangle(10, 10, left=30)
    across = (10**2 - 1) / 12 + 1 / 12  # variances of rows and columns
    along = across + 15**2
    expected = {"scale": 200 / 48, "solidity": 200 / 400, "elongation": 1 - (across / along) ** 0.5}
    assert object_shape(mask) == pytest.approx(expected)


def test_a_hole_and_a_corner_cut_out_lower_solidity():
    frame = rectangle(20, 20)
    frame[5:15, 5:15] = False
    assert object_shape(frame)["solidity"] == pytest.approx(0.75)
    corner = rectangle(40, 40)
    corner[:20, 20:] = False  # an L: its hull is the square without a triangle
    assert object_shape(corner)["solidity"] == pytest.approx(1200 / 1400, abs=0.01)


def test_turns_and_mirrors_change_nothing():
    mask = generator(0, "test-shape").random((21, 30)) > 0.8
    shape = object_shape(mask)
    for other in (mask[::-1], mask[:, ::-1], mask.T, np.rot90(mask)):
        assert object_shape(other) == pytest.approx(shape)


def test_degenerate_masks():
    line = object_shape(rectangle(1, 12))
    assert line == pytest.approx({"scale": 12 / 48, "solidity": 1, "elongation": 11 / 12})
    assert object_shape(rectangle(1, 1)) == pytest.approx({"scale": 1 / 48, "solidity": 1, "elongation": 0})
    empty = object_shape(rectangle(0, 0))
    assert empty["scale"] == 0
    assert np.isnan(empty["solidity"])
    assert np.isnan(empty["elongation"])
    assert object_shape(np.ones((7, 7), bool)) == pytest.approx({"scale": 100, "solidity": 1, "elongation": 0})
