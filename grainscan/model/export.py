"""Export of a model as one ONNX file, checked against torch."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grainscan.errors import ModelError
from grainscan.model.vivit import GrainscanViViT

log = logging.getLogger(__name__)

PARITY_TOLERANCE = 1e-4  # largest difference between torch and ONNX Runtime, relative for logits beyond 1
_LARGE_WEIGHT = 1024  # numbers
_PARITY_PIXELS = 2_000_000  # compared: three small views or one large one


def export_onnx(model: GrainscanViViT, path: Path) -> float:
    """Write the model as one ONNX file with a free batch size; returns its largest difference from torch.

    Inputs `views` (n, frames, 3, size, size) and, for a model that reads them, `statistics` (n, count); outputs
    `logits` and `strength` (n, tasks). Raises ModelError if the difference exceeds PARITY_TOLERANCE.
    """
    view = model.spec.view
    training, device = model.training, next(model.parameters()).device
    model.eval().cpu()
    random = torch.Generator().manual_seed(0)
    example = torch.rand(2, view.frames, 3, view.size, view.size, generator=random)
    count = model.spec.statistics
    inputs = [example, torch.randn(2, count, generator=random)] if count else [example]
    names = ["views", "statistics"][: len(inputs)]
    try:
        # The exporter and the optimiser behind it warn about their own deprecations and log what they do by design.
        loggers = quiet_loggers("torch.onnx", "torch.export", "onnxscript", "onnx_ir")
        rows = torch.export.Dim("n", min=1, max=65536)
        with warnings.catch_warnings(), loggers:
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _for_inference(model),
                tuple(inputs),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=["logits", "strength"],
                dynamic_shapes=({0: rows},) * len(inputs),
                external_data=False,
            )
            assert program is not None
            program.save(str(path), external_data=False)
        _compact(path)
        compared = max(1, min(3, _PARITY_PIXELS // (view.frames * view.size**2)))
        inputs = [torch.cat([given, given.flip(1)])[:compared] for given in inputs]
        difference = _parity(model, path, dict(zip(names, inputs, strict=True)))
    finally:
        model.train(training).to(device)
    if not difference <= PARITY_TOLERANCE:
        hint = "Please report this with the versions that `grainscan --version` prints."
        raise ModelError(f"{path}: the exported model differs from torch by {difference:.1e}", hint=hint)
    log.debug("exported %s, largest difference from torch %.1e", path, difference)
    return difference


def _compact(path: Path) -> None:
    """Store as 16-bit floats all large weights that are such exactly, as those of a model saved with `half` are.

    A cast before each one restores the same 32 bits; ONNX Runtime computes it once, when it loads the file. The
    exporter's notes on each node, with the paths of this machine, are left out.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    for noted in (
        model,
        model.graph,
        *model.graph.node,
        *model.graph.input,
        *model.graph.output,
        *model.graph.value_info,
    ):
        del noted.metadata_props[:]
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < _LARGE_WEIGHT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    if casts:
        nodes = [*casts, *model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    onnx.save(model, path)


class _Tubelets(nn.Module):
    """The projection of tubelets in the form that is fastest in ONNX Runtime: fewer passes over the pixels.

    The normalisation is part of the filters. The frames of a tubelet are channels of a 2-D convolution; a 3-D one
    would have to swap time and colour in memory first.
    """

    @torch.no_grad()
    def __init__(self, model: GrainscanViViT) -> None:
        super().__init__()
        projection = model.vivit.embeddings.patch_embeddings.projection
        assert projection.bias is not None
        channels = (1, 3, 1, 1, 1)
        weight = projection.weight / model.normalisation.std.view(channels)
        self.depth, self.size = model.config.tubelet_size[0], tuple(model.config.tubelet_size[1:])
        self.weight = nn.Parameter(weight.transpose(1, 2).flatten(1, 2))
        shift = (weight * model.normalisation.mean.view(channels)).sum(dim=(1, 2, 3, 4))
        self.bias = nn.Parameter(projection.bias - shift)

    def forward(self, views: Tensor) -> Tensor:
        n, frames, channels, height, width = views.shape
        stacked = views.reshape(n * frames // self.depth, self.depth * channels, height, width)
        tokens = F.conv2d(stacked, self.weight, self.bias, stride=self.size).flatten(2).transpose(1, 2)
        return tokens.reshape(n, -1, tokens.shape[-1])


def _for_inference(model: GrainscanViViT) -> GrainscanViViT:
    """A copy whose `_Tubelets` include the normalisation."""
    fast = copy.deepcopy(model)
    fast.vivit.embeddings.patch_embeddings = _Tubelets(model)  # type: ignore[assignment]
    fast.normalisation = nn.Identity()  # type: ignore[assignment]
    return fast


@torch.no_grad()
def _parity(model: GrainscanViViT, path: Path, inputs: dict[str, Tensor]) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = session.run(["logits", "strength"], {name: given.numpy() for name, given in inputs.items()})
    expected = model(*inputs.values())
    pairs = zip(expected, map(torch.from_numpy, found), strict=True)
    return max(((a - b).abs() / a.abs().clamp_min(1)).max().item() for a, b in pairs)


@contextlib.contextmanager
def quiet_loggers(*names: str) -> Iterator[None]:
    """Let these loggers report errors only."""
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
