"""What cannot be reproduced without data, weights or devices that are not here, and how to with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """One thing that stays out of reach: why, and the command for someone who has what is missing.

    `command` is empty where none would do.
    """

    what: str
    why: str
    command: str = ""


LIMITS = (
    Limit(
        "The values of Table 2, and of FID and LSE in Table 1",
        "They are measured on LRS3, with a teacher trained on it. LRS3's official download is reported "
        "discontinued, LRS2 needs an agreement with the BBC. With videos of either:",
        "qsens zoo prepare LRS3/trainval/*/*.mp4 --whole-frame --out lrs3/train\n"
        "qsens zoo prepare LRS3/test/*/*.mp4 --whole-frame --out lrs3/test\n"
        "qsens zoo train expert --data lrs3/train --validation lrs3/test --out expert\n"
        "qsens zoo train teacher --data lrs3/train --validation lrs3/test "
        "--expert expert/expert.safetensors --out teacher\n"
        "qsens distill student-bare-kd-start --teacher teacher/generator.safetensors "
        "--expert expert/expert.safetensors --data lrs3/train --validation lrs3/test --out student\n"
        "qsens zoo paper student/generator.safetensors --teacher teacher/generator.safetensors "
        "--calibration lrs2/pretrain --evaluation lrs3/test --evaluation-samples 10000 "
        "--inception-weights pt_inception-2015-12-05-6726825d.pth",
    ),
    Limit(
        "FID as such",
        "Without Inception's weights distances are measured on another network's features and carry its "
        "name, as in FID[lite0]. With the weights of pytorch-fid:",
        "qsens zoo paper --inception-weights pt_inception-2015-12-05-6726825d.pth",
    ),
    Limit(
        "LSE-D and LSE-C",
        "They need the weights of the evaluation SyncNet and runs of at least 25 consecutive frames; the "
        "shipped evaluation set has clips of 10. On longer clips:",
        "qsens zoo corpus --frames 1000 --frames-per-clip 50 --seed 9003 --out held-out\n"
        "qsens zoo score --data held-out --download\n"
        "qsens zoo paper --evaluation held-out --evaluation-samples 1000 --out reports/paper-lse",
    ),
    Limit(
        "The calibration set",
        "The paper calibrates on 10,000 frames of LRS2's pre-training part; how they are chosen is not "
        "stated. With that part prepared as above:",
        "qsens zoo paper --calibration lrs2/pretrain --calibration-samples 10000",
    ),
    Limit(
        "Latency on Jetson (its Table 4 and Figure 5: 8x to 17x in FP16, 19x mixed on Xavier NX)",
        "It needs the devices and their TensorRT. The tables here hold quality and size only.",
    ),
    Limit(
        "Other talking-face generators in Figure 1",
        "Which ones the paper shows, and their counts, could not be read; shown are those that qsens builds.",
    ),
    Limit(
        "Cut Inner Layers (Table 3)",
        "Its widths are not published where we could read them: the variant here has its size, not its "
        "weights, and no published quality.",
    ),
    Limit(
        "The training lengths behind Table 2",
        "Learning rate, batch, epochs and the step at which the sync loss begins in the middle are not "
        "stated; the shipped specs choose their own and say so.",
    ),
)
