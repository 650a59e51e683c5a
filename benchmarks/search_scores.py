"""Scores of every map of a generator, on several subsets of its inputs, kept in a file of one line a map."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from search_networks import Network, Outputs, opened_network

from qsens.calibration.splits import spread_places
from qsens.core.interfaces import ScoredBatch
from qsens.core.layer import Layer, blocks_of
from qsens.core.precision import Precision, PrecisionMap
from qsens.core.trial import Outcome, Request, Score, Screen, Trial, requested_map
from qsens.scoring.fid import FidAgainstFp32
from qsens.scoring.fidelity import psnr_of_error
from qsens.search.enumerations import map_of_units, units_of

DAMAGE = "fid-fp32[lite0]"


@dataclass(frozen=True)
class Measure:
    """Scores of one map on one subset: distance to FP32, its standard error, PSNR in dB."""

    distance: float
    error: float
    psnr: float


@dataclass(frozen=True)
class Setting:
    """What decides the scores of a file."""

    network: str
    groups: int
    images: int
    subset: int
    screen: int
    seeds: int


@dataclass(frozen=True, eq=False)
class Problem:
    """Every map of a generator with its scores, one `Measure` for each seed; FP32 is perfect by definition.

    `screens` are the scores on `screen_images` of the `images` inputs. `seconds` is the mean time of scoring
    one map, 0 where none was run.
    """

    name: str
    layers: tuple[Layer, ...]
    measures: dict[PrecisionMap, tuple[Measure, ...]]
    screens: dict[PrecisionMap, tuple[Measure, ...]]
    images: int
    screen_images: int
    seconds: float

    @property
    def seeds(self) -> range:
        """Seeds that there are scores for."""
        return range(len(next(iter(self.measures.values()))))

    def trial(self, number: int, request: Request, seed: int) -> Trial:
        """The trial of a request on the subset of a seed. Raises `KeyError` for other maps."""
        requested = requested_map(request)
        screened = self._scores(requested, self.screens, self.screen_images, seed)
        if isinstance(request, Screen):
            return Trial(number, requested, requested, Outcome.SCREENED, screened)
        scores = self._scores(requested, self.measures, self.images, seed)
        return Trial(number, requested, requested, Outcome.SCORED, scores, screen_scores=screened)

    def _scores(
        self,
        requested: PrecisionMap,
        measures: Mapping[PrecisionMap, Sequence[Measure]],
        images: int,
        seed: int,
    ) -> tuple[Score, ...]:
        found = Measure(0.0, 0.0, 100.0)
        if requested != PrecisionMap(Precision.FP32):
            found = measures[requested][seed]
        of = {"images": images, "against": f"{self.name} {seed}"}
        error = found.error
        distance = Score(
            DAMAGE,
            found.distance,
            **of,
            lower_is_better=True,
            standard_error=error,
            difference=found.distance,
            difference_standard_error=error,
        )
        psnr = Score("psnr", found.psnr, **of, lower_is_better=False)
        return distance, psnr


def every_map(layers: Sequence[Layer]) -> Iterator[tuple[str, PrecisionMap]]:
    """All maps of FP16 (`0`) and INT8 (`1`) over the blocks, with their words of bits."""
    units = units_of(layers, "block")
    for bits in product((0, 1), repeat=len(blocks_of(layers))):
        choice = [Precision.INT8 if bit else Precision.FP16 for bit in bits]
        yield "".join(map(str, bits)), map_of_units(units, choice)


def scored_problem(setting: Setting, cache: Path, *, threads: int) -> Problem:
    """All scores of a generator: what the file in `cache` lacks is run and appended, and kept if stopped."""
    cache.mkdir(parents=True, exist_ok=True)
    numbers = (setting.groups, setting.images, setting.subset, setting.screen, setting.seeds)
    path = cache / f"{setting.network}-{'-'.join(map(str, numbers))}.jsonl"
    if not _is_complete(path):
        options = {"groups": setting.groups, "images": setting.images, "threads": threads}
        with opened_network(setting.network, **options, folder=cache / "files") as network:
            _run_missing(path, network, setting)
    return _read(path, setting)


def _run_missing(path: Path, network: Network, setting: Setting) -> None:
    lines = _lines(path)
    done = {line["map"] for line in lines[1:]}
    total = 2 ** len(blocks_of(network.layers))
    # A line that a kill has torn is written again.
    kept = [json.dumps(line) for line in lines or [_header(network, total)]]
    path.write_text("\n".join(kept) + "\n")
    with path.open("a") as file:
        for word, requested in every_map(network.layers):
            if word in done:
                continue
            start = time.perf_counter()
            outputs = network.run(requested)
            seconds = time.perf_counter() - start
            chosen = subsets(len(outputs.errors), setting)
            line = {
                "map": word,
                "seconds": seconds,
                "measures": [asdict(_measured(network, outputs, rows)) for rows in chosen],
                "screens": [
                    asdict(_measured(network, outputs, rows[list(spread_places(len(rows), setting.screen))]))
                    for rows in chosen
                ],
            }
            file.write(json.dumps(line) + "\n")
            file.flush()


def subsets(images: int, setting: Setting) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows of each seed's subset, in order."""
    return [
        np.sort(np.random.default_rng(seed).choice(images, min(setting.subset, images), replace=False))
        for seed in range(setting.seeds)
    ]


