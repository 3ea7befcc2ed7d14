"""Geometry: what fit does, unfit undoes; image and mask stay aligned."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from asgnet.data.transforms import MEAN_COLOUR, augment, content_size, fit, normalise, unfit


def rectangle(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A white rectangle on black, and its mask: rows box[0]:box[1], columns box[2]:box[3]."""
    mask = np.zeros((height, width), np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 1
    return np.repeat(255 * mask[..., None], 3, axis=2), mask


def edges(mask: np.ndarray) -> np.ndarray:
    """First and last-plus-one row and column of the mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([rows[0], rows[-1] + 1, columns[0], columns[-1] + 1])


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(30, 200), width=st.integers(30, 200), size=st.sampled_from([41, 65, 129, 161]), data=st.data()
)
def test_unfit_undoes_fit(height: int, width: int, size: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, height // 2)), data.draw(st.integers(0, width // 2))
    bottom, right = data.draw(st.integers(top + 12, height)), data.draw(st.integers(left + 12, width))
    image, mask = rectangle(height, width, (top, bottom, left, right))
    _, fitted = fit(image, mask, size)
    restored = unfit(torch.from_numpy(fitted == 1).float()[None], height, width)
    assert restored.shape == (1, height, width)
    # A pixel of the coarser of the two grids, in original pixels.
    tolerance = max(1.0, max(height, width) / size)
    assert np.abs(edges(restored[0].numpy() > 0.5) - [top, bottom, left, right]).max() <= tolerance


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.sampled_from([41, 65, 129]), data=st.data())
def test_where_fitting_enlarges_rectangles_come_back_to_the_pixel(
    height: int, width: int, size: int, data: st.DataObject
) -> None:
    """An original pixel is at least one pixel of the square. From a factor of 1.5 on every pixel comes back; below it a
    rectangle may lose the pixels at its corners to the bilinear slopes of both directions, but no edge moves."""
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    image, mask = rectangle(height, width, (top, bottom, left, right))
    _, fitted = fit(image, mask, size)
    h, w = content_size(height, width, size)
    assume(h >= height and w >= width)
    restored = (unfit(torch.from_numpy(fitted == 1).float()[None], height, width)[0] > 0.5).numpy()
    if min(h / height, w / width) >= 1.5 or (h, w) == (height, width):
        np.testing.assert_array_equal(restored, mask)
    elif min(bottom - top, right - left) > 1:
        assert edges(restored).tolist() == [top, bottom, left, right]
        different = np.argwhere(restored != mask).tolist()
        assert all(p in [[r, c] for r in (top, bottom - 1) for c in (left, right - 1)] for p in different)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 300), width=st.integers(1, 300), size=st.sampled_from([41, 129]))
def test_fit_pads_right_and_bottom_only(height: int, width: int, size: int) -> None:
    image, mask = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    photo, labels = fit(image, mask, size)
    h, w = content_size(height, width, size)
    assert (photo.shape, labels.shape, max(h, w)) == ((size, size, 3), (size, size), size)
    assert (labels[:h, :w] == 0).all()
    assert (labels == 0).sum() == h * w
    assert (labels == 255).sum() == size * size - h * w
    assert (photo[labels == 255] == MEAN_COLOUR).all()
    assert (photo[labels == 0] == 0).all()


def test_equal_sizes_are_the_identity() -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (41, 41, 3), np.uint8), rng.integers(0, 3, (41, 41), np.uint8)
    photo, labels = fit(image, mask, 41)
    np.testing.assert_array_equal(photo, image)
    np.testing.assert_array_equal(labels, mask)
    logits = torch.randn(3, 2, 41, 41)
    torch.testing.assert_close(unfit(logits, 41, 41), logits)


@pytest.mark.parametrize("shape", [(90, 120), (120, 90), (300, 310), (20, 25)])
def test_augmented_image_and_mask_stay_aligned(shape: tuple[int, int]) -> None:
    height, width = shape
    box = (height // 5, height * 3 // 4, width // 4, width * 2 // 3)
    image, mask = rectangle(height, width, box)
    for seed in range(20):
        photo, labels = augment(image, mask, 81, np.random.default_rng(seed))
        assert (photo.shape, labels.shape) == ((81, 81, 3), (81, 81))
        assert set(np.unique(labels)) <= {0, 1, 255}
        known = labels != 255
        disagree = (photo[..., 0] > 127)[known] != (labels == 1)[known]
        perimeter = 2 * (box[1] - box[0] + box[3] - box[2]) * 81 / max(height, width)
        assert disagree.sum() <= 0.75 * perimeter  # at most the pixels that the border itself crosses


def test_augmentation_covers_its_range() -> None:
    """A central square, halves of class 1 and 2: its area is scale^2, and the halves swap in a flip."""
    image, mask = np.zeros((101, 101, 3), np.uint8), np.zeros((101, 101), np.uint8)
    mask[26:76, 26:51], mask[26:76, 51:76] = 1, 2
    views = [augment(image, mask, 101, np.random.default_rng(seed))[1] for seed in range(200)]
    areas = np.array([((v == 1) | (v == 2)).sum() for v in views]) / 2500
    assert 0.78 < areas.min() < 0.84
    assert 1.16 < areas.max() < 1.24
    flipped = [np.argwhere(v == 1)[:, 1].mean() > np.argwhere(v == 2)[:, 1].mean() for v in views]
    assert 0.38 < np.mean(flipped) < 0.62
    tilted = [np.ptp(np.argwhere(v == 1)[:, 1]) > 30 for v in views]  # 25 columns upright, 33 at 10 degrees
    assert any(tilted)
    assert not all(tilted)


def test_augmentation_depends_on_its_generator_alone() -> None:
    image, mask = rectangle(60, 80, (10, 40, 20, 50))
    first, again, other = (augment(image, mask, 65, np.random.default_rng(seed))[0] for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_normalise() -> None:
    image = np.zeros((2, 4, 5, 3), np.uint8)
    image[..., 1] = 255
    values = normalise(image, mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 0.5))
    assert values.shape == (2, 3, 4, 5)
    assert values[:, :, 0, 0].tolist() == [[-1.0, 2.0, -1.0]] * 2
    padding = normalise(np.full((1, 1, 3), MEAN_COLOUR, np.uint8))
    assert padding.abs().max() < 0.01  # the mean colour is about zero to the network
