"""DINOv2 and CLIP as extractors: small files of their form against networks written down another way."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from qsens.core.errors import LoadError, SpecError
from qsens.scoring import clip, dinov2
from qsens.scoring.extractors import load_extractors

torch = pytest.importorskip("torch")
nn, functional = torch.nn, torch.nn.functional
WIDTH, HEADS, BLOCKS, PATCH = 128, 2, 2, 14


class Layer(nn.Module):
    """A transformer layer by torch's own attention."""

    def __init__(self, activation, epsilon):
        super().__init__()
        self.one, self.two = (nn.LayerNorm(WIDTH, epsilon) for _ in range(2))
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.scales = nn.Parameter(torch.ones(2, WIDTH))
        self.activation = activation

    def forward(self, rows):
        seen = self.one(rows)
        rows = rows + self.scales[0] * self.attention(seen, seen, seen, need_weights=False)[0]
        return rows + self.scales[1] * self.down(self.activation(self.up(self.two(rows))))


def seeded(module):
    """The module with weights that no two layers share, and norms that do something."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.1 + 0.02)
    return module.eval()


def parts_of(layer, names):
    """The weights of a layer by other names: norms, attention in and out, both linear ones."""
    own = layer.state_dict()
    return {theirs: own[ours] for ours, theirs in names.items()}


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 0.1


def pictures(side=40):
    return np.random.default_rng(0).integers(0, 256, (3, 3, side, side), dtype=np.uint8)


def saved(path, save):
    save(str(path))
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    """The file, its sha256 and the features of its network."""
    layers = [seeded(Layer(functional.gelu, 1e-6)) for _ in range(BLOCKS)]
    norm, patches = seeded(nn.LayerNorm(WIDTH, 1e-6)), seeded(nn.Conv2d(3, WIDTH, PATCH, PATCH))
    state = {"cls_token": noise(1, 1, WIDTH), "pos_embed": noise(1, 26, WIDTH), "mask_token": noise(1, WIDTH)}
    state |= {f"norm.{name}": value for name, value in norm.state_dict().items()}
    state |= {f"patch_embed.proj.{name}": value for name, value in patches.state_dict().items()}
    for place, layer in enumerate(layers):
        start = f"blocks.{place}."
        names = {"attention.in_proj_weight": "attn.qkv.weight", "attention.in_proj_bias": "attn.qkv.bias"}
        pairs = {
            "one": "norm1",
            "two": "norm2",
            "attention.out_proj": "attn.proj",
            "up": "mlp.fc1",
            "down": "mlp.fc2",
        }
        names |= {f"{a}.{end}": f"{b}.{end}" for a, b in pairs.items() for end in ("weight", "bias")}
        state |= {start + theirs: value for theirs, value in parts_of(layer, names).items()}
        state |= {f"{start}ls{k + 1}.gamma": layer.scales[k].detach() for k in range(2)}

    def features(images):
        resized = [
            Image.fromarray(image.transpose(1, 2, 0)).resize((224, 224), Image.BICUBIC) for image in images
        ]
        pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        grid = state["pos_embed"][:, 1:].reshape(1, 5, 5, WIDTH).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, scale_factor=(16.1 / 5, 16.1 / 5), mode="bicubic")
        rows = patches((pixels - mean) / std).flatten(2).mT + grid.flatten(2).mT
        first = (state["cls_token"] + state["pos_embed"][:, :1]).expand(len(rows), 1, WIDTH)
        return norm(nn.Sequential(*layers)(torch.cat([first, rows], 1))[:, 0]).detach().numpy()

    path = tmp_path_factory.mktemp("dino") / "weights.pth"
    return *saved(path, lambda file: torch.save(state, file)), features


class Scripted(nn.Module):
    """A module of any names, to be scripted: a dot in a name is a module in a module."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            head, _, rest = name.partition(".")
            if not rest:
                self.register_parameter(head, nn.Parameter(tensor))
        heads = {name.partition(".")[0] for name in tensors if "." in name}
        for head in sorted(heads):
            start = f"{head}."
            self.add_module(
                head, Scripted({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})
            )

    def forward(self, value: int) -> int:
        return value


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The TorchScript archive, its sha256 and the embeddings of its network."""
    layers = [seeded(Layer(lambda x: x * torch.sigmoid(1.702 * x), 1e-5)) for _ in range(BLOCKS)]
    before, after = seeded(nn.LayerNorm(WIDTH)), seeded(nn.LayerNorm(WIDTH))
    patches = seeded(nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False))
    state = {
        "class_embedding": noise(WIDTH),
        "positional_embedding": noise(10, WIDTH),
        "proj": noise(WIDTH, 24),
    }
    state["conv1.weight"] = patches.weight
    for name, module in {"ln_pre": before, "ln_post": after}.items():
        state |= {f"{name}.{end}": value for end, value in module.state_dict().items()}
    for place, layer in enumerate(layers):
        with torch.no_grad():
            layer.scales.fill_(1.0)
        pairs = {
            "one": "ln_1",
            "two": "ln_2",
            "attention.out_proj": "attn.out_proj",
            "up": "mlp.c_fc",
            "down": "mlp.c_proj",
        }
        names = {f"{a}.{end}": f"{b}.{end}" for a, b in pairs.items() for end in ("weight", "bias")}
        names |= {f"attention.in_proj_{end}": f"attn.in_proj_{end}" for end in ("weight", "bias")}
        start = f"transformer.resblocks.{place}."
        state |= {start + theirs: value for theirs, value in parts_of(layer, names).items()}
    scripted = torch.jit.script(Scripted({f"visual.{name}": value.detach() for name, value in state.items()}))

    def features(images):
        pixels = functional.interpolate(torch.from_numpy(images) / 255, size=(42, 42), mode="bicubic")
        mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
        std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
        rows = patches((pixels - mean) / std).flatten(2).mT
        first = state["class_embedding"].expand(len(rows), 1, WIDTH)
        rows = before(torch.cat([first, rows], 1) + state["positional_embedding"])
        return (after(nn.Sequential(*layers)(rows)[:, 0]) @ state["proj"]).detach().numpy()

    path = tmp_path_factory.mktemp("clip") / "weights.pt"
    return *saved(path, scripted.save), features


def test_dinov2_is_the_network_of_its_file_on_pillows_pictures(dino):
    path, sha256, features = dino
    found = dinov2.load_dinov2(path, sha256, threads=1)
    assert (found.name, found.dimension, found.weights_sha256) == ("dinov2", WIDTH, sha256)
    # Pillow rounds to bytes once along each axis: pixels may be one level off.
    np.testing.assert_allclose(found.run(pictures()), features(pictures()), atol=0.02)
    exact = pictures(224)
    np.testing.assert_allclose(found.run(exact), features(exact), atol=2e-4)


def test_clip_is_the_network_of_its_archive(clips):
    path, sha256, features = clips
    found = clip.load_clip(path, sha256, threads=1)
    assert (found.name, found.dimension) == ("clip", 24)
    np.testing.assert_allclose(found.run(pictures()), features(pictures()), atol=2e-4)


def test_weights_with_another_sha256_are_refused(dino):
    with pytest.raises(LoadError, match=r"its sha256 starts with .*, expected d5383ea8f4877b24"):
        load_extractors(["dinov2"], {"dinov2": {"weights": str(dino[0])}})
    with pytest.raises(LoadError, match="no weights at /nowhere") as error:
        load_extractors(["clip"], {"clip": {"weights": "/nowhere"}})
    assert "--option extractor.clip.weights=PATH" in str(error.value.hint)
    with pytest.raises(SpecError, match="options for the extractor 'clip', which the run does not have"):
        load_extractors(["lite0"], {"clip": {"weights": "x"}})
