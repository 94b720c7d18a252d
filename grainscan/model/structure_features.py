"""Structure features of a tubelet: how its luma steps from pixel to pixel and from frame to frame.

A coarse quantiser leaves steps at every eighth column, enlargement without a filter repeats columns, a contour is one
step between flats, blur has no large steps at all, a repeated frame none in time. A linear projection cannot see any of
that, because steps have either sign. So each tubelet is described by

    profiles    the mean absolute step at each of its columns and of its rows
    occupancy   the share of steps beyond each of THRESHOLDS, along rows, columns and time
    moments     level, deviation, the steps of each frame's time, and the steps of the colour differences

and, where the model measures them, by the wavelet energies of `noise_features`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

THRESHOLDS = (0.5, 1.5, 4.0, 10.0, 25.0)  # 8-bit codes
_FLOOR = 0.25  # 8-bit codes, added to steps before the logarithm: about the deviation of rounding
_CENTRE, _SPREAD = 1.0, 2.0  # of log2 steps: bring those of ordinary footage to about -1.5 to 2
_COLOUR = ((0.2126, 0.7152, 0.0722), (-0.1146, -0.3854, 0.5), (0.5, -0.4542, -0.0458))  # Y, Cb, Cr of ITU-R BT.709


class Structure(nn.Module):
    """Structure features of each tubelet, projected to the width of a token."""

    colour: Tensor  # (3, 3): Y, Cb, Cr in 8-bit codes from RGB in [0, 1]

    def __init__(self, hidden: int, tubelet: Sequence[int], *, bands: int = 0, width: int = 128) -> None:
        super().__init__()
        self.tubelet = tuple(tubelet)
        depth, rows, columns = self.tubelet
        features = rows + columns + 3 * len(THRESHOLDS) + 2 + depth + 2
        self.hidden = nn.Linear(features + bands, width)
        self.token = nn.Linear(width, hidden)
        self.summary = nn.Linear(3 * width, hidden)
        self.register_buffer("colour", 255 * torch.tensor(_COLOUR), persistent=False)

    def forward(self, views: Tensor, bands: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """views (n, frames, 3, size, size), RGB in [0, 1], bands (n, tubelets, bands).

        Returns the tokens (n, tubelets, hidden), and a summary of the view (n, hidden): mean, maximum and minimum over
        the tubelets tell blur, which leaves nothing sharp, from a flat place in a sharp picture, and damage in one
        place from none.
        """
        # Half precision would round away steps of a code.
        with torch.autocast("cuda" if views.is_cuda else "cpu", enabled=False):
            features = self.measure(views.float())
            if bands is not None:
                features = torch.cat([features, bands.float()], dim=-1)
        found = F.gelu(self.hidden(features), approximate="tanh")
        extent = torch.cat([found.mean(dim=1), found.amax(dim=1), found.amin(dim=1)], dim=-1)
        return self.token(found), self.summary(extent)

    def measure(self, views: Tensor) -> Tensor:
        """(n, tubelets, features)."""
        planes = torch.einsum("kc,ntcyx->kntyx", self.colour, views)
        luma = planes[0]
        # The last row, column and frame have no next one: there the step before is repeated.
        across = _repeated((luma[..., 1:] - luma[..., :-1]).abs(), 3)
        down = _repeated((luma[:, :, 1:] - luma[:, :, :-1]).abs(), 2)
        later = _repeated((luma[:, 1:] - luma[:, :-1]).abs(), 1)
        colours = (planes[1:, ..., 1:] - planes[1:, ..., :-1]).abs()
        features = [
            _log(self._tiles(across).mean(dim=(3, 4))),  # of each column
            _log(self._tiles(down).mean(dim=(3, 5))),  # of each row
            _log(self._tiles(later).mean(dim=(4, 5))),  # of each frame
        ]
        for steps in (across, down, later):
            tiles = self._tiles(steps).flatten(3)
            shares = [((tiles / threshold - 0.5).clamp(0, 1)).mean(dim=-1, keepdim=True) for threshold in THRESHOLDS]
            features.append(torch.cat(shares, dim=-1))
        level = self._tiles(luma).flatten(3)
        mean = level.mean(dim=-1, keepdim=True)
        deviation = (level.square().mean(dim=-1, keepdim=True) - mean.square()).clamp_min(0).sqrt()
        features += [mean / 128 - 1, _log(deviation)]
        features += [_log(self._tiles(_repeated(plane, 3)).flatten(3).mean(dim=-1, keepdim=True)) for plane in colours]
        return torch.cat(features, dim=-1).flatten(1, 2)

    def _tiles(self, values: Tensor) -> Tensor:
        """(n, frames, height, width) -> (n, time, row x column, depth, rows, columns) of the tubelets."""
        n, frames, height, width = values.shape
        depth, rows, columns = self.tubelet
        tiles = values.reshape(n, frames // depth, depth, height // rows, rows, width // columns, columns)
        return tiles.permute(0, 1, 3, 5, 2, 4, 6).flatten(2, 3)


def _log(steps: Tensor) -> Tensor:
    return (torch.log2(steps + _FLOOR) - _CENTRE) / _SPREAD


def _repeated(steps: Tensor, dim: int) -> Tensor:
    """With the last step once more along a dimension."""
    return torch.cat([steps, steps.narrow(dim, steps.shape[dim] - 1, 1)], dim=dim)
