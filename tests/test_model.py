"""The network: what it computes, what it keeps of other checkpoints, and what it leaves on disk."""

from __future__ import annotations

import json
import pickletools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VivitConfig, VivitForVideoClassification, VivitModel

from grainscan.errors import ConfigError, DataError, ModelError
from grainscan.model import build as build_module
from grainscan.model import export as export_module
from grainscan.model.build import build, interpolate_positions, quiet_transformers
from grainscan.model.export import export_onnx
from grainscan.model.spec import ModelSpec, find_model, read_spec, starting_spec
from grainscan.model.store import load, save
from grainscan.model.vivit import GrainscanViViT, TaskAdapter, count_parameters
from grainscan.train.finetune import add_lora, decayed, tune, whiten
from grainscan.views.crops import ViewSpec
from grainscan.views.statistics import COUNT

torch.set_num_threads(1)  # the models are tiny, and threads that wait for a busy processor take long

TINY = VivitConfig(
    image_size=32,
    num_frames=4,
    tubelet_size=[2, 16, 16],
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
)
VIEW = ViewSpec(frames=4, size=32)


def tiny(*tasks: str, seed: int = 0, pooling: str = "mean", tubelet: int = 16, **options: object) -> GrainscanViViT:
    """Two layers of 32, with every weight drawn at random, so that no part of the network is idle."""
    torch.manual_seed(seed)
    spec = ModelSpec("tiny", tasks or ("graininess",), VIEW, pooling, adapter=8, **options)  # type: ignore[arg-type]
    config = VivitConfig(**{**TINY.to_dict(), "tubelet_size": [2, tubelet, tubelet]})
    model = GrainscanViViT(config, spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model.eval()


def views(count: int = 3, frames: int = 4, size: int = 32) -> torch.Tensor:
    return torch.rand(count, frames, 3, size, size, generator=torch.Generator().manual_seed(1))


# ------------------------------------------------------------------------------------------------ what it computes


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_forward_is_backbone_pooling_and_adapter(pooling: str) -> None:
    model = tiny("graininess", "banding", pooling=pooling, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    pixels = views()
    logits, strength = model(pixels)
    assert logits.shape == strength.shape == (3, 2)
    normalised = (pixels - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    tokens = model.backbone(normalised).last_hidden_state
    pooled = tokens[:, 0] if pooling == "cls" else tokens[:, 1:].mean(1)
    adapter = model.adapters["1"]
    token = adapter.norm(pooled)
    token = token + adapter.up(torch.nn.functional.gelu(adapter.down(token)))
    torch.testing.assert_close(logits[:, 1:], adapter.logit(token))
    torch.testing.assert_close(strength[:, 1:], adapter.strength(token))


@torch.no_grad()
def test_input_is_brought_to_the_range_of_the_published_checkpoint() -> None:
    model = tiny()
    seen = []
    model.backbone.embeddings.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model(torch.stack([torch.zeros(4, 3, 32, 32), torch.ones(4, 3, 32, 32)]))
    assert seen[0][0].unique().tolist() == [-1] and seen[0][1].unique().tolist() == [1]


@torch.no_grad()
def test_a_fresh_adapter_is_a_linear_probe() -> None:
    fresh = TaskAdapter(16, 4)
    token = torch.randn(5, 16)
    torch.testing.assert_close(fresh(token)[0], fresh.logit(fresh.norm(token)))


@torch.no_grad()
def test_energies_are_added_to_the_tokens_of_tubelets() -> None:
    model = tiny(energies=True)
    assert model.energies is not None
    tokens = model.backbone.embeddings(model.normalisation(views(2)))
    tokens[:, 1:] += model.energies(views(2))
    for layer in model.backbone.layers:
        tokens = layer(tokens, None)
    expected = model.adapters["0"](model.backbone.layernorm(tokens)[:, 1:].mean(dim=1))
    torch.testing.assert_close(model(views(2)).logits, expected[0])


@torch.no_grad()
def test_the_fused_activation_is_the_published_one() -> None:
    torch.manual_seed(0)
    config = VivitConfig(**{**TINY.to_dict(), "hidden_act": "gelu_fast"})
    stock = VivitModel(config, add_pooling_layer=False).eval()
    ours = GrainscanViViT(VivitConfig(**config.to_dict()), ModelSpec("x", ("graininess",), VIEW))
    ours.backbone.load_state_dict(stock.state_dict())
    pixels = views()
    torch.testing.assert_close(
        ours.eval().backbone(pixels).last_hidden_state, stock(pixels).last_hidden_state, atol=1e-5, rtol=1e-5
    )


# ------------------------------------------------------------------------------------------------ position embeddings


def direct_interpolation(cells: np.ndarray, new: tuple[int, int, int]) -> np.ndarray:
    """Trilinear interpolation by its definition: cells (t, h, w, hidden) at cell centres, edges held."""
    old = cells.shape[:3]
    result = np.zeros((*new, cells.shape[3]))
    for place in np.ndindex(*new):
        at = [min(max((i + 0.5) * o / n - 0.5, 0), o - 1) for i, o, n in zip(place, old, new, strict=True)]
        low = [int(value) for value in at]
        for corner in np.ndindex(2, 2, 2):
            index = tuple(min(lo + c, o - 1) for lo, c, o in zip(low, corner, old, strict=True))
            weight = np.prod([v - lo if c else 1 - (v - lo) for v, lo, c in zip(at, low, corner, strict=True)])
            result[place] += weight * cells[index]
    return result


@pytest.mark.parametrize("new", [(2, 6, 4), (8, 2, 7), (4, 3, 5), (1, 1, 1)])
def test_position_embeddings_are_interpolated_in_three_dimensions(new: tuple[int, int, int]) -> None:
    old = (4, 3, 5)
    positions = torch.randn(1, 1 + 60, 6, generator=torch.Generator().manual_seed(0))
    found = interpolate_positions(positions, old, new)
    assert found.shape == (1, 1 + int(np.prod(new)), 6)
    torch.testing.assert_close(found[:, 0], positions[:, 0])  # the class token has no place
    expected = direct_interpolation(positions[0, 1:].double().numpy().reshape(*old, 6), new).reshape(-1, 6)
    np.testing.assert_allclose(found[0, 1:], expected, atol=1e-5)


def test_the_published_grid_keeps_time_apart_from_space() -> None:
    """16x14x14 positions, as in the published checkpoint, that differ in time only: no place may see a mixture."""
    time = torch.arange(16.0).view(16, 1, 1).expand(16, 14, 14).reshape(1, -1, 1)
    positions = torch.cat([torch.full((1, 1, 1), -5.0), time], dim=1)
    found = interpolate_positions(positions, (16, 14, 14), (4, 4, 4))[0, 1:, 0].view(4, 16)
    torch.testing.assert_close(found, torch.tensor([1.5, 5.5, 9.5, 13.5])[:, None].expand(4, 16))


def test_tasks_that_a_model_was_trained_for(tmp_path: Path) -> None:
    save(tiny("graininess", "banding"), tmp_path / "m", onnx=False)
    assert starting_spec(str(tmp_path / "m")) == read_spec(tmp_path / "m")
    assert starting_spec("small") == read_spec(find_model("small"))
    assert starting_spec("vivit-b") is starting_spec("nobody/nothing") is None


def test_other_views_and_tasks_keep_what_is_known(tmp_path: Path) -> None:
    source = tiny("graininess", "banding")
    save(source, tmp_path / "m", onnx=False)
    model = build(str(tmp_path / "m"), tasks=["motion_blur", "banding"], frames=8, size=64, pooling="cls")
    assert model.spec.view == ViewSpec(frames=8, size=64) and model.spec.pooling == "cls"
    assert model.spec.tasks == ("motion_blur", "banding")
    torch.testing.assert_close(model.adapters["1"].state_dict(), source.adapters["1"].state_dict())
    assert not torch.equal(model.adapters["0"].logit.weight, source.adapters["0"].logit.weight)
    positions = "embeddings.position_embeddings"
    torch.testing.assert_close(
        model.backbone.state_dict()[positions],
        interpolate_positions(source.backbone.state_dict()[positions], (2, 2, 2), (4, 4, 4)),
    )
    assert model(views(2, 8, 64)).logits.shape == (2, 2)
    with pytest.raises(ConfigError, match="5 frames") as caught:
        build(str(tmp_path / "m"), frames=5)
    assert "--frames as a multiple of 2" in caught.value.hint
    with pytest.raises(ConfigError):
        build(str(tmp_path / "m"), size=40)
    with pytest.raises(ConfigError, match="16x16 pixels are too small") as caught:
        build("small", scratch=True, size=16)
    assert "multiple of 16" in caught.value.hint


# ------------------------------------------------------------------------------------------------ checkpoints of others

# What transformers 4 called the weights of a layer, and what transformers 5 calls them.
OLD_NAMES = (
    ("vivit.layers.", "vivit.encoder.layer."),
    ("attention.q_proj", "attention.attention.query"),
    ("attention.k_proj", "attention.attention.key"),
    ("attention.v_proj", "attention.attention.value"),
    ("attention.o_proj", "attention.output.dense"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
)


def write_checkpoint(directory: Path, *, old: bool, **changes: int) -> VivitForVideoClassification:
    """A ViViT with a head of 400 classes, as transformers 4 (`old`) or 5 writes it; `changes` of its configuration."""
    torch.manual_seed(3)
    labels = {str(i): f"LABEL_{i}" for i in range(400)}
    config = {**TINY.to_dict(), "hidden_act": "gelu_fast", "id2label": labels, "video_size": [4, 32, 32]} | changes
    config["label2id"] = {name: int(key) for key, name in labels.items()}
    config["architectures"] = ["VivitForVideoClassification"]
    stock = VivitForVideoClassification(VivitConfig(**config)).eval()
    with torch.no_grad():
        for parameter in stock.parameters():
            parameter.normal_(std=0.2)
    weights = {}
    for name, value in stock.state_dict().items():
        for new, former in OLD_NAMES if old else ():
            name = name.replace(new, former)
        weights[name] = value
    directory.mkdir()
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "config.json").write_text(json.dumps(config))
    return stock


@torch.no_grad()
@pytest.mark.parametrize("old", [True, False], ids=["transformers 4", "transformers 5"])
def test_a_kinetics_checkpoint_keeps_its_backbone_and_loses_its_head(tmp_path: Path, old: bool) -> None:
    stock = write_checkpoint(tmp_path / "hf", old=old)
    if old:
        assert "vivit.encoder.layer.0.attention.attention.query.weight" in load_file(tmp_path / "hf/model.safetensors")
    model = build(str(tmp_path / "hf"), tasks=["graininess"]).eval()
    pixels = views()
    expected = stock.vivit(2 * pixels - 1).last_hidden_state
    torch.testing.assert_close(model.backbone(2 * pixels - 1).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    plain = GrainscanViViT(model.config, model.spec.with_(energies=False)).eval()
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "energies" not in key})
    assert model.spec.energies  # that say nothing before they are trained
    torch.testing.assert_close(model(pixels).logits, plain(pixels).logits)
    assert model(pixels).logits.shape == (3, 1)
    assert model.spec.pooling == "cls" and model.spec.view == VIEW
    assert not any("classifier" in name for name in model.state_dict())


def test_one_task_is_not_a_regression(tmp_path: Path) -> None:
    """transformers takes num_labels = 1 for a regression; the directory must not say so."""
    save(tiny("graininess"), tmp_path / "one", onnx=False)
    config = VivitConfig.from_pretrained(tmp_path / "one")
    assert config.problem_type == "multi_label_classification"
    assert config.num_labels == 1 and config.id2label == {0: "graininess"}


def test_transformers_reads_our_backbone(tmp_path: Path) -> None:
    model = tiny()
    save(model, tmp_path / "m", onnx=False)
    with quiet_transformers():
        stock = VivitModel.from_pretrained(tmp_path / "m", add_pooling_layer=False)
    torch.testing.assert_close(stock.state_dict(), model.backbone.state_dict())


def test_what_cannot_be_had_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="vivit-b: cannot be loaded") as caught:
        build("vivit-b")
    assert "google/vivit-b-16x2-kinetics400" in caught.value.hint and "--model DIR" in caught.value.hint
    with pytest.raises(ModelError, match="cannot be loaded"):
        build("nobody/nothing")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="'bert' model"):
        build(str(tmp_path / "bert"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError) as caught:
        build(str(tmp_path / "empty"))
    assert "config.json" in caught.value.hint


def test_an_offline_machine_is_not_asked_to_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(local: bool) -> None:
        asked.append(local)
        raise OSError("not there\nlong story")

    monkeypatch.setattr(build_module, "_hub_reachable", lambda: False)
    with pytest.raises(ModelError, match=r"not there$"):
        build_module._first_that_works("a/b", read)
    monkeypatch.setattr(build_module, "_hub_reachable", lambda: True)
    with pytest.raises(ModelError):
        build_module._first_that_works("a/b", read)
    assert asked == [True, True, False]


# ------------------------------------------------------------------------------------------------ the directory


@pytest.mark.slow
@torch.no_grad()
def test_saved_loaded_and_exported_models_agree(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tiny("graininess", "banding", energies=True, strength={"graininess": "codes"}, threshold={"banding": 0.3})
    save(model, tmp_path / "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
    names = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert names == ["README.md", "config.json", "model.onnx", "model.safetensors"]
    assert capfd.readouterr().out == ""
    assert read_spec(tmp_path / "m") == model.spec
    pixels = views(5)
    again = load(tmp_path / "m")
    torch.testing.assert_close(again(pixels), model(pixels), rtol=0, atol=0)
    session = onnxruntime.InferenceSession(tmp_path / "m/model.onnx")
    for count in (1, 5):  # the batch size is free, 1 included
        logits, strength = session.run(["logits", "strength"], {"views": pixels[:count].numpy()})
        np.testing.assert_allclose(logits, model(pixels[:count]).logits, atol=1e-4)
        np.testing.assert_allclose(strength, model(pixels[:count]).strength, atol=1e-4)


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "_parity", lambda *_: 2e-4)
    monkeypatch.setattr(export_module, "_compact", lambda *_: None)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: type("P", (), {"save": lambda *_, **__: None})())
    with pytest.raises(ModelError, match=r"differs from torch by 2\.0e-04"):
        export_onnx(tiny(), tmp_path / "model.onnx")
    monkeypatch.setattr(export_module, "_parity", lambda *_: float("nan"))
    with pytest.raises(ModelError):
        save(tiny(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []  # nothing half-written is left


def test_no_file_of_a_model_directory_is_a_pickle(tmp_path: Path) -> None:
    save(tiny(), tmp_path / "m", onnx=False)
    for path in (tmp_path / "m").iterdir():
        assert not path.read_bytes().startswith((b"\x80", b"PK"))
        with pytest.raises(ValueError, match=r"opcode|exhausted|encountered|string|got"):
            list(pickletools.genops(path.read_bytes()))


def test_saving_replaces_and_keeps_the_device_and_mode(tmp_path: Path) -> None:
    save(tiny(seed=1), tmp_path / "m", onnx=False)
    model = tiny(seed=2).train()
    save(model, tmp_path / "m", onnx=False)
    assert model.training
    torch.testing.assert_close(load(tmp_path / "m").state_dict(), model.state_dict())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "other size", "no config"])
def test_a_damaged_directory_is_an_error_with_a_hint(tmp_path: Path, damage: str) -> None:
    save(tiny(), tmp_path / "m", onnx=False)
    weights = tmp_path / "m/model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "missing":
        weights.unlink()
    elif damage == "other size":
        config = json.loads((tmp_path / "m/config.json").read_text())
        (tmp_path / "m/config.json").write_text(json.dumps({**config, "hidden_size": 64}))
    else:
        (tmp_path / "m/config.json").unlink()
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "m")
    assert caught.value.hint


