"""Energies of wavelets and of motion against what mathematics says they are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from grainscan.model.noise_features import BLUR, FLOOR, LEVELS, REACH, SCALES, Energies

CHANNELS = 6  # Y, Cb, Cr of sums, then of differences
BANDS = 3 * SCALES * CHANNELS


@pytest.fixture
def energies() -> Energies:
    torch.manual_seed(0)
    return Energies(32, (2, 16, 16))


def in_codes(measured: Tensor) -> Tensor:
    """(..., 2, scale, direction, channel): energies in squared 8-bit codes, of the mean and of the least quarter."""
    energy = 2 ** (3 * measured + 1) - FLOOR
    return energy.unflatten(-1, (2, SCALES, 3, CHANNELS))


def by_shift(matched: Tensor) -> tuple[Tensor, Tensor]:
    """Energies in squared 8-bit codes: (..., level, down, across) at every shift, and the least (..., level)."""
    energy = (2 ** (3 * matched + 1) - FLOOR).unflatten(-1, (LEVELS, -1))
    return energy[..., :-1].unflatten(-1, (2 * REACH + 1, 2 * REACH + 1)), energy[..., -1]


def gray(codes: Tensor) -> Tensor:
    """Views (n, frames, 3, height, width) of luma in 8-bit codes."""
    return (codes / 255).unsqueeze(2).expand(-1, -1, 3, -1, -1)


@pytest.mark.parametrize("deviation", [0.5, 2.0, 12.0])
def test_white_noise_has_its_variance_in_every_band(energies: Energies, deviation: float) -> None:
    noise = torch.randn(64, 8, 32, 32, generator=torch.Generator().manual_seed(1))
    found = in_codes(energies.measure(gray(128 + deviation * noise)))[..., 0, :, :, [0, 3]].mean(dim=(0, 1))
    assert torch.allclose(found, torch.full_like(found, deviation**2), rtol=0.05)


def test_what_stands_still_has_nothing_in_the_differences(energies: Energies) -> None:
    still = 128 + 20 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    found = in_codes(energies.measure(gray(still.expand(-1, 8, -1, -1))))
    assert found[..., 3].abs().max() < 0.01
    assert found[:, :, 0, :, :, 0].min() > 50  # the frames' sum holds it all


def test_a_gray_picture_has_no_colour_energy(energies: Energies) -> None:
    noise = 128 + 20 * torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(3))
    assert in_codes(energies.measure(gray(noise)))[..., [1, 2, 4, 5]].abs().max() < 0.01


def test_an_edge_is_missing_in_the_least_quarter(energies: Energies) -> None:
    picture = torch.full((1, 8, 16, 16), 100.0)
    picture[..., :, 3:] = 180  # inside the left quarters, across a pair of columns
    found = in_codes(energies.measure(gray(picture)))[0, 0]
    # Column details of the finest scale: pairs (100, 180) differ by 80, in 8 of 64 coefficients of the tubelet.
    # Of two rows and two frames alike, each coefficient is 2 * 2 * (100 - 180) / 2 ** 1.5.
    coefficient = 4 * 80 / 2**1.5
    assert found[0, 0, 1, 0].item() == pytest.approx(coefficient**2 * 8 / 64, rel=1e-3)
    assert found[1, 0, 1, 0].item() == pytest.approx(0, abs=1e-2)


def test_noise_of_a_wider_grain_lies_at_a_coarser_scale(energies: Energies) -> None:
    fine = torch.randn(16, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    coarse = 128 + 5 * fine.repeat_interleave(4, dim=-1).repeat_interleave(4, dim=-2)  # squares of four pixels
    found = in_codes(energies.measure(gray(coarse)))[..., 0, :, :, 3].mean(dim=(0, 1, 3))
    assert found[0] < 0.01 and found[1] < 0.01
    assert found[2].item() == pytest.approx(16 * 25, rel=0.1)  # all that four pixels' variance sums to


def test_tokens_stand_in_the_order_of_the_tubelets(energies: Energies) -> None:
    views = torch.full((1, 8, 3, 32, 48), 0.5)
    views[:, 2:4, :, 16:32, 32:48] += 0.1 * torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    energy = energies.measure(views).sum(dim=-1)[0]  # (time 4, rows 2, columns 3)
    assert energy.argmax().item() == math.prod((2, 3)) * 1 + 3 * 1 + 2
    assert energies(views).shape == (1, 4 * 2 * 3, 32)


def test_grain_has_the_same_energy_at_every_shift(energies: Energies) -> None:
    noise = torch.randn(64, 8, 32, 32, generator=torch.Generator().manual_seed(6))
    found, least = by_shift(energies.match(gray(128 + 4 * noise)))
    # The mean over a square takes its share of the variance away.
    assert torch.allclose(found.mean(dim=(0, 1)), torch.tensor(16 * (1 - 1 / BLUR**2)), rtol=0.05)
    assert least.mean() > 8  # few pixels match something better than that


@pytest.mark.parametrize("level", range(LEVELS))
@pytest.mark.parametrize(("down", "across"), [(0, 0), (2, -3), (-1, 1)])
def test_what_moves_is_found_again(energies: Energies, level: int, down: int, across: int) -> None:
    ground = 128 + 9 * torch.randn(144, 144, generator=torch.Generator().manual_seed(7))
    y, x = down << level, across << level  # pixels a frame
    frames = [ground[56 - y * t :][:32, 56 - x * t :][:, :32] for t in range(8)]
    found, least = by_shift(energies.match(gray(torch.stack(frames)[None])))
    assert found[0, :, level, down + REACH, across + REACH].max() < 0.01 and least[..., level].max() < 0.01
    assert found[..., level, :, :].flatten(-2).sort().values[..., 1].min() > 5  # at any other shift


def test_matches_stand_in_the_order_of_the_tubelets(energies: Energies) -> None:
    views = torch.full((1, 8, 3, 32, 48), 0.5)
    views[:, 2:4, :, 20:28, 36:44] += 0.1 * torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    assert energies.match(views)[0].sum(dim=-1).argmax().item() == math.prod((2, 3)) * 1 + 3 * 1 + 2


def test_half_precision_does_not_touch_the_energies(energies: Energies) -> None:
    faint = gray(128 + 0.3 * torch.randn(1, 8, 32, 32, generator=torch.Generator().manual_seed(8)))
    seen: list[Tensor] = []
    energies.hidden.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    energies(faint)
    with torch.autocast("cpu", torch.bfloat16):
        energies(faint)
    assert torch.equal(*seen)


def test_a_silenced_module_adds_nothing(energies: Energies) -> None:
    energies.silence()
    assert energies(torch.rand(1, 8, 3, 32, 32)).abs().max() == 0


@pytest.mark.parametrize(
    ("tubelet", "size", "fits"),
    [
        ((2, 16, 16), 64, True),
        ((2, 16, 16), 32, True),
        ((2, 16, 16), 16, False),
        ((4, 32, 16), 32, True),
        ((1, 16, 16), 64, False),
        ((2, 8, 8), 64, False),
    ],
)
def test_which_tubelets_fit(tubelet: tuple[int, int, int], size: int, fits: bool) -> None:
    assert Energies.fits(tubelet, size) == fits
    if fits:
        views = torch.rand(1, 2 * tubelet[0], 3, size, size)
        assert Energies(8, tubelet)(views).shape == (1, 2 * (size // tubelet[1]) * (size // tubelet[2]), 8)
