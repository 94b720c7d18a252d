"""What a tubelet's finest details weigh: energies of its wavelets, as a token beside that of its pixels.

Grain is a property of the second order: its mean is nothing, its variance everything. A transformer has to learn to
square from examples; this module hands it the squares. Every pair of frames goes through an orthonormal Haar wavelet
transform, in time once and in space three times, so that white noise of deviation s has the energy s^2 in each band at
each scale, grain of two to four pixels shows at the second and third, and what stands still has nothing in the bands of
the difference. Of each band the mean over the tubelet is taken and the least of its four quarters: grain is everywhere
in a tubelet, edges only in places.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALES = 3  # coefficients of 2, 4 and 8 pixels
QUARTERS = 2  # along each side of a tubelet
FLOOR = 0.05  # squared 8-bit codes, added to every energy: somewhat below the rounding of 8-bit video, 1 / 12
_CENTRE, _SPREAD = 1.0, 3.0  # of log2 energies: brings those of ordinary footage to about -1 to 3

# Rows: Y, Cb and Cr of ITU-R BT.709.
_COLOUR = ((0.2126, 0.7152, 0.0722), (-0.1146, -0.3854, 0.5), (0.5, -0.4542, -0.0458))
_CHANNELS = 2 * len(_COLOUR)  # sums and differences of two frames


class Energies(nn.Module):
    """Log-energies of the wavelet bands of each tubelet, brought to the width of a token."""

    first: Tensor  # (4 * _CHANNELS, 2 * 3, 2, 2): the pair of frames, colour, the finest scale
    coarser: Tensor  # (4 * _CHANNELS, _CHANNELS, 2, 2)

    def __init__(self, hidden: int, tubelet: Sequence[int], *, width: int = 128) -> None:
        super().__init__()
        self.tubelet = tuple(tubelet)
        self.hidden = nn.Linear(2 * _CHANNELS * 3 * SCALES, width)
        self.token = nn.Linear(width, hidden)
        first, coarser = _filters()
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("coarser", coarser, persistent=False)

    @torch.no_grad()
    def silence(self) -> None:
        """Start at zero: a trained backbone that gets this module computes at first what it did without."""
        nn.init.zeros_(self.token.weight)
        nn.init.zeros_(self.token.bias)

    @staticmethod
    def fits(tubelet: Sequence[int]) -> bool:
        """Whether tubelets of this depth, height and width can be cut into pairs of frames and whole coefficients."""
        side = QUARTERS << SCALES
        return tubelet[0] % 2 == 0 and tubelet[1] % side == 0 and tubelet[2] % side == 0

    def forward(self, views: Tensor) -> Tensor:
        """views (n, frames, 3, size, size), RGB in [0, 1] -> (n, tubelets, hidden)."""
        return self.token(F.gelu(self.hidden(self.measure(views)), approximate="tanh"))

    def measure(self, views: Tensor) -> Tensor:
        """(n, tubelets, features): of every band log2 of the mean and of the least energy, centred and scaled."""
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
        return ((torch.log2(found + FLOOR) - _CENTRE) / _SPREAD).flatten(1, 3)


def _filters() -> tuple[Tensor, Tensor]:
    """The transform as kernels of convolutions: of RGB in [0, 1] to bands in 8-bit codes, and of means to bands.

    Of the bands the means come first, then the details: rows, columns, diagonals; channels run fastest.
    """
    mean, change = torch.tensor([1.0, 1.0]) * 0.5**0.5, torch.tensor([1.0, -1.0]) * 0.5**0.5
    space = torch.stack(
        [torch.outer(a, b) for a, b in ((mean, mean), (change, mean), (mean, change), (change, change))]
    )
    time = torch.stack([mean, change])
    first = 255 * torch.einsum("syx,kt,cr->skctryx", space, time, torch.tensor(_COLOUR))
    coarser = torch.einsum("syx,kc->skcyx", space, torch.eye(_CHANNELS))
    return first.reshape(-1, 6, 2, 2), coarser.reshape(-1, _CHANNELS, 2, 2)
