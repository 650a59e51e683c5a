"""The talker that qsens ships keeps what its acceptance asked for, on speakers it never saw."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")

from qsens.core.interfaces import InputSpec  # noqa: E402  after the checks that torch is here
from qsens.zoo.clips.clip_set import FACE_SHAPE, MEL_SHAPE, open_clips  # noqa: E402
from qsens.zoo.metrics.scoring import score_talker, talker_of  # noqa: E402
from qsens.zoo.talker import demo  # noqa: E402
from qsens.zoo.wav2lip.opening import open_wav2lip  # noqa: E402

INPUTS = (
    InputSpec("mel", MEL_SHAPE, "float32", is_batched=True),
    InputSpec("face", FACE_SHAPE, "float32", is_batched=True),
)
WEIGHTS = Path(demo.__file__).with_name("talker.safetensors")


def test_the_weights_are_half_precision_and_small():
    with safetensors.safe_open(str(WEIGHTS), "pt") as file:
        kinds = {file.get_tensor(name).dtype for name in file.keys() if not name.endswith("tracked")}  # noqa: SIM118
    assert kinds == {torch.float16}
    assert WEIGHTS.stat().st_size < 2.7e6


def test_without_a_checkpoint_the_talker_is_opened():
    talker = open_wav2lip()
    assert sum(parameter.numel() for parameter in talker.module.parameters()) == 1_258_143
    assert talker.notice is None


@pytest.mark.slow
def test_the_mouth_follows_the_sound_on_unseen_speakers():
    evaluation = demo.demo_set("evaluation", Path("unused"))
    talker = open_wav2lip()
    samples = open_clips(evaluation, inputs=INPUTS, seed=0, count=None)
    scores = score_talker(talker_of(talker), samples)
    assert scores.margin_over_wrong_audio_db >= 5.0
    assert scores.margin_over_reference_db >= 5.0
    assert scores.readings is not None
    assert scores.readings.generated.open >= 0.9