def test_the_small_preset_has_two_million_parameters() -> None:
    model = build("small", scratch=True)
    assert model.spec.view == ViewSpec() and model.spec.tasks == ("graininess",)
    assert 2.0e6 < count_parameters(model) < 2.2e6
    assert torch.equal(
        model.state_dict()["vivit.layers.0.mlp.fc1.weight"],
        build("small", scratch=True).state_dict()["vivit.layers.0.mlp.fc1.weight"],
    )


# ------------------------------------------------------------------------------------------------ tuning


@torch.no_grad()
def test_whitening_makes_clean_tubelets_white_and_grain_stand_out() -> None:
    model = tiny(tubelet=8)
    torch.manual_seed(0)
    ramp = torch.linspace(0, 0.5, 32)
    shade = torch.rand(240, 1, 3, 1, 1) * 0.4
    slope = torch.rand(240, 1, 1, 1, 1)
    clean = (shade + slope * ramp).expand(240, 4, 3, 32, 32)
    assert whiten(model, [clean[:120], clean[120:]], reference=0.0) == 240 * 2 * 4 * 4
    tokens = model.backbone.embeddings.patch_embeddings(2 * clean - 1)
    assert tokens.mean().abs() < 0.05
    # Four directions carry pictures (shade of three channels, slope): each is brought to a deviation of 1.
    energy = tokens.flatten(0, 1).var(dim=0).sum()
    assert energy == pytest.approx(4 * 32 / 384, rel=0.4)
    grainy = clean + torch.randn(240, 4, 1, 32, 32) * (5 / 255)
    louder = model.backbone.embeddings.patch_embeddings(2 * grainy - 1).flatten(0, 1).var(dim=0).sum()
    assert louder > 50 * energy
    # White noise of one code, the floor, has a deviation of at most 1 in every unit (0.7: half floor, half noise).
    noise = torch.randn(240, 4, 3, 32, 32) / 255
    floor = model.backbone.embeddings.patch_embeddings(2 * (0.3 + noise) - 1).flatten(0, 1).std(dim=0)
    assert floor.mean() == pytest.approx(1, abs=0.1)


