"""A metric around another one, which scores other pictures or features by it."""

from qsens.core.interfaces import Metric


class MetricAround(Metric):
    """Says of itself what the metric inside says; what it scores is for its kinds to say."""

    def __init__(self, metric: Metric) -> None:
        self.name = metric.name
        self.lower_is_better = metric.lower_is_better
        self.needs_features = metric.needs_features
        self.needs_reference = metric.needs_reference
        self.needs_annotations = metric.needs_annotations
        self.is_slow = metric.is_slow
        self._metric = metric
