import io
from dataclasses import replace

import pandas as pd
import pytest
from report_studies import IMAGES, METRICS, boundary_study, failed, screening_study, student_layers

from qsens.core.precision import Precision
from qsens.core.trial import Study
from qsens.report.tables import differing_layers, sensitivity_table, trials_table

LAYERS = student_layers()
FID = METRICS[0]
NUMBER = 3 + 2 * 20  # int8-first at boundary 21


def messy_study():
    study = boundary_study(LAYERS)
    trials = list(study.trials)
    trials[5] = failed(5, trials[5].requested, "cannot build, 'quoted', \"twice\"\nand over two lines")
    widened = trials[NUMBER].requested.with_layers(["AE0"], Precision.FP32)
    trials[NUMBER] = replace(
        trials[NUMBER], applied=widened, fp16_overflows=(("FD5", 3), ("FD6", 4)), latency_ms=1.5
    )
    return replace(study, trials=tuple(trials))


def test_a_row_says_what_ran():
    row = trials_table(messy_study()).set_index("number").loc[NUMBER]
    total = sum(layer.macs for layer in LAYERS)
    without_output = sum(layer.macs for layer in LAYERS[:21])
    assert row["requested_int8_share"] == pytest.approx(without_output / total)
    assert row["applied_int8_share"] == pytest.approx((without_output - LAYERS[0].macs) / total)
    assert (row["layers_fp32"], row["layers_fp16"], row["layers_int8"]) == (1, 2, 20)
    assert row["differing_layers"] == 1
    assert row["boundary_int8_first"] == 21
    assert pd.isna(row["boundary_float_first"])
    assert (row["fp16_overflows"], row["latency_ms"]) == (7, 1.5)
    assert row[f"{FID}_difference"] == pytest.approx(row[FID] - 5.30)
    assert row[f"{FID}_images"] == 512


def test_uniform_maps_are_the_ends_of_both_directions():
    frame = trials_table(messy_study()).set_index("number")
    columns = ["boundary_int8_first", "boundary_float_first"]
    assert frame.loc[1, columns].tolist() == [0, 23]
    assert frame.loc[2, columns].tolist() == [23, 0]


def test_a_failed_trial_keeps_its_request_and_its_error():
    row = trials_table(messy_study()).set_index("number").loc[5]
    assert row["outcome"] == "failed"
    assert "cannot build" in row["error"]
    assert row["requested_int8_share"] > 0
    assert pd.isna(row["applied_int8_share"])
    assert pd.isna(row["layers_int8"])


def test_csv_and_parquet_hold_the_same_table():
    frame = trials_table(messy_study())
    from_csv = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    file = io.BytesIO()
    frame.to_parquet(file)
    from_parquet = pd.read_parquet(file)
    pd.testing.assert_frame_equal(from_parquet, frame)
    pd.testing.assert_frame_equal(from_csv, frame, check_dtype=False)


def test_an_empty_study_has_the_columns_and_no_rows():
    frame = trials_table(Study("s", LAYERS, ()))
    assert len(frame) == 0
    assert "requested_int8_share" in frame
    assert len(sensitivity_table(Study("s", LAYERS, ()))) == 0


def test_sensitivities_carry_their_interval():
    frame = sensitivity_table(boundary_study(LAYERS), [FID])
    assert set(frame["unit"]) == {"layer"}
    assert len(frame) == 2 * len(LAYERS)
    half = 1.959964 * frame["standard_error"]
    assert (frame["high"] - frame["effect"]).tolist() == pytest.approx(half.tolist())
    assert set(frame["images"]) == {IMAGES}
    assert not frame["is_screen"].any()


def test_sensitivities_of_screens_say_so_with_the_number_of_images():
    frame = sensitivity_table(screening_study(LAYERS), [FID])
    assert frame["is_screen"].all()
    assert set(frame["images"]) == {32}
    assert set(frame["origin"]) == {"only this INT8"}


def test_layers_that_run_another_precision_are_named():
    assert differing_layers(messy_study().trials[NUMBER], LAYERS) == ("AE0",)