@torch.no_grad()
def test_whitening_leaves_a_constant_part_of_the_chosen_size() -> None:
    model = tiny(tubelet=8)
    clean = [torch.rand(64, 4, 3, 32, 32)]
    whiten(model, clean, reference=3.0, seed=4)
    tokens = model.backbone.embeddings.patch_embeddings(2 * clean[0] - 1).flatten(0, 1)
    assert tokens.mean(dim=0).std() == pytest.approx(3.0, rel=0.4)
    weights = model.backbone.embeddings.patch_embeddings.projection.weight.clone()
    whiten(model, clean, reference=3.0, seed=4)
    assert torch.equal(weights, model.backbone.embeddings.patch_embeddings.projection.weight)
    with pytest.raises(DataError):
        whiten(model, [])


def trainable(model: GrainscanViViT) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_scopes_of_tuning() -> None:
    model = tiny("graininess", "banding", energies=True)
    tune(model, "full")
    assert len(trainable(model)) == len(list(model.parameters()))
    tune(model, "adapters")
    adapters = {name for name, _ in model.named_parameters() if name.startswith("adapters.")}
    assert trainable(model) == adapters
    tune(model, "head")
    heads = {name for name in adapters if name.split(".")[2] in ("logit", "strength")}
    assert trainable(model) == heads and len(heads) == 8
    tune(model, "last-1")
    extra = trainable(model) - adapters
    assert extra and all(name.startswith(("vivit.layers.1.", "vivit.layernorm.")) for name in extra)
    with pytest.raises(ConfigError, match="2 layers"):
        tune(model, "last-3")


