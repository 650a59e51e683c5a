"""The group `qsens zoo`."""

import click

from qsens.cli.main import LazyGroup

COMMANDS = {
    "table2": ("qsens.zoo.cli.table2:table2", "Parameters and MACs of the Wav2Lip family, as in the paper."),
    "corpus": ("qsens.zoo.cli.corpus:corpus", "Make talking faces with sound, procedurally."),
    "prepare": ("qsens.zoo.cli.prepare:prepare", "Turn videos into paired sets of sound and faces."),
    "train": ("qsens.zoo.cli.train:train", "Train a talker, a teacher or a lip-sync expert."),
    "score": ("qsens.zoo.cli.score:score", "Score a talking-face generator on clips."),
    "paper": ("qsens.zoo.cli.paper:paper", "The paper's tables and figures, ours beside the published ones."),
}


@click.group(cls=LazyGroup, commands_by_name=COMMANDS)
def zoo() -> None:
    """Talking-face generators: their data, training, metrics, and the paper's tables and figures."""
