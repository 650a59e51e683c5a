"""What is said of a map that its target cannot run as it was scored."""

import pytest

from qsens.core.errors import BuildError
from qsens.core.targets import target_named
from qsens.deploy.changed_map import ChangedMap
from qsens.run.target import MOST_SHOWN


@pytest.mark.parametrize(
    ("count", "more"), [(1, None), (MOST_SHOWN, None), (100, f"and {100 - MOST_SHOWN} more")]
)
@pytest.mark.parametrize("is_allowed", [True, False])
def test_of_many_layers_the_first_ones_are_named_and_the_others_counted(count, more, is_allowed):
    lines = tuple(f"  layer{place} (node): no kernel" for place in range(count))
    change = ChangedMap(2, target_named("onnxruntime").target, lines, 1.0, 0.5, "")
    heard = []
    if is_allowed:
        change.say_first(heard.append, is_allowed=True)
        text = "\n".join(heard)
    else:
        with pytest.raises(BuildError) as refused:
            change.say_first(heard.append, is_allowed=False)
        text = refused.value.message
    assert [line for line in lines if line in text] == list(lines[:MOST_SHOWN])
    assert f"{count} layer" in text
    assert (" more" in text) == (more is not None)
    assert more is None or more in text