def test_the_picture_is_trained_beside_what_judges_views() -> None:
    model = tiny("graininess", "banding", energies=True, statistics=COUNT)
    tune(model, "picture", kept=1)
    assert trainable(model) and all(name.startswith("picture.adapters.1.") for name in trainable(model))
    tune(model, "full", kept=1)  # nothing that is learnt is judged by views
    assert all(name.startswith("picture.adapters.1.") for name in trainable(model))
    tune(model, "head", kept=1)
    assert {name.split(".")[3] for name in trainable(model)} == {"logit", "strength"}


def test_lora_adapts_attention_and_mlp_and_leaves_no_trace() -> None:
    model = tiny()
    names = list(model.state_dict())
    pixels = views()
    before = model(pixels)
    updates = tune(model, "full", rank=2)
    assert updates is not None
    torch.testing.assert_close(model(pixels), before)  # the updates start at zero
    factors = {name for name in trainable(model) if "lora_" in name}
    assert len(factors) == 2 * 6 * 2  # layers x matrices x factors
    assert all(name.startswith("adapters.") for name in trainable(model) - factors)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    changed = model(pixels)
    assert (changed.logits - before.logits).abs().max() > 1e-3
    updates.merge_and_unload(progressbar=False)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model(pixels), changed, atol=1e-5, rtol=1e-5)


def test_lora_keeps_the_chosen_scope() -> None:
    model = tiny()
    tune(model, "last-1")
    chosen = trainable(model)
    add_lora(model, 2)
    plain = {name.replace(".base_layer", "") for name in trainable(model) if "lora_" not in name}
    assert plain == chosen


def test_weight_decay_is_for_matrices() -> None:
    model = tiny()
    kept = {name for name, parameter in model.named_parameters() if decayed(name, parameter)}
    assert "vivit.layers.0.mlp.fc1.weight" in kept and "adapters.0.down.weight" in kept
    assert not any(name.endswith(("bias", "norm.weight", "cls_token", "position_embeddings")) for name in kept)
    assert not any("layernorm" in name for name in kept)
