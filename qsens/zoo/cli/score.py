"""`qsens zoo score`: how good a talking-face generator is on clips of people it was not trained on."""

import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from qsens import __version__
from qsens.cli.option_values import PluginOption, parse_plugin_option
from qsens.cli.options import gathered
from qsens.cli.repeated_options import one_value_each
from qsens.cli.text import echo_json, text_table
from qsens.core.shown_text import steering

if TYPE_CHECKING:
    from qsens.core.interfaces import Generator, SampleSet
    from qsens.zoo.metrics.scoring import MouthReadings, TalkerScores
    from qsens.zoo.metrics.sync_meter import SyncMeter

PATH = click.Path(path_type=Path)
READINGS = {
    "generated": "generated",
    "wrong_audio": "wrong sound, with the true mouth",
    "wrong_audio_given": "wrong sound, with that sound's mouth",
    "copied_reference": "copied reference",
    "true_frames": "true frames (the reader's ceiling)",
}


@dataclass(frozen=True)
class ScoreFlags:
    """The wishes of the flags."""

    data: Path
    model: str
    options: tuple[PluginOption, ...]
    frames: int | None
    reference: str
    seed: int
    syncnet: Path | None
    download: bool
    trust_checkpoint: bool


@click.command()
@click.argument("checkpoint", required=False, type=PATH)
@click.option("--data", required=True, type=PATH, help="Folder of clips (qsens zoo corpus or prepare).")
@click.option("--model", default="wav2lip", show_default=True, help="Generator plug-in.")
@click.option(
    "--option", "options", multiple=True, type=parse_plugin_option, metavar="model.KEY=VALUE",
    help="Option of the generator.",
)  # fmt: skip
@click.option("--frames", type=click.IntRange(min=2), help="Score this many frames only.")
@click.option("--reference", type=click.Choice(("other", "same")), default="other", show_default=True)
@click.option("--seed", default=0, show_default=True, help="Chooses references and the wrong sound.")
@click.option("--syncnet", type=PATH, help="Weights of the evaluation SyncNet, for LSE-D and LSE-C.")
@click.option("--download", is_flag=True, help="Fetch these weights (55 MB) where they are missing.")
@click.option("--trust-checkpoint", is_flag=True, help="Let the checkpoint run code while it loads.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@gathered(ScoreFlags, "asked")
def score(checkpoint: Path | None, *, asked: ScoreFlags, as_json: bool) -> None:
    """Score the generator in CHECKPOINT, without it the talker that qsens ships, on the clips of --data.

    Prints PSNR over the frame and over the mouth, the same with another clip's sound and for copying the
    reference frame, how the mouth follows the sound, and LSE-D and LSE-C where SyncNet's weights are at hand.
    """
    # numpy, SciPy and onnx take a second to load
    from qsens.zoo.metrics.scoring import score_talker, talker_of

    generator = _open_generator(checkpoint, asked)
    samples = _open_samples(asked)
    meter, why_not = _sync_meter(asked.syncnet, samples, download=asked.download)
    with click.progressbar(length=len(samples), label="frames", file=steering(sys.stderr)) as bar:
        scores = score_talker(
            talker_of(generator),
            samples,
            seed=asked.seed,
            meter=meter,
            progress=lambda done, _, __: bar.update(done - bar.pos),
        )
    facts = {**_facts(generator), "data": str(asked.data), "reference": asked.reference}
    if as_json:
        margins = {name: getattr(scores, name) for name in _MARGINS}
        echo_json({**asdict(scores), **margins, **facts, "lip_sync_note": why_not})
        return
    click.echo(score_text(scores, facts))
    if why_not is not None:
        click.echo(f"LSE-D and LSE-C: {why_not}")


_MARGINS = ("margin_over_wrong_audio_db", "margin_over_reference_db")


def score_text(scores: "TalkerScores", facts: Mapping[str, str]) -> str:
    """The acceptance table: PSNR and margins, correlations, lip-sync error, and what was scored."""
    right, wrong, copied = (
        scores.mouth_psnr_db, scores.wrong_audio_mouth_psnr_db, scores.reference_mouth_psnr_db,
    )  # fmt: skip
    rows = [
        ("whole frame", f"{scores.frame_psnr_db:.2f}", ""),
        ("mouth box", f"{right:.2f}", ""),
        ("mouth box, another clip's sound", f"{wrong:.2f}", f"{scores.margin_over_wrong_audio_db:+.2f}"),
        ("mouth box, reference copied", f"{copied:.2f}", f"{scores.margin_over_reference_db:+.2f}"),
    ]
    parts = [text_table(("PSNR", "dB", "margin"), rows, right=(1, 2))]
    if scores.readings is not None:
        parts.append(_readings_table(scores.readings))
    if scores.lip_sync is not None:
        sync = scores.lip_sync
        lines = [
            ("generated", f"{sync.lse_d:.3f}", f"{sync.lse_c:.3f}"),
            ("ground truth", f"{sync.truth_lse_d:.3f}", f"{sync.truth_lse_c:.3f}"),
        ]
        parts.append(text_table((f"lip-sync error, {sync.runs} runs", "LSE-D", "LSE-C"), lines, right=(1, 2)))
    known = {
        "scored": f"{scores.frames} frames of {scores.clips} clips, seed {scores.seed}",
        "evaluation": scores.evaluation[:16],
        **facts,
    }
    if scores.readings is not None:
        known["mouth reader"] = scores.readings.reader
    if scores.lip_sync is not None:
        known["SyncNet"] = scores.lip_sync.meter
    parts.append(text_table(("", ""), list(known.items())).lstrip("\n"))
    return "\n\n".join(parts)


def _readings_table(readings: "MouthReadings") -> str:
    rows = []
    for name, title in READINGS.items():
        states = getattr(readings, name)
        rows.append((title, f"{states.open:.3f}", f"{states.width:.3f}", f"{states.round:.3f}"))
    return text_table(("correlation of the mouth", "open", "width", "round"), rows, right=(1, 2, 3))


def _open_generator(checkpoint: Path | None, asked: ScoreFlags) -> "Generator":
    from qsens.run.open import open_generator  # loads onnx

    given = (option for option in asked.options if option.group == "model")
    wanted = one_value_each("--option", ((option.name, option.value) for option in given))
    wanted["trust_checkpoint"] = asked.trust_checkpoint
    return open_generator(checkpoint, asked.model, wanted)


def _open_samples(asked: ScoreFlags) -> "SampleSet":
    from qsens.core.interfaces import InputSpec
    from qsens.zoo.clips.clip_set import FACE_SHAPE, MEL_SHAPE, open_clips

    inputs = [InputSpec("mel", MEL_SHAPE, "float32", True), InputSpec("face", FACE_SHAPE, "float32", True)]  # noqa: FBT003
    opened = open_clips(
        asked.data, inputs=inputs, seed=asked.seed, count=asked.frames, reference=asked.reference
    )
    return cast("SampleSet", opened)


def _sync_meter(
    syncnet: Path | None, samples: "SampleSet", *, download: bool
) -> tuple["SyncMeter | None", str | None]:
    """The meter, or why there is none; weights that were asked for must be there."""
    from qsens.core.errors import QsensError  # loads torch below
    from qsens.zoo.metrics.lip_sync import spoken_runs
    from qsens.zoo.metrics.sync_meter import locate_weights, open_sync_meter

    was_asked_for = syncnet is not None or download
    try:
        path = locate_weights(syncnet, download=download)
        spoken_runs(samples, "lse")
        meter = open_sync_meter(path)
    except QsensError as error:
        if was_asked_for:
            raise
        return None, f"{error.message} ({error.hint})"
    return meter, None


def _facts(generator: "Generator") -> dict[str, str]:
    runtime = "torch" if hasattr(generator, "module") else "onnxruntime"
    return {
        "generator": f"{generator.name}, sha256 {generator.digest[:16]}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": f"qsens {__version__}, {runtime} {version(runtime)}, Python {platform.python_version()}",
    }
