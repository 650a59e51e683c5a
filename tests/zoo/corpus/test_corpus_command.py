"""`qsens zoo corpus`: what it says, and its exit codes."""

from click.testing import CliRunner

from qsens.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["zoo", "corpus", *map(str, arguments)])


def test_it_makes_a_corpus_and_goes_on_with_it(tmp_path):
    small = ("--size", 32, "--frames-per-clip", 2, "--jobs", 1, "--out", tmp_path)
    first = run("--frames", 4, *small)
    assert first.exit_code == 0
    assert "4 frames, 2 clips made" in first.stdout
    second = run("--frames", 5, *small)
    assert "6 frames, 1 clips made, 2 clips kept" in second.stdout
    assert (tmp_path / "manifest.toml").exists()


def test_it_refuses_another_seed_with_the_difference(tmp_path):
    small = ("--frames", 2, "--size", 32, "--frames-per-clip", 2, "--jobs", 1, "--out", tmp_path)
    run(*small)
    other = run(*small, "--seed", 9)
    assert other.exit_code == 1
    assert "seed 0, not 9" in other.stderr
    assert "--out" in other.stderr


def test_it_refuses_bad_options(tmp_path):
    for bad in (("--frames", 0), ("--frames", 2, "--jobs", 0), ("--frames", 2, "--size", 3)):
        result = run(*bad, "--out", tmp_path / "corpus")
        assert result.exit_code == 2, result.output
        assert "Hint:" in result.stderr
    assert run("--frames", 2).exit_code == 2
    assert not (tmp_path / "corpus").exists()
