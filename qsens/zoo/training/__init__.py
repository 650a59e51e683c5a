"""Training and distillation of talking-face generators with Lightning."""

from contextlib import suppress

from qsens.scoring.cpu_torchvision import import_torchvision

# Lightning imports torchvision where it is installed, and a wheel linked to CUDA fails beside a CPU torch.
with suppress(ModuleNotFoundError):
    import_torchvision()
