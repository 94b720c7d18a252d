"""grainscan: find grainy videos, and measure how strong the grain is and where.

How data flows, which is also the order of imports:

                         predict                                   eval
                            \\                                       /
    files -> video -> views -> engine -> scan (aggregate) -> report / metrics
                        ^         ^
    labels -> dataset --+      model <- train
       ^                          |
    prep, split, synth            +-> models/ (the embedded default)

`predict_video("clip.avi")` returns `(predicted_class, confidence)`; `Scanner` judges many files with one loaded model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from grainscan.lazy import imported

__version__ = "0.1.0"

if TYPE_CHECKING:
    from grainscan.errors import (
        ConfigError,
        DataError,
        DependencyError,
        GrainscanError,
        Interrupted,
        LabelsError,
        ModelError,
        ModelNotFoundError,
        OutputError,
        UnfitDataError,
        UnfitOutputError,
        UsageError,
        VideoError,
    )
    from grainscan.model.spec import ModelSpec
    from grainscan.report.notebook import Results
    from grainscan.scan.scanner import Scanner, predict_video
    from grainscan.views.crops import ViewSpec

__all__ = [
    "ConfigError",
    "DataError",
    "DependencyError",
    "GrainscanError",
    "Interrupted",
    "LabelsError",
    "ModelError",
    "ModelNotFoundError",
    "ModelSpec",
    "OutputError",
    "Results",
    "Scanner",
    "UnfitDataError",
    "UnfitOutputError",
    "UsageError",
    "VideoError",
    "ViewSpec",
    "__version__",
    "predict_video",
]

_HOMES = {
    "Scanner": "scan.scanner",
    "predict_video": "scan.scanner",
    "ModelSpec": "model.spec",
    "Results": "report.notebook",
    "ViewSpec": "views.crops",
}


def __getattr__(name: str) -> Any:
    return imported(__name__, __all__, name, _HOMES.get(name, "errors"))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
