"""Views in, logits out: by hand, in every batch, and with model directories that are broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scan_kit import SMALL_VIEW, toy_spec, write_toy_model

from grainscan.errors import ConfigError, ModelError, UsageError
from grainscan.scan import engine as engine_module
from grainscan.scan.engine import OnnxEngine, load_engine
from grainscan.scan.scanner import Scanner
from grainscan.workers import processors


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_toy_model(tmp_path / "model")


def native(count: int) -> np.ndarray[Any, Any]:
    return np.zeros(count, np.int64)


def views(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.random((count, SMALL_VIEW.frames, 3, SMALL_VIEW.size, SMALL_VIEW.size), np.float32)


def test_outputs_are_what_the_graph_says(model: Path) -> None:
    batch = np.zeros_like(views(2))
    batch[1] = 0.5
    outputs = OnnxEngine(model)(batch, native(len(batch)))
    np.testing.assert_allclose(outputs.logits, [[-4, 1], [0, -1]], atol=1e-5)
    np.testing.assert_allclose(outputs.strength, [[0, 0], [1, 0]], atol=1e-5)
    assert outputs.logits.dtype == outputs.strength.dtype == np.float32
    assert len(outputs.logits) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_a_view_gets_the_same_answer_in_every_batch(model: Path, threads: int) -> None:
    batch = views(7)
    engine = OnnxEngine(model, threads=threads)
    whole = engine(batch, native(len(batch)))
    single = [engine(batch[i : i + 1], native(1)).logits[0] for i in range(7)]
    np.testing.assert_allclose(whole.logits, single, atol=1e-6)


def test_lanes_and_threads_share_the_processors(model: Path) -> None:
    assert OnnxEngine(model).lanes == processors()
    assert OnnxEngine(model, threads=processors() + 1).lanes == 1


def test_views_in_shared_memory_need_no_copy(model: Path) -> None:
    import mmap

    batch = views(3)
    memory = mmap.mmap(-1, batch.nbytes)
    shared = np.frombuffer(memory, np.float32).reshape(batch.shape)
    shared[...] = batch
    np.testing.assert_array_equal(
        OnnxEngine(model)(shared, native(3)).logits, OnnxEngine(model)(batch, native(len(batch))).logits
    )


def test_auto_is_onnx_without_a_gpu_and_never_imports_torch(model: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from grainscan.scan.engine import load_engine;"
        f"engine = load_engine(Path({str(model)!r}));"
        "print(type(engine).__name__, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["OnnxEngine", "False", "False"]


def test_a_hidden_gpu_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module.Path, "exists", lambda _: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert engine_module._may_have_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not engine_module._may_have_cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not engine_module._may_have_cuda()


def test_no_device_file_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(engine_module.Path, "exists", lambda _: False)
    assert not engine_module._may_have_cuda()


def test_cuda_without_a_gpu_is_a_usage_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = types.ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", torch)
    with pytest.raises(UsageError, match="no GPU"):
        load_engine(model, "cuda")
    monkeypatch.setattr(engine_module, "_may_have_cuda", lambda: True)
    assert isinstance(load_engine(model), OnnxEngine)


def test_an_engine_is_a_line_in_the_table(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class New(OnnxEngine):
        pass

    monkeypatch.setattr(engine_module, "_may_have_cuda", lambda: False)
    monkeypatch.setattr(engine_module, "ENGINES", {"new": New, **engine_module.ENGINES})
    assert type(load_engine(model)) is New and type(load_engine(model, "new")) is New
    assert type(load_engine(model, "cpu")) is OnnxEngine


def test_a_device_without_an_engine_is_a_configuration_error(model: Path) -> None:
    with pytest.raises(ConfigError, match="device is 'abacus'") as caught:
        Scanner(model, device="abacus")
    assert caught.value.hint == "Use one of: auto, cuda, cpu."


def test_the_names_of_engines_load_no_numpy() -> None:
    program = "import sys; from grainscan.scan.engine import ENGINES; print(*ENGINES, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cuda", "cpu", "False"]


def test_cpu_is_taken_at_its_word(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_may_have_cuda", lambda: pytest.fail("asked for a GPU"))
    assert isinstance(load_engine(model, "cpu"), OnnxEngine)


def test_missing_and_damaged_files_are_model_errors(model: Path, tmp_path: Path) -> None:
    onnx_file = model / "model.onnx"
    whole = onnx_file.read_bytes()
    for content in (b"", b"not a model", whole[: len(whole) // 2]):
        onnx_file.write_bytes(content)
        with pytest.raises(ModelError, match=r"model\.onnx"):
            OnnxEngine(model)
    onnx_file.unlink()
    with pytest.raises(ModelError, match="no such file"):
        OnnxEngine(model)
    with pytest.raises(ModelError, match="cannot be read"):
        OnnxEngine(tmp_path / "nowhere")


def test_a_graph_of_other_views_is_refused(model: Path) -> None:
    spec = toy_spec(view=SMALL_VIEW.__class__(frames=8, size=64)).to_dict()
    (model / "config.json").write_text(json.dumps({"grainscan": spec}))
    with pytest.raises(ModelError, match=r"but config\.json says"):
        OnnxEngine(model)


def test_a_graph_with_fewer_outputs_than_tasks_is_refused(model: Path) -> None:
    spec = toy_spec(tasks=("graininess", "banding", "aliasing")).to_dict()
    (model / "config.json").write_text(json.dumps({"grainscan": spec}))
    with pytest.raises(ModelError, match=r"returns logits of \[2\], but config\.json names 3 tasks"):
        OnnxEngine(model)


def test_a_graph_with_other_names_is_refused(model: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixels"], ["scores"])],
        "other",
        [value("pixels", TensorProto.FLOAT, ["n", 4])],
        [value("scores", TensorProto.FLOAT, ["n", 4])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(model / "model.onnx")
    )
    with pytest.raises(ModelError, match="pixels"):
        OnnxEngine(model)


def test_weights_outside_the_model_directory_are_refused(model: Path, tmp_path: Path) -> None:
    """ONNX can keep weights in other files; a model must not read files that are none of its own."""
    (tmp_path / "secret").write_bytes(np.array([[8.0, -4.0]], np.float32).tobytes())
    proto = onnx.load(str(model / "model.onnx"))
    slope = next(tensor for tensor in proto.graph.initializer if tensor.name == "slope")
    slope.ClearField("raw_data")
    slope.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "../secret", "offset": "0", "length": "8"}.items():
        entry = slope.external_data.add()
        entry.key, entry.value = key, value
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        OnnxEngine(model)


def test_a_graph_cannot_name_code_of_its_own(model: Path) -> None:
    proto = onnx.load(str(model / "model.onnx"))
    proto.graph.node[2].domain, proto.graph.node[2].op_type = "evil", "RunThis"
    proto.opset_import.append(helper.make_opsetid("evil", 1))
    (model / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        OnnxEngine(model)
