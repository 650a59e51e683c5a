"""Why layers of a chosen map are not in INT8, as a few lines for the terminal."""

from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.selection.choose import Selection
from qsens.selection.reason_groups import fold_reasons
from qsens.selection.reasons import reasons_of_selection


def reason_lines(study: Study, selection: Selection) -> list[str]:
    """A heading and a line for each group of layers that share a reason; none where all are in INT8."""
    wide = {
        name: reason
        for name, reason in reasons_of_selection(study, selection).items()
        if selection.precision_map[name] is not Precision.INT8
    }
    groups = fold_reasons(study.layers, wide)
    lines = [f"- {group.names}: {group.text}" for group in groups]
    return ["", "Why these are not in INT8:", *lines] if lines else []
