"""Sets in subfolders that a plug-in reads, and the real images they hold."""

import numpy as np
import pytest
from PIL import Image

from qsens.calibration.manifest import SetFacts, read_manifest, write_manifest
from qsens.calibration.real_images import open_real_images
from qsens.calibration.sets import open_sample_set, subset
from qsens.core.errors import DataError, SpecError
from qsens.core.interfaces import InputSpec

INPUTS = (InputSpec("face", (3, 4, 4), "float32", is_batched=True),)
PLUGIN = """
import numpy as np
from PIL import Image


class Faces:
    name = "faces"

    def __init__(self, folder, scale):
        self.paths = sorted(folder.glob("*/*.png"))
        self.scale = scale
        self.digest = f"faces/{scale}/{len(self.paths)}"
        self.clusters = tuple(path.parent.name for path in self.paths)

    def __len__(self):
        return len(self.paths)

    def _pixels(self, index):
        return np.asarray(Image.open(self.paths[index])).transpose(2, 0, 1)

    def sample(self, index):
        return {"face": self._pixels(index).astype(np.float32) * np.float32(self.scale)}

    def annotation(self, index):
        return {"clip": self.clusters[index], "frame": index, "target": self._pixels(index)}

    def describe(self):
        return {"scale": str(self.scale)}


def open_faces(folder, *, inputs, seed, count, scale=1.0):
    return Faces(folder, scale)


class Blind(Faces):
    annotation = None


def open_blind(folder, *, inputs, seed, count):
    return Blind(folder, 1.0)
"""


@pytest.fixture
def faces(tmp_path, install):
    install(
        "acme",
        "sets",
        {"acme-faces": "acme_faces:open_faces", "acme-blind": "acme_faces:open_blind"},
        {"acme_faces": PLUGIN},
    )
    folder = tmp_path / "faces"
    for clip, level in (("a", 10), ("a", 20), ("b", 30)):
        (folder / clip).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), level, np.uint8)).save(folder / clip / f"{level}.png")
    (folder / "notes.txt").write_text("not part of the set")
    return folder


def describe_faces(folder, opener="acme-faces", **options):
    facts = SetFacts(licence="CC0-1.0", origin="drawn", opener=opener, opener_options=options)
    return write_manifest(folder, facts)


def test_the_manifest_lists_files_of_subfolders_with_their_clips(faces):
    manifest = describe_faces(faces, scale=0.5)
    assert [(file.name, file.clip) for file in manifest.files] == [
        ("a/10.png", "a"),
        ("a/20.png", "a"),
        ("b/30.png", "b"),
    ]
    assert read_manifest(faces) == manifest
    assert manifest.opener_options == {"scale": 0.5}


def test_writing_the_manifest_again_keeps_the_opener_and_its_options(faces):
    describe_faces(faces, scale=0.5)
    (faces / "b" / "30.png").unlink()
    again = write_manifest(faces, SetFacts())
    assert (again.opener, again.opener_options, again.count) == ("acme-faces", {"scale": 0.5}, 2)


def test_samples_clips_and_annotations_come_from_the_opener(faces):
    describe_faces(faces, scale=0.5)
    samples = open_sample_set(str(faces), inputs=INPUTS, rules={}, seed=0)
    assert samples.clusters == ("a", "a", "b")
    assert np.all(samples.sample(2)["face"] == 15)
    assert samples.annotation(1)["frame"] == 1
    assert samples.describe()["licence"] == "CC0-1.0"
    part = subset(samples, 2, seed=1)
    kept = [part.annotation(index)["frame"] for index in range(2)]
    assert [part.sample(index)["face"][0, 0, 0] for index in range(2)] == [5 * (frame + 1) for frame in kept]


def test_a_changed_file_is_refused(faces):
    describe_faces(faces)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(faces / "a" / "10.png")
    with pytest.raises(DataError, match=r"a/10\.png has another sha256"):
        open_sample_set(str(faces), inputs=INPUTS, rules={}, seed=0)


def test_an_unknown_opener_or_option_is_named(faces):
    describe_faces(faces, opener="acme-face")
    with pytest.raises(SpecError, match="no set named 'acme-face'") as caught:
        open_sample_set(str(faces), inputs=INPUTS, rules={}, seed=0)
    assert "acme-faces" in caught.value.hint
    describe_faces(faces, scala=2)
    with pytest.raises(SpecError, match="no option 'scala'"):
        open_sample_set(str(faces), inputs=INPUTS, rules={}, seed=0)


def test_targets_of_a_set_are_its_real_images(faces):
    describe_faces(faces)
    images = open_real_images(faces, INPUTS)
    assert [int(images.image(index).max()) for index in range(len(images))] == [10, 20, 30]
    before = images.digest
    describe_faces(faces, scale=2.0)
    assert open_real_images(faces, INPUTS).digest != before


def test_a_set_without_targets_is_no_reference(faces):
    describe_faces(faces, opener="acme-blind")
    with pytest.raises(DataError, match="does not say what its samples should look like"):
        open_real_images(faces, INPUTS)


def test_images_of_a_plain_folder_keep_their_sizes_and_order(tmp_path):
    for name, side in (("b", 5), ("a", 3)):
        Image.fromarray(np.full((side, side, 3), side, np.uint8)).save(tmp_path / f"{name}.png")
    images = open_real_images(tmp_path)
    assert [images.image(index).shape for index in range(2)] == [(3, 3, 3), (3, 5, 5)]
    before = images.digest
    (tmp_path / "a.png").rename(tmp_path / "c.png")
    assert open_real_images(tmp_path).digest != before
