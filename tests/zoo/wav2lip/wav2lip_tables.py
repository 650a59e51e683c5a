"""The published layer tables, typed in by hand: what the architecture module must come to by itself."""

from dataclasses import dataclass

# id, kind (c convolution, d transposed), inputs>outputs, kernel, stride, padding, "r" where residual.
TEACHER = """
AE0.0 c 1>32 3 1,1 1
AE0.1 c 32>32 3 1,1 1 r
AE0.2 c 32>32 3 1,1 1 r
AE1.0 c 32>64 3 3,1 1
AE1.1 c 64>64 3 1,1 1 r
AE1.2 c 64>64 3 1,1 1 r
AE2.0 c 64>128 3 3,3 1
AE2.1 c 128>128 3 1,1 1 r
AE2.2 c 128>128 3 1,1 1 r
AE3.0 c 128>256 3 3,2 1
AE3.1 c 256>256 3 1,1 1 r
AE4.0 c 256>512 3 1,1 0
AE4.1 c 512>512 1 1,1 0
FE0.0 c 6>16 7 1,1 3
FE1.0 c 16>32 3 2,2 1
FE1.1 c 32>32 3 1,1 1 r
FE1.2 c 32>32 3 1,1 1 r
FE2.0 c 32>64 3 2,2 1
FE2.1 c 64>64 3 1,1 1 r
FE2.2 c 64>64 3 1,1 1 r
FE2.3 c 64>64 3 1,1 1 r
FE3.0 c 64>128 3 2,2 1
FE3.1 c 128>128 3 1,1 1 r
FE3.2 c 128>128 3 1,1 1 r
FE4.0 c 128>256 3 2,2 1
FE4.1 c 256>256 3 1,1 1 r
FE4.2 c 256>256 3 1,1 1 r
FE5.0 c 256>512 3 2,2 1
FE5.1 c 512>512 3 1,1 1 r
FE6.0 c 512>512 3 1,1 0
FE6.1 c 512>512 1 1,1 0
FD0.0 c 512>512 1 1,1 0
FD1.0 d 1024>512 3 1,1 0
FD1.1 c 512>512 3 1,1 1 r
FD2.0 d 1024>512 3 2,2 1
FD2.1 c 512>512 3 1,1 1 r
FD2.2 c 512>512 3 1,1 1 r
FD3.0 d 768>384 3 2,2 1
FD3.1 c 384>384 3 1,1 1 r
FD3.2 c 384>384 3 1,1 1 r
FD4.0 d 512>256 3 2,2 1
FD4.1 c 256>256 3 1,1 1 r
FD4.2 c 256>256 3 1,1 1 r
FD5.0 d 320>128 3 2,2 1
FD5.1 c 128>128 3 1,1 1 r
FD5.2 c 128>128 3 1,1 1 r
FD6.0 d 160>64 3 2,2 1
FD6.1 c 64>64 3 1,1 1 r
FD6.2 c 64>64 3 1,1 1 r
OUT.0 c 80>32 3 1,1 1
OUT.1 c 32>3 1 1,1 0
"""

STUDENT = """
AE0 c 1>8 3 1,1 1
AE1 c 8>16 3 3,1 1
AE2 c 16>32 3 3,3 1
AE3 c 32>64 3 3,2 1
AE4.0 c 64>128 3 1,1 0
AE4.1 c 128>128 1 1,1 0
FE0 c 6>4 7 1,1 3
FE1 c 4>8 3 2,2 1
FE2 c 8>16 3 2,2 1
FE3 c 16>32 3 2,2 1
FE4 c 32>64 3 2,2 1
FE5 c 64>128 3 2,2 1
FE6.0 c 128>128 3 1,1 0
FE6.1 c 128>128 1 1,1 0
FD0 c 128>128 1 1,1 0
FD1 d 256>128 3 1,1 0
FD2 d 256>128 3 2,2 1
FD3 d 192>96 3 2,2 1
FD4 d 128>64 3 2,2 1
FD5 d 80>32 3 2,2 1
FD6 d 40>16 3 2,2 1
OUT.0 c 20>8 3 1,1 1
OUT.1 c 8>3 1 1,1 0
"""


@dataclass(frozen=True)
class Published:
    """One line of a table, with the name of the weighted module in the published file."""

    name: str
    module: str
    inputs: int
    outputs: int
    kernel: int
    stride: tuple[int, int]
    padding: int
    is_transposed: bool
    is_residual: bool

    @property
    def weight_shape(self):
        channels = (self.inputs, self.outputs) if self.is_transposed else (self.outputs, self.inputs)
        return (*channels, self.kernel, self.kernel)


def published(table):
    """The lines of a table in execution order."""
    found, audio = [], 0
    for line in table.strip().splitlines():
        name, kind, channels, kernel, stride, padding, *marks = line.split()
        stage, _, place = name.partition(".")
        place = place or "0"
        if stage.startswith("AE"):
            module, audio = f"audio_encoder.{audio}", audio + 1
        elif stage == "OUT":
            module = f"output_block.{place}"
        else:
            side = "encoder" if stage.startswith("FE") else "decoder"
            module = f"face_{side}_blocks.{stage[2:]}.{place}"
        module += "" if name == "OUT.1" else ".conv_block.0"
        inputs, outputs = map(int, channels.split(">"))
        across = tuple(map(int, stride.split(",")))
        found.append(
            Published(
                name, module, inputs, outputs, int(kernel), across, int(padding), kind == "d", marks == ["r"]
            )
        )
    return found
