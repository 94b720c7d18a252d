"""Where an option's value comes from, and what is said when it is wrong."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from grainscan.errors import ConfigError
from grainscan.options import (
    EvalConfig,
    PredictConfig,
    PrepConfig,
    SplitConfig,
    TrainConfig,
    flag_of,
    option_of,
    resolve,
    to_toml,
)


def test_flags_beat_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text("[train]\nepochs = 2\nlr = 0.1\nseed = 5\n")
    environ = {"GRAINSCAN_TRAIN_LR": "0.2", "GRAINSCAN_TRAIN_SEED": "6"}
    config = resolve(TrainConfig, {"data": tmp_path, "seed": 7, "epochs": None}, file=file, environ=environ)
    assert (config.epochs, config.lr, config.seed, config.batch_size) == (2.0, 0.2, 7, TrainConfig.batch_size)


def test_the_file_of_the_working_directory_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grainscan.toml").write_text('[predict]\nworkers = 3\nformat = "csv"\n')
    monkeypatch.chdir(tmp_path)
    config = resolve(PredictConfig, {"inputs": ("a.avi",)}, environ={})
    assert (config.workers, config.format) == (3, "csv")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[train]\nepocs = 2\n", r"\[train\] has no option 'epocs'"),
        ("[train]\nepochs = 'many'\n", r"train\.epochs is 'many'"),
        ("[train]\nseed = 1.5\n", r"train\.seed is 1\.5"),
        ("[train]\nbatch_size = true\n", r"train\.batch_size is True"),
        ("[train]\nloss = 'hinge'\n", r"train\.loss is 'hinge'"),
        ("[train\n", "cannot be read"),
        ("train = 3\n", "train must be a table"),
    ],
)
def test_faults_of_a_file_name_the_place(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "options.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        resolve(TrainConfig, {"data": tmp_path}, file=file, environ={})


def test_faults_of_the_environment_name_the_variable() -> None:
    with pytest.raises(ConfigError, match="environment variable GRAINSCAN_TRAIN_CACHE"):
        resolve(TrainConfig, {"data": Path()}, environ={"GRAINSCAN_TRAIN_CACHE": "perhaps"})


@pytest.mark.parametrize(("text", "value"), [("1", True), ("off", False), ("TRUE", True), ("no", False)])
def test_booleans_of_the_environment(text: str, value: bool) -> None:
    assert resolve(TrainConfig, {"data": Path()}, environ={"GRAINSCAN_TRAIN_CACHE": text}).cache is value


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", 0),
        ("lr", -1.0),
        ("focal_gamma", -0.1),
        ("focal_alpha", "2"),
        ("focal_alpha", "much"),
        ("tune", "last-0"),
        ("tune", "some"),
        ("frames", 0),
        ("warmup", 1.0),
        ("epochs", math.inf),
        ("weight_decay", math.nan),
        ("workers", -2),
        ("soft_labels", 2.0),  # with the focal loss
    ],
)
def test_values_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(TrainConfig, {"data": Path(), option: value}, environ={})
    assert caught.value.message.startswith(flag_of(option))
    assert caught.value.hint


def test_the_range_is_in_the_hint() -> None:
    with pytest.raises(ConfigError, match="--warmup is 1") as caught:
        TrainConfig(data=Path(), warmup=1)
    assert caught.value.hint == "Use a number that is at least 0 and less than 1."


@pytest.mark.parametrize("flags", [{}, {"sources": (), "destination": None}, {"destination": Path("only")}])
def test_missing_arguments_are_named(flags: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"prep needs SRC\.\.\.") as caught:
        resolve(PrepConfig, flags, environ={})
    assert caught.value.hint == "Usage: grainscan prep SRC... DST"


def test_arguments_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('[train]\ndata = "clips"\n')
    assert resolve(TrainConfig, {"data": None}, file=tmp_path / "run.toml", environ={}).data == Path("clips")


@pytest.mark.parametrize("tune", ["full", "adapters", "head", "last-3"])
def test_scopes_of_tuning(tune: str) -> None:
    assert resolve(TrainConfig, {"data": Path(), "tune": tune}, environ={}).tune == tune


def test_toml_comes_back_as_it_was(tmp_path: Path) -> None:
    data = Path('odd "name"\\x')
    config = TrainConfig(data=data, lr=1e-5, tasks="a,b", scratch=True, resume="auto", focal_alpha="0.3")
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config, command="train"))
    assert resolve(TrainConfig, {}, file=file, environ={}) == config


def test_prep_sources_come_back_from_toml(tmp_path: Path) -> None:
    config = PrepConfig(sources=(Path("a"), Path("b")), destination=Path("c"), limit=3)
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config, command="prep"))
    assert resolve(PrepConfig, {}, file=file, environ={}) == config


@pytest.mark.parametrize("cls", [PrepConfig, SplitConfig, TrainConfig, PredictConfig, EvalConfig])
def test_options_are_frozen(cls: type) -> None:
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert all(field.name.islower() and option_of(field).help for field in dataclasses.fields(cls))
