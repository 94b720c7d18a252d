"""Make the protocol set of ten artifacts: `python examples/embedded/protocol_ten.py DST [--material DIR]`.

In the manner of BVI-Artefact (Feng et al., 2024): all ten artifacts alone and combined, encoded with HEVC (x265,
constant quantiser), in scenes that training never saw: the clips that `material.py` writes to DIR/held-out (made first
if no DIR is given).

    DST/qp32/  DST/qp47/   SCENE_WIDTHxHEIGHT_qp32_banding.mp4, …, labels.json, manifest.json
    DST/labels.json, DST/manifest.json    both in one

so that `grainscan eval DST/qp32` and `grainscan eval DST` both work. An interrupted run continues where it stopped.

Every scene is written without an artifact (`clean`), with each alone (its name), and with two, three and four of them
(`mix2`, `mix3`, `mix4`: nine of the ten, in random order; what the delivery does comes last). The encoder comes after
all of them. Half of the artifacts are made by the synthesisers of `grainscan.data.synth`, without what usually
surrounds them, from seeds of their own; half by other means (`other_means.py`); `means` in the manifest says which.
Strengths are drawn until one is visible before encoding, or a few times.

Labels are by what survives, each artifact compared with the same clip without it through the same encoder, as in
`grainscan prep`: 1 if it is visible, 0 if negligible or not there, none in between. Blockiness, darkness and black
pictures are measured in every clip, whoever made them; so blockiness is 1 where `coding_loss` against the pictures
before any encoder reaches 4 codes, as in most clips at QP 47, and 0 below 2.2, as in most at QP 32; it is unknown where
more than a quarter of the clip is black. Damage has to be visible before the encoder as well as after it: a coarse
quantiser errs as much. `protocol_ten_report.py` gives the figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import Entry
from other_means import OTHERS
from protocol import Scene, make_protocol, read_scene

from grainscan.data.synth import BaseRecipe, synthesiser
from grainscan.data.synth.recipe import Surroundings
from grainscan.data.synth.twins import Artifacts, Branches, label_of
from grainscan.tasks import SYNTHESISED, task_of
from grainscan.video import Block, read_clip, recode, write_clip

QPS = (32, 47)
MIXES = (2, 3, 4)  # artifacts in one clip
OTHER_SHARE = 0.5  # of the artifacts are made by other means
TRIES = 5  # recipes drawn for an artifact; the first that is visible is used, or the strongest
LOOKED_AT = 8  # pictures, to see whether an artifact of the source is visible
MOST_BLACK = 60.0  # per cent of a clip with other artifacts: something has to show them
HARDLY_SHOWN = 25.0  # per cent: where more is black, what is left may be fading, and no loss can be measured on it


@dataclass(eq=False)
class Coded(Branches):
    """The branches of a scene, with the encoder after all artifacts."""

    uncoded: Branches = field(kw_only=True)
    qp: int = field(kw_only=True)
    speed: int = field(kw_only=True)
    _decoded: dict[tuple[int, ...], Block] = field(default_factory=dict)

    def before(self, artifacts: Iterable[BaseRecipe]) -> Block:
        return self.uncoded.before(artifacts)

    def after(self, artifacts: Artifacts) -> Block:
        key = tuple(map(id, artifacts))
        if key not in self._decoded:
            self._decoded[key] = recode(self.uncoded.after(artifacts), "hevc", self.qp, speed=self.speed)
        return self._decoded[key]

    def write(self, artifacts: Artifacts, path: Path) -> None:
        """Write a branch, and take what can be read of it for what is after the encoder."""
        write_clip(path, self.uncoded.after(artifacts), codec="hevc", quality=self.qp, speed=self.speed)
        self._decoded[tuple(map(id, artifacts))] = read_clip(path)

    def strength(self, recipe: type[BaseRecipe], artifacts: Artifacts) -> float:
        strength = super().strength(recipe, artifacts)
        if recipe.task == "transmission_error":
            return min(strength, self.uncoded.strength(recipe, artifacts))
        return strength


def main() -> int:
    return make_protocol(make, __doc__, "embedded/protocol_ten.py", QPS, mixes=list(MIXES))


def make(scene: Scene, destination: Path) -> dict[str, Entry]:
    """Write the clips of a scene; their entries in the manifest by name relative to the destination."""
    block = read_scene(scene)
    variants = plan(scene, block)
    uncoded = Branches(block, Surroundings())
    made = {}
    for qp in QPS:
        coded = Coded(block, uncoded.surroundings, uncoded=uncoded, qp=qp, speed=scene.speed)
        names = {
            variant: f"qp{qp}/{scene.name}_{block.width}x{block.height}_qp{qp}_{variant}.mp4" for variant in variants
        }
        for variant, artifacts in variants.items():
            coded.write(artifacts, destination / names[variant])
        for variant, artifacts in variants.items():
            made[names[variant]] = {
                "source": scene.name, "kind": scene.kind, "file": scene.path.name,
                "frames": coded.after(artifacts).frames, "qp": qp, "variant": variant,
                **judged(coded, artifacts),
                "means": {one.task: means(one) for one in artifacts},
                "synthesis": {"artifacts": [one.artifact() for one in artifacts], "encode": ["hevc", qp, scene.speed]},
            }  # fmt: skip
    return made


def judged(branches: Branches, artifacts: Artifacts) -> dict[str, dict[str, Any]]:
    """Labels and strengths of one clip for every task. `strength` has those with a unit, `measured` all."""
    there = {one.task for one in artifacts}
    found = {task: branches.strength(synthesiser(task), artifacts) for task in SYNTHESISED}
    labels = {task: label_of(synthesiser(task), found[task], put_in=task in there) for task in SYNTHESISED}
    if found["black_screen"] > HARDLY_SHOWN:
        labels["blockiness"] = None
    return {
        "labels": labels,
        "strength": {task: round(value, 3) for task, value in found.items() if task_of(task).unit},
        "measured": {task: round(value, 3) for task, value in found.items()},
    }


def means(recipe: BaseRecipe) -> str:
    return "other" if isinstance(recipe, OTHERS[recipe.task]) else "synthesiser"


# ------------------------------------------------------------------------------------------------------------- drawing


def plan(scene: Scene, block: Block) -> dict[str, Artifacts]:
    """The artifacts of each clip of a scene by the name of the variant."""
    variants: dict[str, Artifacts] = {"clean": ()}
    for task in SYNTHESISED:
        variants[task] = (draw(task, _rng(scene, task), block, alone=True),)
    rng = _rng(scene, "mixes")
    left = [SYNTHESISED[i] for i in rng.permutation(len(SYNTHESISED))]
    for number in MIXES:
        tasks, left = left[:number], left[number:]
        artifacts = [draw(task, rng, block, alone=False) for task in tasks]
        artifacts.sort(key=lambda one: one.stage == "delivery")  # stable: otherwise as drawn
        variants[f"mix{number}"] = tuple(artifacts)
    return variants


def draw(task: str, rng: np.random.Generator, block: Block, *, alone: bool) -> BaseRecipe:
    """A recipe that is visible in the block before encoding, if one can be had."""
    other = OTHERS[task]
    kind = other if rng.random() < OTHER_SHARE and (alone or other.combines) else synthesiser(task)
    drawn: dict[float, BaseRecipe] = {}
    for _ in range(TRIES):
        recipe = bare(kind.draw(rng, width=block.width, height=block.height))
        strength = seen(block, recipe)
        if task == "black_screen" and strength > MOST_BLACK and not alone:
            continue
        drawn[strength] = recipe
        if strength >= synthesiser(task).visible:
            break
    return drawn[max(drawn)] if drawn else draw(task, rng, block, alone=alone)


def bare(recipe: BaseRecipe) -> BaseRecipe:
    """The recipe without what surrounds the artifact: everything else in a scene is the same in all of its clips."""
    late = {"late": True} if hasattr(recipe, "late") else {}
    return replace(recipe, scene=(), defects=(), scale=None, process=(), encode=(), **late)


def seen(block: Block, recipe: BaseRecipe) -> float:
    """How strong an artifact is in the pictures before encoding. It has time if it comes with the delivery."""
    if recipe.stage == "source" or recipe.task == "blockiness":
        block = block.crop(0, 0, block.width, block.height, frames=LOOKED_AT)
    return Branches(block, Surroundings()).strength(synthesiser(recipe.task), (recipe,))


def _rng(scene: Scene, what: str) -> np.random.Generator:
    digest = hashlib.sha256(f"protocol of ten/{scene.seed}/{scene.name}/{what}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


if __name__ == "__main__":
    raise SystemExit(main())
