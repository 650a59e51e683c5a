"""Backend `torch2trt`: implicit INT8 on TensorRT 8 and 10 through torch2trt, for those who deploy with it.

INT8 is implicit here: a layer is asked to run in INT8 and every tensor that it touches has a range, as it
was done before graphs carried QuantizeLinear nodes. TensorRT quantizes the weights itself. It may lose a
precision where it fuses a layer with its neighbour, so the audit is read before any number is believed.
"""

from qsens.backends.tensorrt_compiling import check_flavour, three_batches
from qsens.backends.torch2trt_build import Torch2TrtOptions, build_converted_plan
from qsens.core.errors import BuildError, PluginError
from qsens.device.cuda_memory import Cuda
from qsens.device.errors import DeviceError
from qsens.device.tensorrt_build import WORKSPACE_MIB
from qsens.device.tensorrt_plan import pack_plan
from qsens.device.tensorrt_runtime import TensorRtRuntime, origin_here
from qsens.engines.lowering.lowered_graph import LoweredGraph
from qsens.engines.tensorrt import TensorRtEngine
from qsens.engines.torch2trt.libraries import load_libraries, problem

__all__ = ["Torch2TrtBackend", "problem"]


class Torch2TrtBackend:
    """Builds engines of implicit INT8 on TensorRT 8.5 to 10 from graphs of flavour `weak`.

    `max_batch` is the largest batch of a graph whose batch is free. `optimisation_level` is 0 to 5. `tf32`
    lets FP32 layers round their operands to TF32, which TensorRT's own default does. `must_obey`: a layer
    that cannot keep its precision fails the build.

    Raises:
        PluginError: where TensorRT or torch2trt is missing, TensorRT is 11 or later, or there is no GPU.
    """

    name = "torch2trt"
    flavour = "weak"

    def __init__(
        self,
        *,
        max_batch: int = 16,
        workspace_mib: int = WORKSPACE_MIB,
        optimisation_level: int | None = None,
        tf32: bool = False,
        must_obey: bool = True,
    ) -> None:
        self._libraries = load_libraries()
        try:
            self._cuda = Cuda()
            self._origin = origin_here(self._libraries.trt, self._cuda)
        except DeviceError as error:
            raise PluginError(error.message, error.hint) from error
        self.options = Torch2TrtOptions(
            batches=three_batches(max_batch),
            workspace_mib=workspace_mib,
            optimisation_level=optimisation_level,
            allows_tf32=tf32,
            must_obey=must_obey,
        )

    def build(self, lowered: LoweredGraph) -> TensorRtEngine:
        check_flavour(self.name, self.flavour, lowered)
        built = build_converted_plan(lowered, self._libraries, self.options)
        plan = pack_plan(built, self._origin)
        try:
            runtime = TensorRtRuntime(plan, trt=self._libraries.trt, cuda=self._cuda)
            return TensorRtEngine(runtime, plan, lowered)
        except DeviceError as error:
            raise BuildError(error.message, error.hint) from error
