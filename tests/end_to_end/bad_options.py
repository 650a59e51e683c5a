"""Bad input: patterns, names of plug-ins, options, specs and run folders."""

from bad_case import Bad, case, swept


@case
def misspelt_pin(bench):
    arguments = swept(bench, "--pin", "blok1=fp16")
    return Bad(arguments, "'blok1' matches no layer", "did you mean 'block1'?", exit_code=2)


@case
def pin_of_a_layer_that_is_not_there(bench):
    arguments = swept(bench, "--pin", "decoder.*=fp16")
    return Bad(arguments, "'decoder.*' matches no layer", "named like 'block0.conv0'", exit_code=2)


@case
def pin_without_a_precision(bench):
    return Bad(swept(bench, "--pin", "block1"), "'block1'", "PATTERN=PRECISION", exit_code=2)


@case
def pin_to_an_unknown_precision(bench):
    return Bad(swept(bench, "--pin", "block1=fp8"), "fp8", "", exit_code=2)


@case
def unknown_model(bench):
    return Bad(swept(bench, "--model", "stile"), "'stile'", "did you mean 'style'?", exit_code=2)


@case
def unknown_backend(bench):
    arguments = swept(bench, "--backend", "onnxruntim")
    return Bad(arguments, "'onnxruntim'", "did you mean 'onnxruntime'?", exit_code=2)


@case
def unknown_strategy(bench):
    arguments = swept(bench, "--strategy", "boundarie")
    return Bad(arguments, "'boundarie'", "did you mean 'boundary'?", exit_code=2)


@case
def unknown_metric(bench):
    return Bad(swept(bench, "--metric", "psnrr"), "'psnrr'", "did you mean 'psnr'?", exit_code=2)


@case
def unknown_extractor(bench):
    arguments = swept(bench, "--metric", "fid-fp32", "--extractor", "lite")
    return Bad(arguments, "'lite'", "did you mean 'lite0'?", exit_code=2)


@case
def unknown_option_of_a_plugin(bench):
    arguments = swept(bench, "--option", "strategy.directoin=both", "--strategy", "boundary")
    return Bad(arguments, "'directoin'", "did you mean 'direction'?", exit_code=2)


@case
def unknown_strategy_in_a_chain(bench):
    arguments = swept(bench, "--strategy", "boundary+end")
    return Bad(arguments, "'end'", "did you mean 'ends'?", exit_code=2)


@case
def option_that_no_strategy_of_a_chain_knows(bench):
    arguments = swept(bench, "--strategy", "boundary+ends", "--option", "strategy.frst=2")
    return Bad(arguments, "'frst'", "ends: by, first, last", exit_code=2)


@case
def wrong_value_of_a_plugin_option(bench):
    arguments = swept(bench, "--option", "strategy.direction=sideways", "--strategy", "boundary")
    return Bad(arguments, "'sideways'", "int8-first", exit_code=2)


@case
def provider_that_is_not_there(bench):
    return Bad(swept(bench, "--option", "backend.provider=tpu"), "'tpu'", "it has cpu", exit_code=2)


@case
def too_many_maps(bench):
    arguments = swept(
        bench, "--strategy", "exhaustive", "--by", "layer", "--option", "strategy.maximum_maps=8"
    )
    return Bad(arguments, "16 maps", "--by block", exit_code=2)


@case
def budget_that_is_no_number(bench):
    return Bad(swept(bench, "--budget", "lots"), "lots", "2.0", exit_code=2)


@case
def negative_budget(bench):
    return Bad(swept(bench, "--budget", "-3"), "-3", "2.0", exit_code=2)


@case
def share_of_an_endless_score(bench):
    return Bad(swept(bench, "--budget", "5%"), "5%", "dB", exit_code=2)


@case
def budget_on_a_score_that_is_not_measured(bench):
    return Bad(
        swept(bench, "--budget", "psnr=30", "--budget", "ssim=0.1"), "'ssim', which is not scored", "psnr", 2
    )


@case
def value_of_a_score_that_would_be_a_loss_of_nearly_all_of_it(bench):
    arguments = swept(bench, "--metric", "ssim", "--budget", "ssim=0.99")
    return Bad(arguments, "0.99 less than FP32's 1", "ssim:0.99", exit_code=2)


@case
def guard_without_its_score(bench):
    return Bad(swept(bench, "--budget", "30", "--guard", "2"), "guard", "--metric fid-fp32", exit_code=2)


@case
def spec_with_an_unknown_key(bench):
    (bench.folder / "sweep.toml").write_text('stratgy = "boundary"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "stratgy", "strategy", exit_code=2)


@case
def spec_that_is_no_toml(bench):
    (bench.folder / "sweep.toml").write_text("strategy = boundary\n")
    return Bad(swept(bench, "--spec", "sweep.toml"), "sweep.toml is not TOML", "quotes", exit_code=2)


@case
def spec_that_is_not_there(bench):
    return Bad(swept(bench, "--spec", "absent.toml"), "absent.toml", "TOML file", exit_code=2)


@case
def rule_for_an_unknown_input(bench):
    (bench.folder / "sweep.toml").write_text('[inputs.imag]\nsource = "image"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "'imag'", "did you mean 'image'?", exit_code=2)


@case
def unknown_output(bench):
    (bench.folder / "sweep.toml").write_text('[output]\nname = "pictur"\n')
    return Bad(swept(bench, "--spec", "sweep.toml"), "'pictur'", "picture", exit_code=2)


@case
def shape_of_an_unknown_input(bench):
    return Bad(swept(bench, "--input-shape", "imag=1x3x16x16"), "imag", "image", exit_code=2)


@case
def nothing_to_sweep(bench):
    return Bad(("sweep", "--calibration", bench.photos), "no generator", "CHECKPOINT", exit_code=2)


@case
def nothing_to_calibrate_on(bench):
    arguments = ("sweep", bench.generator, "--out", "run")
    return Bad(arguments, "no calibration set", "--calibration FOLDER", exit_code=2)


@case
def two_checkpoints_of_one_name(bench):
    other = bench.folder / "other" / bench.generator.absolute().parent.name / bench.generator.name
    other.parent.mkdir(parents=True)
    other.write_bytes(bench.generator.read_bytes())
    arguments = swept(bench, "--out", "runs")
    return Bad((*arguments, other), "generator", "", exit_code=2)


@case
def out_that_is_a_file(bench):
    (bench.folder / "run").write_text("")
    return Bad(swept(bench), "run is a file", "--out")


@case
def out_that_holds_something_else(bench):
    (bench.folder / "run").mkdir()
    (bench.folder / "run" / "thesis.tex").write_text("")
    return Bad(swept(bench), "'thesis.tex'", "--out")


@case
def report_of_no_run(bench):
    return Bad(("report", bench.photos), "is not a run folder", "qsens sweep --out")


@case
def select_from_no_run(bench):
    return Bad(("select", "absent", "--budget", "2"), "absent", "qsens sweep --out")


@case
def misspelt_command(bench):
    return Bad(("swep", bench.generator), "'swep'", "did you mean 'sweep'?", exit_code=2)
