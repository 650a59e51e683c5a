"""Commands that the zoo adds to `qsens`."""

COMMANDS = {
    "zoo": (
        "qsens.zoo.cli.zoo:zoo",
        "Talking-face generators: data, training, metrics, the paper's tables.",
    ),
    "distill": ("qsens.zoo.cli.train:distill", "Distil a compact student generator as a spec file says."),
}
