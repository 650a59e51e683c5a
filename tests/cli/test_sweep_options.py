"""Flags to a spec: absent is not default, flags win over the file, wrong ones are named."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.cli.options import sweep_options
from qsens.cli.sweep_flags import SweepOptions, default_out, spec_from_options
from qsens.core.errors import SpecError
from qsens.core.interfaces import InputRule, OutputRule
from qsens.core.spec import Options, SweepSpec


@pytest.fixture
def parse(monkeypatch, tmp_path):
    """The spec of a command line, parsed the way `sweep` does, in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def parse(*arguments):
        seen = []

        @click.command()
        @click.argument("checkpoint", required=False)
        @sweep_options
        def command(checkpoint, options):
            seen.append((spec_from_options(checkpoint, options), options))

        monkeypatch.setattr("qsens.cli.main.plugins", command)
        result = CliRunner().invoke(main, ["plugins", *arguments])
        if result.exit_code:
            raise AssertionError(f"exit {result.exit_code}: {result.stderr}")
        return seen[0]

    return parse


def test_no_flags_make_the_default_spec(parse):
    assert parse()[0] == SweepSpec()


def test_every_flag_reaches_its_key(parse, tmp_path):
    spec, options = parse(
        *("g.onnx", "--model", "a.b:c", "--backend", "onnxruntime", "--strategy", "ends", "--by", "block"),
        *("--metric", "psnr", "--metric", "ssim", "--extractor", "lite0", "--inception-weights", "w.pth"),
        *("--extractor", "clip", "--option", "extractor.clip.weights=clip.pt"),
        *("--option", "metric.jod.display=standard_fhd", "--option", "metric.jod.frames_per_second=30"),
        *("--calibration", "images", "--evaluation", "noise", "--reference", "real"),
        *("--calibration-samples", "3", "--evaluation-samples", "4", "--ranges", "minmax"),
        *("--placement", "dense", "--weight-scales", "per-tensor", "--input-shape", "x=1x3x8x8"),
        *("--resize", "8x16", "--crop", "center", "--value-range", "-1..1", "--colour-order", "bgr"),
        *("--output-range", "0..255", "--output-colour-order", "bgr", "--budget", "5%", "--guard", "3"),
        *("--pin", "out.*=fp16", "--pin", "in=fp32", "--seed", "7", "--batch-size", "2", "--threads", "1"),
        *("--option", "model.width=64", "--option", "strategy.step=2", "--option", "backend.provider=cpu"),
        *("--out", "run", "--trust-checkpoint"),
    )
    assert spec == SweepSpec(
        checkpoint=str(tmp_path / "g.onnx"),
        model="a.b:c",
        model_options=Options.of({"width": 64}),
        metric_options=Options.of({"jod": {"display": "standard_fhd", "frames_per_second": 30}}),
        extractor_options=Options.of({"clip": {"weights": str(tmp_path / "clip.pt")}}),
        backend_options=Options.of({"provider": "cpu"}),
        strategy="ends",
        strategy_options=Options.of({"by": "block", "step": 2}),
        metrics=("psnr", "ssim"),
        extractor=("lite0", "clip"),
        inception_weights=str(tmp_path / "w.pth"),
        calibration=str(tmp_path / "images"),
        evaluation="noise",
        reference=str(tmp_path / "real"),
        calibration_samples=3,
        evaluation_samples=4,
        range_method="minmax",
        placement="dense",
        weight_scales="per-tensor",
        input_shapes=(("x", (1, 3, 8, 8)),),
        image_rule=InputRule(value_range=(-1, 1), colour_order="bgr", crop="center", resize=(8, 16)),
        output=OutputRule(value_range=(0, 255), colour_order="bgr"),
        budget="5%",
        guard="3",
        pinned=("out.*=fp16", "in=fp32"),
        seed=7,
        batch_size=2,
        threads=1,
    )
    assert (options.out, options.trust_checkpoint) == (Path("run"), True)


def test_several_budgets_are_one_text_of_the_spec(parse):
    spec, _ = parse("--budget", "fid=5%", "--budget", "psnr=45")
    assert spec.budget == "fid=5%, psnr=45"


def test_flags_win_over_the_file_and_absent_flags_do_not(parse, tmp_path):
    (tmp_path / "sweep.toml").write_text(
        'seed = 5\nbatch_size = 3\n[image_rule]\ncrop = "center"\n[strategy_options]\nby = "block"\n'
    )
    spec, _ = parse("--spec", "sweep.toml", "--seed", "9", "--resize", "4x4")
    assert spec.seed == 9
    assert spec.batch_size == 3
    assert spec.image_rule == InputRule(crop="center", resize=(4, 4))
    assert spec.strategy_options.get("by") == "block"


def test_a_base_is_below_file_and_flags(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text("seed = 5\n")
    options = SweepOptions(spec=path, batch_size=2)
    spec = spec_from_options(None, options, {"seed": 1, "batch_size": 1, "threads": 3})
    assert (spec.seed, spec.batch_size, spec.threads) == (5, 2, 3)


def invoke(*arguments):
    return CliRunner().invoke(main, ["sweep", *arguments])


WRONG = [
    (["--placement", "denze"], "dense"),
    (["--seed", "-1"], "--seed"),
    (["--batch-size", "0"], "--batch-size"),
    (["--batch-size", "100000"], "1<=x<=65536"),
    (["--threads", "100000"], "0<=x<=1024"),
    (["--workers", "100000"], "1<=x<=1024"),
    (["--seed", str(2**63)], "--seed"),
    (["--calibration-samples", "10000000"], "1<=x<=1000000"),
    (["--evaluation-samples", "10000000"], "2<=x<=1000000"),
    (["--screen-samples", "10000000"], "0<=x<=1000000"),
    (["--largest-picture", "0"], "1<=x<=178"),
    (["--largest-picture", "1000"], "1<=x<=178"),
    (["--resize", "99999x8"], "at most 8192"),
    (["--resize", "9" * 5000 + "x8"], "HxW"),
    (["--value-range", "0..1e999"], "LOW..HIGH"),
    (["--input-shape", f"x={'9' * 5000}x3"], "NAME=1x3x256x256"),
    (["--resize", "8"], "HxW"),
    (["--resize", "0x8"], "HxW"),
    (["--value-range", "1..-1"], "LOW..HIGH"),
    (["--value-range", "0,1"], "LOW..HIGH"),
    (["--input-shape", "3x8x8"], "NAME=1x3x256x256"),
    (["--option", "set.x=1"], "GROUP.KEY=VALUE"),
    (["--option", "metric.x=1"], "metric.NAME.KEY=VALUE"),
    (["--pin", "out.*=fp8"], "PATTERN=PRECISION"),
    (["--budget", "lots"], "2.0"),
    (["--budget", "5%", "--budget", "psnr=lots"], "fid=jpeg:95,psnr=45"),
    (["--spec", "absent.toml"], "absent.toml"),
    (["--colour", "bgr"], "--colour-order"),
]


@pytest.mark.parametrize(("arguments", "text"), WRONG)
def test_a_wrong_flag_exits_2_and_says_what_is_right(arguments, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SweepSpec(checkpoint="/a/gen v2.onnx"), "gen-v2"),
        (SweepSpec(model="style"), "style"),
        (SweepSpec(checkpoint="/a/g.onnx", model="style"), "g"),
    ],
)
def test_a_run_is_named_after_its_generator(spec, expected):
    assert default_out(spec).as_posix() == f"reports/{expected}"


def test_a_run_without_a_generator_has_no_name():
    with pytest.raises(SpecError, match="no generator"):
        default_out(SweepSpec())
