"""A request to `qsens zoo paper`, checked, and the sweeps that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qsens.core.errors import SpecError, name_hint
from qsens.core.spec import merge_values
from qsens.scoring.feature_session import user_cache_folder
from qsens.zoo.paper.ablation import TRAININGS
from qsens.zoo.paper.runs import STUDENT_MAPS, TEACHER_MAPS, UNIFORM_MAPS, RunPlan
from qsens.zoo.talker.demo import METRICS, TalkerDemo
from qsens.zoo.wav2lip.opening import TALKER, open_wav2lip, options_for
from qsens.zoo.wav2lip.variants import variant_named

PARTS = ("figure1", "table1", "table2", "figure3", "figure4", "table4")
# What is drawn without any sweep: from shapes alone, and from latency files.
WITHOUT_SWEEPS = frozenset({"figure1", "table4"})
NEEDS_STUDENT = frozenset({"table1", "figure3", "figure4"})
# The paper fixes these; other choices would be another experiment.
_FIXED = ("model", "model_options", "strategy", "layer_order", "pinned", "output")
# What the demo decides for itself, beside its generator and its sets.
_OF_THE_DEMO = frozenset({"strategy", "strategy_options", "layer_order", "budget", "placement", "target"})


@dataclass(frozen=True)
class PaperRequest:
    """Parts to make, and their sources. `values` are spec values for every sweep, the user's among them.

    `student` is `None` for the talker that qsens ships; `checkpoints` holds weights by row of Table 2;
    `latency` are files of `qsens bench --latency-json`, without which Table 4 is left out.
    """

    out: Path
    parts: tuple[str, ...]
    values: Mapping[str, Any]
    student: Path | None
    teacher: Path | None
    checkpoints: Mapping[str, Path]
    trust_checkpoint: bool
    command: str
    latency: tuple[Path, ...] = ()

    @property
    def has_student(self) -> bool:
        """Whether there are weights of a student: a checkpoint, or the shipped talker."""
        return self.student is not None or TALKER.exists()

    @property
    def wants_student(self) -> bool:
        """Whether the student has to be swept; where it must be there, opening it says what is missing."""
        return bool(NEEDS_STUDENT & set(self.parts)) or ("table2" in self.parts and self.has_student)

    def check_weights(self) -> None:
        """Open every checkpoint before the first sweep, which takes minutes.

        Raises:
            LoadError: for a file that cannot be read or holds something else.
            SpecError: for one of another architecture than its row of Table 2.
        """
        if set(self.parts) <= WITHOUT_SWEEPS:
            return
        if self.wants_student:
            open_wav2lip(self.student, trust_checkpoint=self.trust_checkpoint)
        if self.teacher is not None:
            open_wav2lip(self.teacher, trust_checkpoint=self.trust_checkpoint)
        for training in TRAININGS:
            path = self.checkpoints.get(training.name)
            if path is None:
                continue
            found = open_wav2lip(path, trust_checkpoint=self.trust_checkpoint).architecture
            if found != variant_named(training.variant):
                raise SpecError(
                    f"{path.name}, named for the row {training.name!r}, is not a {training.variant!r}",
                    f"it opens with {options_for(found)}",
                )

    def student_plan(self) -> RunPlan:
        """Every boundary, in both directions."""
        return self._plan("student", self.student, STUDENT_MAPS)

    def teacher_plan(self) -> RunPlan | None:
        """Both readings of the paper's mixed precision, among the ends of the network."""
        teacher = self.teacher or self.checkpoints.get("teacher")
        return None if teacher is None else self._plan("teacher", teacher, TEACHER_MAPS)

    def checkpoint_plans(self) -> dict[str, RunPlan]:
        """The uniform maps of the other rows of Table 2."""
        others = {name: path for name, path in self.checkpoints.items() if name != "teacher"}
        return {name: self._plan(name, path, UNIFORM_MAPS) for name, path in others.items()}

    def _plan(self, name: str, checkpoint: Path | None, maps: Mapping[str, Any]) -> RunPlan:
        values = merge_values(maps, self.values)
        if maps is not STUDENT_MAPS:
            values["strategy_options"] = maps["strategy_options"]
        if checkpoint is not None:
            values["checkpoint"] = str(checkpoint)
        return RunPlan(values, self.out / f"sweep-{name}", self.trust_checkpoint)


def parts_from_text(text: str | None) -> tuple[str, ...]:
    """Parts of a list such as `figure1,table2`, in the page's order; all of them for `None`.

    Raises:
        SpecError: naming the part that there is not.
    """
    if text is None:
        return PARTS
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    for part in wanted:
        if part not in PARTS:
            hint = f"{name_hint(part, PARTS, '')} there are {', '.join(PARTS)}".lstrip()
            raise SpecError(f"the paper has no part {part!r} here", hint)
    if not wanted:
        raise SpecError("--only names no part", f"there are {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in wanted)


def values_for_sweeps(given: Mapping[str, Any]) -> dict[str, Any]:
    """Spec values of all sweeps: those of the demo, the user's `given` ones laid over them.

    Sets that the user does not name are the demo's. The real frames of the evaluation set are the
    reference, unless another is named.

    Raises:
        SpecError: for a value that the paper fixes.
        DataError, RunFolderError: if the demo's sets are needed and cannot be made.
    """
    for key in _FIXED:
        if key in given:
            raise SpecError(
                f"{key.replace('_', '-')} is {given[key]!r}, but the paper's tables fix it",
                "leave it out here; `qsens sweep` takes it",
            )
    if given.get("calibration") and given.get("evaluation"):
        base: dict[str, Any] = {"model": "wav2lip", "metrics": list(METRICS)}
    else:
        demo = TalkerDemo().spec_values(user_cache_folder() / "demo")
        base = {key: value for key, value in demo.items() if key not in _OF_THE_DEMO}
    if given.get("evaluation") and Path(given["evaluation"]).is_dir():
        base["reference"] = given["evaluation"]
    return {"placement": "dense", **merge_values(base, given), "metrics_are_chosen": "metrics" in given}
