"""Noise features of a tubelet: the energies of its finest details, added to the token of its pixels.

Grain is a second-order signal: its mean is zero, and its variance is all there is. A transformer would have to learn to
square; this module squares for it. Every pair of frames goes through an orthonormal Haar wavelet transform, once in
time and three times in space. White noise of standard deviation s then has the energy s^2 in each band at each scale,
grain of two to four pixels shows at the second and third scale, and static content has no energy in the bands of the
difference. Each band yields two features: the mean over the tubelet, and the least of its four quarters, because grain
is everywhere in a tubelet and edges only in places.

Drifting gravel has such energies, too, but reappears a few pixels further in the next frame, where block matching finds
it (Jain and Jain 1981). So the fine details of each pair of frames are compared at every shift of up to REACH pixels,
and again at half the resolution, where the same shifts reach twice as far: at the right shift moving texture nearly
cancels, grain never does.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 3  # coefficients of 2, 4 and 8 pixels
QUARTERS = 2  # along each side of a tubelet
REACH = 3  # pixels per frame, at each pyramid level
LEVELS = 2  # pyramid levels at which frames are compared: full and half resolution
BLUR = 5  # side of the square whose mean is subtracted before frames are compared: removes shading, keeps grain
FLOOR = 0.05  # squared 8-bit codes, added to every energy: somewhat below the rounding of 8-bit video, 1 / 12
_CENTRE, _SPREAD = 1.0, 3.0  # of log2 energies: bring those of ordinary footage to about -1 to 3

# Rows: Y, Cb and Cr of ITU-R BT.709.
_COLOUR = ((0.2126, 0.7152, 0.0722), (-0.1146, -0.3854, 0.5), (0.5, -0.4542, -0.0458))
_CHANNELS = 2 * len(_COLOUR)  # sums and differences of two frames
BANDS = 2 * _CHANNELS * 3 * SCALES  # features of a tubelet from `Energies.measure`
_SHIFTS = (2 * REACH + 1) ** 2


class Energies(nn.Module):
    """Log-energies of each tubelet's wavelet bands and motion, projected to the width of a token."""

    first: Tensor  # (4 * _CHANNELS, 2 * 3, 2, 2): the pair of frames, colour, the finest scale
    coarser: Tensor  # (4 * _CHANNELS, _CHANNELS, 2, 2)
    luma: Tensor  # (1, 3): of RGB in [0, 1], in 8-bit codes

    def __init__(self, hidden: int, tubelet: Sequence[int], *, width: int = 128) -> None:
        super().__init__()
        self.tubelet = tuple(tubelet)
        self.hidden = nn.Linear(BANDS + LEVELS * (_SHIFTS + 1), width)
        self.token = nn.Linear(width, hidden)
        first, coarser = _filters()
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("coarser", coarser, persistent=False)
        self.register_buffer("luma", 255 * torch.tensor(_COLOUR[:1]), persistent=False)

    @torch.no_grad()
    def silence(self) -> None:
        """Zero the output, so that a trained backbone at first computes the same as without this module."""
        nn.init.zeros_(self.token.weight)
        nn.init.zeros_(self.token.bias)

    @staticmethod
    def fits(tubelet: Sequence[int], size: int) -> bool:
        """Whether tubelets (depth, height, width) hold whole pairs and coefficients, and views have room for shifts."""
        side = QUARTERS << SCALES
        room = (size >> (LEVELS - 1)) - (BLUR - 1) - 2 * REACH
        return tubelet[0] % 2 == 0 and not tubelet[1] % side and not tubelet[2] % side and room >= size // side

    def forward(self, views: Tensor) -> Tensor:
        """views (n, frames, 3, size, size), RGB in [0, 1] -> (n, tubelets, hidden)."""
        # Half precision would round the grain away. ("meta" tensors, on which FLOPs are counted, have no autocast.)
        with torch.autocast("cuda" if views.is_cuda else "cpu", enabled=False):
            views = views.float()
            features = torch.cat([self.measure(views), self.match(views)], dim=-1)
        return self.token(F.gelu(self.hidden(features), approximate="tanh"))

    def measure(self, views: Tensor) -> Tensor:
        """(n, tubelets, features): log2 of the mean and of the least energy in every band, centred and scaled."""
        n, frames, _, height, width = views.shape
        depth, rows, columns = self.tubelet
        cells = (height // rows * QUARTERS, width // columns * QUARTERS)
        pairs = views.reshape(n * frames // 2, 6, height, width)
        bands = F.conv2d(pairs, self.first, stride=2)
        energies = []
        for scale in range(SCALES):
            if scale:
                bands = F.conv2d(bands[:, :_CHANNELS], self.coarser, stride=2)
            details = bands[:, _CHANNELS:]
            side = (details.shape[-2] // cells[0], details.shape[-1] // cells[1])
            energies.append(F.avg_pool2d(details.square(), side, side))
        energy = torch.cat(energies, dim=1)  # (n * frames / 2, bands, *cells)
        count = energy.shape[1]
        energy = energy.reshape(n, frames // depth, depth // 2, count, *cells).mean(dim=2)
        parts = energy.reshape(
            n, frames // depth, count, cells[0] // QUARTERS, QUARTERS, cells[1] // QUARTERS, QUARTERS
        )
        parts = parts.permute(0, 1, 3, 5, 2, 4, 6).flatten(5)  # (n, time, row, column, bands, quarters)
        found = torch.cat([parts.mean(dim=-1), parts.amin(dim=-1)], dim=-1)
        return _scaled(found).flatten(1, 3)

    def match(self, views: Tensor) -> Tensor:
        """(n, tubelets, LEVELS * (shifts + 1)): log2 of half the energy of the difference at each shift, and the least.

        That half is the variance of grain at any shift, and for white noise at any level, as in `measure`.
        """
        n, frames, _, height, width = views.shape
        luma = self.luma @ views.reshape(n * frames, 3, height * width)
        # With the pairs last, a shifted picture consists of a few long runs of memory.
        pairs = luma.reshape(n * frames // 2, 2, height * width).permute(1, 2, 0).reshape(2, height, width, -1)
        time, rows, columns = frames // self.tubelet[0], height // self.tubelet[1], width // self.tubelet[2]
        found = []
        for level in range(LEVELS):
            if level:
                pairs = _halved(pairs)
            cells = (time, max(1, rows >> level), max(1, columns >> level))  # few pixels would match anything
            near = self._compare(pairs, n, cells).movedim(-1, 1)
            found.append(F.interpolate(near, (time, rows, columns)).flatten(2).movedim(1, -1))
        return torch.cat(found, dim=-1)

    @staticmethod
    def _compare(pairs: Tensor, n: int, cells: tuple[int, int, int]) -> Tensor:
        """(n, *cells, shifts + 1) from pairs (2, height, width, n * pairs per view).

        The cells tile the part of a view that stays inside it at every shift: near the tubelets, and somewhat smaller.
        """
        time, rows, columns = cells
        first, second = _details(pairs)
        high, wide = (side - 2 * REACH for side in first.shape[:2])
        first = first[REACH : REACH + high, REACH : REACH + wide]
        down, across = _means(high, rows).to(first), _means(wide, columns).to(first)
        energies = []
        for y in range(2 * REACH + 1):
            for x in range(2 * REACH + 1):
                change = (second[y : y + high, x : x + wide] - first).square()
                means = (down @ change.reshape(high, -1)).reshape(rows, wide, -1)
                energies.append(across @ means)
        energy = torch.stack(energies, dim=-1) / 2  # (rows, columns, n * frames / 2, shifts)
        energy = energy.reshape(rows, columns, n, time, -1, len(energies)).mean(dim=4)
        found = torch.cat([energy, energy.amin(dim=-1, keepdim=True)], dim=-1)
        return _scaled(found).permute(2, 3, 0, 1, 4)


def _scaled(energy: Tensor) -> Tensor:
    return (torch.log2(energy + FLOOR) - _CENTRE) / _SPREAD


def _details(pictures: Tensor) -> Tensor:
    """(2, height, width, n) minus the mean of the square around each pixel, where the square lies inside."""
    height, width = (side - BLUR + 1 for side in pictures.shape[1:3])
    sums: Tensor = sum(pictures[:, i : i + height] for i in range(BLUR))  # type: ignore[assignment]
    sums = sum(sums[:, :, i : i + width] for i in range(BLUR))  # type: ignore[assignment]
    edge = BLUR // 2
    return pictures[:, edge : edge + height, edge : edge + width] - sums / BLUR**2


def _halved(pictures: Tensor) -> Tensor:
    """(2, height, width, n) at half resolution: the sum of four pixels over 2 keeps the variance of white noise."""
    rows: Tensor = pictures[:, 0::2] + pictures[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) / 2


def _means(length: int, parts: int) -> Tensor:
    """(parts, length): a matrix of means over adjacent stretches of equal length."""
    stretch = length // parts
    return F.pad(torch.eye(parts).repeat_interleave(stretch, dim=1) / stretch, (0, length - parts * stretch))


def _filters() -> tuple[Tensor, Tensor]:
    """The transform as convolution kernels: from RGB in [0, 1] to bands in 8-bit codes, and from means to bands.

    The bands are means, then details of rows, columns and diagonals; channels run fastest.
    """
    mean, change = torch.tensor([1.0, 1.0]) * 0.5**0.5, torch.tensor([1.0, -1.0]) * 0.5**0.5
    pairs = ((mean, mean), (change, mean), (mean, change), (change, change))
    space = torch.stack([torch.outer(rows, columns) for rows, columns in pairs])
    time = torch.stack([mean, change])
    first = 255 * torch.einsum("syx,kt,cr->skctryx", space, time, torch.tensor(_COLOUR))
    coarser = torch.einsum("syx,kc->skcyx", space, torch.eye(_CHANNELS))
    return first.reshape(-1, 6, 2, 2), coarser.reshape(-1, _CHANNELS, 2, 2)
