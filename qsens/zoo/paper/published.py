"""Values that the paper publishes, each with its source; what could not be found is absent, never guessed."""

from dataclasses import dataclass

PAPER = "Kim et al. 2023, arXiv 2304.00471"
DEMO_TEXT = "Nota-NetsPresso/nota-wav2lip, docs/description.md at 4fbd975"
UNKNOWN = "not known to us"
_UNCLEAR = (
    "94.6 and 23.1 are the two students trained with the sync loss from the start; which is which could not "
    "be read"
)
_ON_JETSON = "over FP32 on the same Jetson board, with TensorRT"
_DISTILLED = "distilled; the schedule of its sync loss is not stated beside the value"
_SCHEDULE = "trained without distillation; its sync schedule is not stated beside the value"


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


@dataclass(frozen=True)
class Published:
    """One published value. `text` is as printed, `value` the number in it (MACs and parameters in full).

    `subject` is a generator, `subject/map` for one of its precisions, or a row of the ablation; `note` is
    what a reader must know to read it.
    """

    subject: str
    quantity: str
    text: str
    value: float | None
    source: str
    note: str = ""


def _sizes(
    subject: str, table: str, parameters: tuple[str, float], macs: tuple[str, float]
) -> tuple[Published, ...]:
    source = f"{PAPER}, {table}"
    return (
        Published(subject, "parameters", *parameters, source),
        Published(subject, "macs", *macs, source, "counted as torchprofile does"),
    )


VALUES: tuple[Published, ...] = (
    *_sizes("teacher", "Table 2", ("36.3M", 36.3e6), ("6.21G", 6.21e9)),
    *_sizes("student-residual", "Table 2", ("2.3M (15.9x)", 2.3e6), ("0.40G (15.6x)", 0.40e9)),
    *_sizes("student", "Table 2", ("1.3M (28.9x)", 1.3e6), ("0.22G (28.8x)", 0.22e9)),
    *_sizes("cut-inner", "Table 3", ("1.9M", 1.9e6), ("0.70G", 0.70e9)),
    Published("teacher", "fid", "3.70", 3.70, PAPER),
    Published("teacher", "lse-d", "6.48", 6.48, PAPER),
    Published("teacher", "lse-c", "7.78", 7.78, PAPER),
    Published("student", "lse-d", "6.35", 6.35, PAPER, _DISTILLED),
    Published("student", "lse-c", "8.04", 8.04, PAPER, _DISTILLED),
    Published("student", "fid", "5.30", 5.30, PAPER, "FP32, where its mixed precision is compared with it"),
    Published("student/MIX", "fid", "5.06", 5.06, PAPER, "better than FP32: noise that FID rewards"),
    Published("ablation/student", "fid", "4.17", 4.17, PAPER, _SCHEDULE),
    Published("ablation/student", "lse-d", "11.4", 11.4, PAPER, _SCHEDULE),
    Published("ablation/student-residual", "fid", "5.19", 5.19, PAPER, _SCHEDULE),
    Published("ablation/sync-from-start", "fid", "94.6 / 23.1", None, PAPER, _UNCLEAR),
    Published("teacher/INT8", "device-speed-up", "3.9x to 5.2x", None, f"{PAPER}, Table 4", _ON_JETSON),
    Published("student/INT8", "device-speed-up", "1.8x to 2.3x", None, f"{PAPER}, Table 4", _ON_JETSON),
    Published("student/FP16", "speed-up", "8x to 17x", None, DEMO_TEXT, "on Jetson edge GPUs"),
    Published("student/MIX", "speed-up", "19x", 19.0, DEMO_TEXT, "on Jetson Xavier NX"),
)


def published(subject: str, quantity: str) -> Published | None:
    """The published value, `None` where none is known."""
    return next((entry for entry in VALUES if (entry.subject, entry.quantity) == (subject, quantity)), None)
