"""Sentences about an opened sweep: what people should know before it takes its time."""

from qsens.calibration.batches import batching_note
from qsens.graph.topology import outputs_of_tanh
from qsens.run.limits import limit_texts
from qsens.run.loop import too_few_maps_warning
from qsens.run.open import OpenedSweep
from qsens.scoring.fid import sample_size_warning
from qsens.scoring.pictures import range_warnings
from qsens.scoring.sheets import several_outputs_note


def sample_warnings(opened: OpenedSweep) -> list[str]:
    """Sentences about samples, or maps, that are too few for what is measured on them."""
    planned = opened.planned
    found = [too_few_maps_warning(opened.graph.layers, opened.strategy.name, planned)]
    total, few = len(opened.evaluation), opened.spec.screen_samples
    if opened.extractor is not None:
        found += [sample_size_warning(total, part) for part in opened.extractor.each]
    if total <= few and planned is not None and planned.screens:
        found.append(f"screens of {few} samples would be no smaller than the {total} there are: none is made")
    return [line for line in found if line is not None]


def opening_warnings(opened: OpenedSweep) -> list[str]:
    """Sentences about the range of the pictures, and about too few samples."""
    graph = opened.graph
    ranges = range_warnings(graph.example_outputs, opened.spec.output, outputs_of_tanh(graph.model))
    return [*ranges, *sample_warnings(opened)]


def opening_notes(opened: OpenedSweep) -> list[str]:
    """Lines for people about what was opened: the generator's own notice, and warnings."""
    batching = batching_note(opened.evaluation, opened.graph, opened.spec.batch_size)
    generator = opened.generator
    several = several_outputs_note(opened.spec.output, opened.metrics)
    said = (generator.weights_read, generator.notice, *opened.graph.notes, several, batching)
    notes = [f"Note: {line}" for line in said if line]
    notes += [f"Limit: {line}" for line in limit_texts(opened.spec.budget, opened.metrics)]
    return [*notes, *(f"Warning: {line}" for line in opening_warnings(opened))]
