"""An option that is given twice: every value counts, or the command refuses."""

import click
import pytest
from click.testing import CliRunner

from qsens.cli.main import main
from qsens.deploy.bundle_script import parser


def commands(command, words=()):
    """Every command by the words that call it; groups call nothing themselves."""
    if not isinstance(command, click.Group):
        return {words: command}
    context = click.Context(command)
    found = {}
    for name in command.list_commands(context):
        found |= commands(command.get_command(context, name), (*words, name))
    return found


def test_every_option_of_every_command_counts_each_time_or_is_refused():
    seen = 0
    for words, command in commands(main).items():
        for option in command.params:
            if not isinstance(option, click.Option) or option.multiple or option.is_flag or option.count:
                continue
            values = ["1"] * max(1, option.nargs)
            result = CliRunner().invoke(main, [*words, *2 * [option.opts[0], *values]])
            assert result.exit_code == 2, words
            assert f"Error: {option.opts[0]} is given 2 times" in result.stderr, words
            assert "Hint: give it once" in result.stderr
            seen += 1
    assert seen > 50


def test_a_flag_that_is_said_twice_says_the_same():
    result = CliRunner().invoke(main, ["plugins", "--json", "--json"])
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--input-shape", "x=1x3x8x8", "--input-shape", "x=1x3x16x16"], "--input-shape gives 'x' twice"),
        (
            ["--option", "strategy.step=1", "--option", "strategy.step=2"],
            "--option gives 'strategy.step' twice: 1 and 2",
        ),
        (
            ["--by", "layer", "--option", "strategy.by=block"],
            "gives 'strategy.by' twice: 'block' and 'layer'",
        ),
        (["--pin", "out=fp16", "--pin", "out=fp32"], "--pin gives 'out' twice: 'out=fp16' and 'out=fp32'"),
    ],
)
def test_a_name_that_is_given_two_values_is_refused(arguments, text):
    result = CliRunner().invoke(main, ["sweep", "--model", "absent", *arguments])
    assert result.exit_code == 2
    assert text in result.stderr


def test_layers_refuses_two_shapes_of_one_input():
    given = ["layers", "x.onnx", "--input-shape", "x=1x3", "--input-shape", "x=1x4"]
    assert "--input-shape gives 'x' twice: (1, 3) and (1, 4)" in CliRunner().invoke(main, given).stderr


def test_the_script_of_a_bundle_takes_no_option_twice(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["--repeats", "50", "--repeats", "60"])
    assert "--repeats is given twice, and only one value can count" in capsys.readouterr().err
    assert parser().parse_args(["--repeats", "7"]).repeats == 7