def _measured(network: Network, outputs: Outputs, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Measure:
    context = replace(
        network.context,
        images=len(rows),
        baseline_features=network.context.baseline_features[rows],
        clusters=None if network.context.clusters is None else network.context.clusters[rows],
    )
    state = FidAgainstFp32().start(context)
    # The distance reads features alone.
    pictures = np.zeros((len(rows), 3, 1, 1), np.uint8)
    state.update(ScoredBatch(0, pictures, pictures, outputs.features[rows]))
    score = state.compute().score
    return Measure(
        score.value, score.standard_error or 0.0, psnr_of_error(float(outputs.errors[rows].mean()))
    )


def _header(network: Network, total: int) -> dict[str, Any]:
    layers = [{"name": layer.name, "block": layer.block, "macs": layer.macs} for layer in network.layers]
    return {"maps": total, "layers": layers}


def _is_complete(path: Path) -> bool:
    lines = _lines(path)
    return bool(lines) and len(lines) - 1 == lines[0]["maps"]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for text in path.read_text().splitlines():
        try:
            found.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return found


def _read(path: Path, setting: Setting) -> Problem:
    header, *lines = _lines(path)
    layers = tuple(plain_layer(index, **facts) for index, facts in enumerate(header["layers"]))
    by_word = {
        key: {line["map"]: tuple(Measure(**values) for values in line[key]) for line in lines}
        for key in ("measures", "screens")
    }
    measures, screens = (
        {requested: by_word[key][word] for word, requested in every_map(layers)}
        for key in ("measures", "screens")
    )
    seconds = float(np.mean([line["seconds"] for line in lines]))
    images = min(setting.subset, setting.images)
    return Problem(setting.network, layers, measures, screens, images, min(setting.screen, images), seconds)


def plain_layer(index: int, *, name: str, block: str, macs: int) -> Layer:
    """A layer of which strategies need no more than this."""
    return Layer(name, name, "Conv", block, index, macs, macs, macs, (1, 1, 1, 1))


def planted_problem(groups: int, seeds: int) -> Problem:
    """No network: one fragile layer in the middle, others harmless, neighbours that hurt each other.

    Damage is the sum of the layers' own (log-normal, about 1; the fragile one 40), plus half the root of
    the product of every two neighbours in INT8, plus normal noise of 0.05, on a screen of a quarter of the
    inputs 0.1. Later layers have more MACs.
    """
    layers = tuple(
        plain_layer(index, name=f"conv{index}", block=f"group{index}", macs=1000 * (1 + index))
        for index in range(groups)
    )
    measures: dict[PrecisionMap, tuple[Measure, ...]] = {}
    screens: dict[PrecisionMap, tuple[Measure, ...]] = {}
    for word, requested in every_map(layers):
        bits = np.array([int(bit) for bit in word])
        measures[requested] = tuple(_planted(bits, seed, noise=0.05) for seed in range(seeds))
        screens[requested] = tuple(_planted(bits, seed, noise=0.1) for seed in range(seeds))
    return Problem("planted", layers, measures, screens, 64, 16, 0.0)


def _planted(bits: np.ndarray[Any, np.dtype[np.int64]], seed: int, *, noise: float) -> Measure:
    own = np.random.default_rng(seed).lognormal(0.0, 0.5, len(bits))
    own[len(bits) // 2] = 40.0
    inside = own * bits
    moved = noise * np.random.default_rng([seed, int(1000 * noise), *bits]).standard_normal()
    pairs = 0.5 * np.sqrt(inside[:-1] * inside[1:]).sum()
    damage = max(float(inside.sum() + pairs + moved), 0.0) if bits.any() else 0.0
    return Measure(damage, noise, psnr_of_error(damage))
