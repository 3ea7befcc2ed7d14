"""Outlines that follow the image: what the guided filter promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asgnet.outline import EVEN, REACH, STEP, along_edges, fit, window_mean

SIDE = 65


def picture(edge: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A dark object on a light ground, its right border at pixel ``edge``: image (1, 3, S, S) and where it is."""
    noise = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    inside = (torch.arange(SIDE) < edge).expand(1, SIDE, SIDE)
    return torch.where(inside[:, None], -1.0, 1.0) + 0.05 * noise, inside


def ramp(zero: float) -> Tensor:
    """Margins (1, S, S) that fall from left to right and are 0 at pixel ``zero``, as between two cells."""
    return ((zero - torch.arange(SIDE)) / 4).clamp(-3, 3).expand(1, SIDE, SIDE).clone()


@settings(max_examples=20, deadline=None)
@given(edge=st.integers(24, 40), off=st.integers(-4, 4))
def test_the_mask_ends_where_the_image_has_its_edge(edge: int, off: int) -> None:
    image, inside = picture(edge)
    before, after = ((m > 0) ^ inside for m in (ramp(edge + off - 0.5), along_edges(ramp(edge + off - 0.5), image)))
    assert before.sum() == abs(off) * SIDE
    assert after.sum() <= SIDE // 8  # of one column of pixels


def test_a_plain_image_moves_no_border() -> None:
    margins = ramp(32.0)
    found = along_edges(margins, torch.zeros(1, 3, SIDE, SIDE))
    moved = (found > 0) ^ (margins > 0)
    assert not moved[:, :, :32].any()
    assert not moved[:, :, 33:].any()  # at pixel 32 the margin is 0


@pytest.mark.parametrize("value", [-40.0, -1.0, 0.0, 2.0])
def test_what_is_the_same_everywhere_stays(value: float) -> None:
    image, _ = picture(30)
    margins = torch.full((1, SIDE, SIDE), value)
    expected = margins.clamp(-9.21, 9.21)  # as sure as it gets
    torch.testing.assert_close(along_edges(margins, image), expected, atol=2e-3, rtol=0)


def test_episodes_do_not_mix_and_turned_pictures_give_turned_masks() -> None:
    images, margins = torch.cat([picture(28)[0], picture(37, 1)[0]]), torch.cat([ramp(30), ramp(33)])
    both = along_edges(margins, images)
    torch.testing.assert_close(both, torch.cat([along_edges(margins[[k]], images[[k]]) for k in range(2)]))
    torch.testing.assert_close(along_edges(margins.mT, images.mT), both.mT, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(along_edges(-margins, images), -both, atol=1e-3, rtol=1e-3)


def test_fit_is_ridge_regression_in_each_window() -> None:
    generator = torch.Generator().manual_seed(3)
    colour, share = torch.randn(1, 3, 17, 17, generator=generator), torch.rand(1, 1, 17, 17, generator=generator)
    lines = fit(share, colour)[0].movedim(0, -1).numpy()
    for row, col in ((0, 0), (3, 16), (8, 8), (16, 5)):
        rows, cols = (slice(max(at - REACH, 0), at + REACH + 1) for at in (row, col))
        x = colour[0, :, rows, cols].flatten(1).T.double().numpy()
        y = share[0, 0, rows, cols].flatten().double().numpy()
        centred = x - x.mean(0)
        slopes = np.linalg.solve(centred.T @ centred / len(x) + EVEN * np.eye(3), centred.T @ (y - y.mean()) / len(x))
        np.testing.assert_allclose(lines[row, col], [*slopes, y.mean() - x.mean(0) @ slopes], atol=1e-4)


def test_window_mean_counts_what_lies_on_the_map() -> None:
    ones = torch.ones(1, 2, 9, 13)
    torch.testing.assert_close(window_mean(ones), ones)
    spot = torch.zeros(1, 1, 21, 21)
    spot[..., 0, 0] = 1.0
    assert window_mean(spot)[0, 0, 0, 0] == pytest.approx(1 / (REACH + 1) ** 2)
    assert window_mean(spot)[0, 0, REACH + 1, 0] == 0


def test_a_step_divides_the_grid() -> None:
    assert 8 % STEP == 0  # so that every cell lies on the grid of the fit


def test_half_precision_is_taken_under_autocast() -> None:
    image, _ = picture(30)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = along_edges(ramp(32.0).bfloat16(), image)
    assert found.dtype == torch.float32
    assert found.isfinite().all()
