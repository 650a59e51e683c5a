"""What a bundle can be for: the runtime, and the flavour of the graph that it takes."""

from dataclasses import dataclass

from qsens.engines.lowering.lowered_graph import Flavour


@dataclass(frozen=True)
class Target:
    """A deployment target.

    `psnr_cap_db`: an engine whose pictures are this close to the goldens is right, however close the exact
    arithmetic comes. On CPUs float layers are FP32 and the cap is strict; a GPU may add up FP16 layers in
    FP16, which costs up to some 10 dB of their 60 to 70 dB and stays below one grey level (48 dB).
    `fuses_clips`: clips before quantizers do not keep layers out of INT8 kernels.
    """

    name: str
    runtime: str
    title: str
    flavour: str
    psnr_cap_db: float
    fuses_clips: bool = True


TARGETS = {
    target.name: target
    for target in (
        Target("tensorrt", "tensorrt", "TensorRT 10 or 11", Flavour.STRONG, 50.0),
        Target("tensorrt-legacy", "tensorrt", "TensorRT 8.5 to 10", Flavour.WEAK, 50.0),
        Target("openvino", "openvino", "OpenVINO", Flavour.U8, 60.0),
        Target("onnxruntime", "onnxruntime", "ONNX Runtime", Flavour.U8, 60.0, fuses_clips=False),
    )
}
