"""Small torch generators for tests; named to qsens as `tiny_torch:function`."""

import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="needs the extra torch")
nn = torch.nn
functional = torch.nn.functional


class Block(nn.Module):
    """Convolution, batch normalisation, optional residual add, ReLU; named like Wav2Lip's blocks."""

    def __init__(self, inputs: int, outputs: int, *, residual: bool = False) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(nn.Conv2d(inputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs))
        self.residual = residual

    def forward(self, x):
        y = self.conv_block(x)
        return torch.relu(y + x if self.residual else y)


class UpBlock(nn.Module):
    """Grouped transposed convolution with output padding, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        deconv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1, groups=2)
        self.conv_block = nn.Sequential(deconv, nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.conv_block(x))


class Everything(nn.Module):
    """Image and audio in, two pictures out, with most kinds of layer in between."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Sequential(Block(3, 8)), nn.Sequential(Block(8, 8, residual=True))])
        self.shared = nn.Conv2d(8, 8, 1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.kernel = nn.Parameter(torch.randn(8, 8, 1, 1) * 0.3)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.volume = nn.Conv3d(8, 8, (1, 3, 3), padding=(0, 1, 1))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.audio = nn.Conv1d(1, 4, 3, padding=1)
        self.mapper = nn.Sequential(nn.Linear(24, 8), nn.LayerNorm(8))
        self.decoder = nn.ModuleList([nn.Sequential(UpBlock(16, 6))])
        self.dropout = nn.Dropout(0.5)
        self.out = nn.Conv2d(6, 3, 1)

    def forward(self, image, audio):
        x = image
        for block in self.encoder:
            x = block(x)
        skip = x
        x = self.shared(torch.relu(self.shared(x)))
        x = functional.conv2d(self.depthwise(x), self.kernel)
        x = self.volume(self.norm(x).unsqueeze(2)).squeeze(2)
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        x = tokens.transpose(1, 2).reshape(x.shape)
        code = self.mapper(self.audio(audio).flatten(1))
        x = x + code[:, :, None, None]
        features = self.decoder[0](self.dropout(torch.cat([x, skip], 1)))
        return {"picture": torch.sigmoid(self.out(features)), "features": features}

    def example_inputs(self):
        return {"image": torch.zeros(1, 3, 8, 8), "audio": torch.zeros(1, 1, 6)}


class Small(nn.Module):
    """Convolution, batch normalisation, convolution."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.out = nn.Conv2d(width, 3, 1)

    def forward(self, image):
        return self.out(self.body(image))


class OneAtATime(Small):
    """Fixes its batch size at one."""

    def forward(self, image):
        return super().forward(image.reshape(1, 3, 8, 8))


def everything() -> nn.Module:
    """Seeded, with batch normalisation statistics that are far from the identity."""
    torch.manual_seed(3)
    return _with_statistics(Everything())


def small(width: int = 4) -> nn.Module:
    """Seeded `Small`."""
    torch.manual_seed(4)
    return _with_statistics(Small(width))


def one_at_a_time() -> nn.Module:
    """Seeded `OneAtATime`."""
    torch.manual_seed(5)
    return _with_statistics(OneAtATime())


def not_a_module() -> str:
    """Returns no module."""
    return "no module"


def _with_statistics(module: nn.Module) -> nn.Module:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.weight, 0.5, 2.0)
            nn.init.normal_(norm.bias)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3.0)
    return module.eval()
