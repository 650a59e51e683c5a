"""Values that the paper publishes, each with its source; what could not be found is absent, never guessed."""

from dataclasses import dataclass

PAPER = "Kim et al. 2023, arXiv 2304.00471"
DEMO_TEXT = "Nota-NetsPresso/nota-wav2lip, docs/description.md at 4fbd975"
UNKNOWN = "not known to us"


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


_UNCLEAR = (
    "94.6 and 23.1 are the two students trained with the sync loss from the start; which is which could not "
    "be read"
)
_ON_JETSON = "over FP32 on the same Jetson board, with TensorRT"
_DISTILLED = "distilled; the schedule of its sync loss is not stated beside the value"
_SCHEDULE = "trained without distillation; its sync schedule is not stated beside the value"

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
