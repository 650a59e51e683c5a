import tomllib

import pytest

from qsens.zoo.training.kinds import distill, train
from qsens.zoo.training.spec_reading import plain_values
from qsens.zoo.wav2lip.discriminator import open_discriminator
from qsens.zoo.wav2lip.expert import open_expert
from qsens.zoo.wav2lip.opening import open_wav2lip

ONE_STEP = {"steps": 1, "validation_samples": 2}


def silent(*_):
    """A progress that shows nothing."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_expert_teacher_and_student_with_the_real_judges(make_spec, tmp_path):
    train(make_spec("expert", "expert", **ONE_STEP), silent)
    expert = tmp_path / "expert" / "expert.safetensors"
    open_expert(expert)
    teacher_spec = make_spec("teacher", "teacher", expert=str(expert), sync="start", **ONE_STEP)
    figures = train(teacher_spec, silent).metrics
    assert figures["sync_loss"] > 0
    open_discriminator(tmp_path / "teacher" / "discriminator.safetensors")
    teacher = tmp_path / "teacher" / "generator.safetensors"
    student_spec = make_spec(
        "student", teacher=str(teacher), expert=str(expert), extractor="random", **ONE_STEP
    )
    values = {key: value for key, value in plain_values(student_spec).items() if key not in ("kind", "out")}
    weights = distill(values, tmp_path / "student", silent)
    assert open_wav2lip(weights).architecture.is_bare
    record = tomllib.loads((tmp_path / "student" / "training.toml").read_text())
    assert "random" in record["digests"]["extractor"]
