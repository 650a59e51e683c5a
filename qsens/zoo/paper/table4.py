"""Table 4 and Figure 5: latency of the precisions on devices, from files of `qsens bench --latency-json`."""

from collections.abc import Iterator, Sequence

from qsens.report.figures.devices import DeviceGroup, DeviceRow
from qsens.zoo.paper.cells import NOTHING, Cell, Column, PaperTable, Row
from qsens.zoo.paper.published import published

_CAPTION = (
    "Median of repeated runs in turn, ± half the 95% interval of the median; speed-up over FP32 on the same "
    "device. The paper measured on NVIDIA Jetson boards with TensorRT: what is known of its speed-ups stands "
    "beside ours, and is no expectation for another device."
)
_NOTE = (
    "The paper's milliseconds are not known to us. To fill a row, run "
    "`qsens bench RUN --latency-json FILE` on the device, and add `--latency FILE`."
)
_MISMATCH = "Some engines run layers in another precision than they should: see the column of mismatches."


def table4(groups: Sequence[DeviceGroup]) -> PaperTable:
    """One row a map and device."""
    columns = (
        Column("ms", "ms"),
        Column("images", "images/s"),
        Column("speed-up", "speed-up", is_published=True),
        Column("mismatches", "mismatches"),
    )
    rows = tuple(
        Row((group.place, group.generator, str(group.batch), row.label), tuple(_cells(group.generator, row)))
        for group in groups
        for row in group.rows
    )
    has_mismatches = any(row.mismatches for group in groups for row in group.rows)
    return PaperTable(
        name="table4",
        title="Table 4. Latency on devices",
        label_titles=("device", "generator", "batch", "map"),
        columns=columns,
        rows=rows,
        caption=_CAPTION,
        notes=(_NOTE, *_against_teacher(), *((_MISMATCH,) if has_mismatches else ())),
    )


def _against_teacher() -> Iterator[str]:
    """Published speed-ups whose baseline is not the same generator in FP32."""
    known = [(name, published(f"student/{name}", "speed-up")) for name in ("FP16", "MIX")]
    texts = [f"{entry.text} in {name} ({entry.note})" for name, entry in known if entry is not None]
    if texts:
        yield (
            f"Published of the student besides: {', '.join(texts)}; over what is not stated beside them, "
            "so none of ours stands there."
        )


def _cells(generator: str, row: DeviceRow) -> Iterator[Cell]:
    yield Cell(f"{row.ms:.4g} ± {row.half_width_ms:.2g}", row.ms, row.half_width_ms)
    yield Cell(f"{row.images_per_s:.1f}", row.images_per_s)
    subject = "teacher" if "teacher" in generator else "student"
    text = NOTHING if row.speed_up is None else f"{row.speed_up:.2f}x"
    yield Cell(text, row.speed_up, published=published(f"{subject}/{row.label}", "device-speed-up"))
    yield Cell(str(row.mismatches), row.mismatches)
