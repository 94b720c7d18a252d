"""The character of grain: how strong at which level of luma, how coarse, how coloured, and whether it moves.

`sample` measures a decoded window, `characterise` makes one description of the samples of a file, and `film` turns that
into the parameters of AV1's film grain synthesis, which `table` writes for encoders. Pure arithmetic on decoded planes.
"""

BANDS = 8  # of luma, for each of which grain has a strength
WIDTH = 256 // BANDS  # codes
