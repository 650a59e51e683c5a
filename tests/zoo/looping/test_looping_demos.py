"""The demos that call their network more than once: shipped weights that work, sets that are drawn."""

import numpy as np
import pytest

from qsens.calibration.manifest import read_manifest
from qsens.core.plugins import create
from qsens.core.spec import spec_from_values
from qsens.zoo.looping import demos
from qsens.zoo.looping.pictures import CLIP_SIDE, NOISE, drawn_clip


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(demos, "CLIP_SIDE", 16)
    for name, value in {"REAL_FACES": 2, "CALIBRATION_CLIPS": 1, "EVALUATION_CLIPS": 1, "FRAMES": 2}.items():
        monkeypatch.setattr(demos, name, value)


def shipped(name):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    from qsens.zoo.looping.networks import denoiser, upscaler

    network = {"diffusion": denoiser, "video": upscaler}[name]()
    weights = load_file(demos.HERE / f"{name}.safetensors")
    network.load_state_dict({key: value.float() for key, value in weights.items()})
    return torch, network


def test_the_same_numbers_draw_the_same_clip():
    clip = drawn_clip(1, 2, 2, 16)
    assert clip.shape == (2, 3, 16, 16)
    assert np.array_equal(clip, drawn_clip(1, 2, 2, 16))
    assert not np.array_equal(clip, drawn_clip(1, 3, 2, 16))


@pytest.mark.parametrize("name", ["diffusion", "video"])
def test_a_demo_draws_its_sets_once_and_states_its_licence(tmp_path, few, name):
    demo = create("demos", name, {})
    values = demo.spec_values(tmp_path)
    assert spec_from_values(values, "demo").loop.get("name") in ("sampler", "recurrent")
    assert read_manifest(tmp_path.joinpath(values["reference"])).licence == "CC0-1.0"
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    demo.spec_values(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert all("qsens" in note or "damage" in note or "noise" in note for note in demo.notes())


def test_the_state_of_the_super_resolver_helps():
    torch, network = shipped("video")
    sharp = torch.from_numpy(drawn_clip(5, 0, 4, CLIP_SIDE)).float() / 255
    noise = torch.randn(4, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    small = torch.nn.functional.avg_pool2d(sharp, 2) + NOISE * noise
    start = state = torch.zeros(1, 24, 48, 48)
    with torch.no_grad():
        for frame in small[:3]:
            state = network(frame[None], state)["next_state"]
        with_state, without = (network(small[3:], one)["picture"] for one in (state, start))
    plain = torch.nn.functional.interpolate(small[3:], scale_factor=2.0, mode="bilinear")
    errors = [float((one - sharp[3:]).square().mean()) for one in (with_state, without, plain)]
    assert errors == sorted(errors)


def test_the_sampler_ends_nearer_to_faces_than_to_noise():
    torch, network = shipped("diffusion")
    from qsens.device.loops import Network, Port
    from qsens.device.samplers import Sampler

    ports = (Port("x", "float32", (3, 32, 32), True, (3, 32, 32)), Port("t", "float32", (), True, ()))

    def call(feed):
        with torch.no_grad():
            made = network(torch.from_numpy(feed["x"]), torch.from_numpy(feed["t"]))
        return {"velocity": made["velocity"].numpy()}

    loop = Sampler("x", "t", "velocity", Network(ports, ("velocity",)), method="euler", steps=8)
    start = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    faces = loop.play(call, [{"x": start}])[0]["velocity"]
    real = np.concatenate([drawn_clip(5, number, 1, 32) for number in range(4)]) / 127.5 - 1

    def roughness(pictures):
        return np.abs(np.diff(pictures, axis=3)).mean() / pictures.std()

    assert roughness(faces) < 1.5 * roughness(real)
    assert roughness(start) > 3 * roughness(real)
