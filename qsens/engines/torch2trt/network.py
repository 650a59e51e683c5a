"""Populates a TensorRT network by tracing a graph's torch module through torch2trt's conversion context."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qsens.core.errors import BuildError
from qsens.engines.torch2trt.libraries import Libraries, main_layer, register_converters
from qsens.engines.torch2trt.onnx_module import NodeModule, OnnxModule
from qsens.engines.torch2trt.shape_operators import OTHER_BACKEND, NodeView
from qsens.graph.graph import Graph
from qsens.graph.onnx_run import open_session, relative_difference, run

# Float32 in another order of summation stays below 1e-5; a node read wrongly is of order one.
LARGEST_DIFFERENCE = 1e-4
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class ConvertedNetwork:
    """A populated network. `layers` by ONNX node, in the order in which they were added; `tensors` by name.

    torch2trt names a layer `<module path>:<number>:<type>:<device>`, and the module path of an ONNX layer
    is its qualified name. `module` holds the weights that the network only points to: it must outlive
    the build.
    """

    network: Any
    layers: Mapping[str, tuple[Any, ...]]
    tensors: Mapping[str, Any]
    module: OnnxModule


def populate_network(graph: Graph, libraries: Libraries, network: Any, config: Any) -> ConvertedNetwork:
    """Trace the graph for one sample, with a free batch axis where the graph has one.

    What torch computed on the way is compared with ONNX Runtime, so that a node that is read wrongly is
    found here.

    Raises:
        BuildError: naming the node that cannot be converted, or the output that differs.
    """
    for spec in graph.inputs:
        if spec.dtype != "float32":
            raise BuildError(
                f"input {spec.name!r} is {spec.dtype}: torch2trt converts float32", OTHER_BACKEND
            )
    module = OnnxModule(graph).eval()
    register_converters(libraries)
    feeds = dict(graph.example)
    with _Recorder(module, network) as recorder, torch.no_grad():
        outputs = _trace(graph, libraries, recorder, feeds, config)
    _check_outputs(graph, feeds, outputs)
    for name in graph.outputs:
        network.mark_output(recorder.tensors[name])
    _mark_layers(recorder, libraries)
    return ConvertedNetwork(network, recorder.layers, recorder.tensors, module)


def _trace(
    graph: Graph, libraries: Libraries, recorder: "_Recorder", feeds: Mapping[str, Array], config: Any
) -> tuple[torch.Tensor, ...]:
    trt = libraries.trt
    options = {
        "module": recorder.module,
        "device_types": {},
        "default_device_type": trt.DeviceType.GPU,
        "gpu_fallback": True,
        # Precisions are set afterwards, layer by layer.
        "int8_mode": False,
        "fp16_mode": False,
    }
    inputs = [torch.from_numpy(feeds[spec.name]) for spec in graph.inputs]
    context = libraries.torch2trt.ConversionContext(
        recorder.network, torch2trt_kwargs=options, builder_config=config
    )
    with context:
        # torch2trt's own add_inputs would put the inputs where torch has them: on the host.
        for spec, value in zip(graph.inputs, inputs, strict=True):
            free = spec.is_batched and graph.can_batch
            shape = (-1 if free else feeds[spec.name].shape[0], *feeds[spec.name].shape[1:])
            value._trt = recorder.network.add_input(spec.name, trt.DataType.FLOAT, shape)
            recorder.tensors[spec.name] = value._trt
        try:
            outputs: tuple[torch.Tensor, ...] = recorder.module(*inputs)
        except BuildError:
            raise
        except Exception as error:  # a converter may fail in any way
            raise recorder.failure(error) from error
    return outputs


class _Recorder:
    """Hears which node is being converted, and keeps what it added to the network."""

    def __init__(self, module: OnnxModule, network: Any) -> None:
        self.module = module
        self.network = network
        self.layers: dict[str, tuple[Any, ...]] = {}
        self.tensors: dict[str, Any] = {}
        self._current: NodeView | None = None
        self._seen = network.num_layers
        self._handles: list[Any] = []

    def __enter__(self) -> "_Recorder":
        for node in self.module.node_modules():
            self._handles.append(node.register_forward_pre_hook(self._begin))
            self._handles.append(node.register_forward_hook(self._end))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _begin(self, node: NodeModule, _: object) -> None:
        self._current = node.view

    def _end(self, node: NodeModule, _: object, outputs: tuple[torch.Tensor, ...]) -> None:
        view = node.view
        assert view is not None, "only nodes are called"
        for name, output in zip(view.outputs, outputs, strict=False):
            tensor = getattr(output, "_trt", None)
            if tensor is None:
                raise view.refusal("torch2trt has no converter and would take its output for a constant")
            tensor.name = name
            self.tensors[name] = tensor
        added = range(self._seen, self.network.num_layers)
        self.layers[view.name] = tuple(self.network.get_layer(place) for place in added)
        self._seen = self.network.num_layers

    def failure(self, error: Exception) -> BuildError:
        """The build error behind a converter's error: TensorRT gives `None` for a layer that it refuses."""
        if self._current is None:
            return BuildError(f"torch2trt failed: {type(error).__name__}: {error}", OTHER_BACKEND)
        return self._current.refusal(f"{type(error).__name__}: {error}")


def _check_outputs(graph: Graph, feeds: Mapping[str, Array], outputs: Sequence[torch.Tensor]) -> None:
    expected = run(open_session(graph.model), feeds)
    for name, before, after in zip(graph.outputs, expected, outputs, strict=True):
        difference = relative_difference(before, after.numpy())
        if not difference <= LARGEST_DIFFERENCE:
            raise BuildError(
                f"as a torch module, output {name!r} differs from ONNX Runtime by {difference:.1e} "
                f"(limit {LARGEST_DIFFERENCE:.0e})",
                "a node is read wrongly, which is a bug in qsens: report it with the file; "
                f"meanwhile {OTHER_BACKEND}",
            )


def _mark_layers(recorder: _Recorder, libraries: Libraries) -> None:
    """Let the engine's own account lead back to ONNX nodes, the way NVIDIA's parser does it.

    Before TensorRT 8.6 a layer carries no note: there the last one of a node takes its name.
    """
    for node, layers in recorder.layers.items():
        if libraries.has_layer_metadata:
            for layer in layers:
                layer.metadata = f"[ONNX Layer: {node}]"
        elif layers:
            main_layer(layers).name = node
