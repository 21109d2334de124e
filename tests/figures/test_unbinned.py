"""Isotonic curves against their definition, and drawn."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import pyplot

from calib_harness import load_predictions, smece
from calib_harness.analysis.isotonic import isotonic_curve
from calib_harness.core.smece import smooth_curve
from calib_harness.figures.unbinned import UnbinnedDisplay
from calib_harness.predictions.samples import write_example_log


def pooled(confidence, correct):
    """The curve at each confidence by its definition: max over starts of min over ends."""
    values = np.unique(confidence)
    fit = []
    for v in values:
        starts = [s for s in values if s <= v]
        ends = [e for e in values if e >= v]
        mean = lambda s, e: correct[(confidence >= s) & (confidence <= e)].mean()  # noqa: E731
        fit.append(max(min(mean(s, e) for e in ends) for s in starts))
    return values, np.array(fit)


def example(seed=3, n=40):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.25, 1, n).round(1)  # ties
    return confidence, (rng.random(n) < confidence**2).astype(float)


def test_curve_is_the_max_min_of_means():
    confidence, correct = example()
    values, expected = pooled(confidence, correct)
    curve = isotonic_curve(confidence, correct, n_resamples=0)
    found = np.interp(values, curve.confidence, curve.accuracy)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert (np.diff(curve.accuracy) >= 0).all()


def test_parts_sum_to_the_brier_score_and_none_is_negative():
    confidence, correct = example()
    values, fit = pooled(confidence, correct)
    at = np.searchsorted(values, confidence)
    curve = isotonic_curve(confidence, correct, n_resamples=0)
    brier = np.mean((confidence - correct) ** 2)
    assert curve.miscalibration == pytest.approx(brier - np.mean((fit[at] - correct) ** 2))
    assert curve.uncertainty == pytest.approx(correct.mean() * (1 - correct.mean()))
    total = curve.miscalibration - curve.discrimination + curve.uncertainty
    assert total == pytest.approx(brier)
    assert min(curve.miscalibration, curve.discrimination) >= 0


def test_band_holds_the_curve_of_a_calibrated_model_and_leaves_out_an_overconfident_one():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.25, 1, 800)
    inside = []
    for power in (1, 3):
        correct = rng.random(800) < confidence**power
        curve = isotonic_curve(confidence, correct)
        inside.append(np.mean((curve.accuracy >= curve.low) & (curve.accuracy <= curve.high)))
    assert inside[0] > 0.9
    assert inside[1] < 0.5


def test_smooth_curve_is_the_kernel_mean_at_the_width_of_smece():
    confidence, correct = example(n=60)
    confidence[:5] = 1.0  # reflected at the end
    curve = smooth_curve(confidence, correct)
    probs = np.stack([confidence, np.maximum(1 - confidence, 0)], axis=1)[confidence >= 0.5]
    gold = 1 - correct[confidence >= 0.5].astype(int)
    of_part = smooth_curve(confidence[confidence >= 0.5], correct[confidence >= 0.5])
    assert of_part.width == pytest.approx(smece(probs, gold), abs=1e-8)

    def kernel(t, c):  # a Gaussian and its mirror images
        return sum(
            np.exp(-0.5 * ((t - sign * c - 2 * turn) / curve.width) ** 2)
            for turn in range(-3, 4)
            for sign in (-1, 1)
        )

    for t, found in zip(curve.confidence, curve.accuracy, strict=True):
        weight = kernel(t, confidence)
        if weight.sum() > np.exp(-0.5):
            assert found == pytest.approx(weight @ correct / weight.sum(), abs=1e-7)
        else:
            assert np.isnan(found)
    assert not np.isnan(curve.accuracy).all()


def test_smooth_curve_is_left_out_where_no_confidence_is_near():
    curve = smooth_curve([0.25] * 40 + [0.95] * 40, [1] * 12 + [0] * 28 + [1] * 36 + [0] * 4)
    known = ~np.isnan(curve.accuracy)
    middle = (curve.confidence > 0.4) & (curve.confidence < 0.8)
    assert not known[middle].any()
    assert known[np.abs(curve.confidence - 0.25) < 0.01].all()


def test_drawn_curve_and_band_are_the_numbers(tmp_path):
    write_example_log(tmp_path, model="org/m", task="toy", n=90)
    (run,) = load_predictions(tmp_path, cache=False)
    display = UnbinnedDisplay.from_predictions(run).plot()
    (curves,) = display.curves.values()
    curve, smooth = curves.isotonic, curves.smooth
    line, thin = display.ax_.lines[1:]
    assert thin.get_ydata().tolist() == pytest.approx(smooth.accuracy.tolist(), nan_ok=True)
    assert f"smECE {smece(run.probs, run.gold):.3f}" in line.get_label()
    assert line.get_ydata().tolist() == curve.accuracy.tolist()
    assert f"MCB {curve.miscalibration:.3f}" in line.get_label()
    assert len(display.ax_.collections) == 1
    pyplot.close("all")


def test_a_figure_without_a_layout_is_laid_out_so_that_the_legend_is_whole(tmp_path):
    # The legend of a plain plt.subplots() used to be cut off at the top.
    write_example_log(tmp_path, model="org/m", task="toy", n=90)
    (run,) = load_predictions(tmp_path, cache=False)
    from calib_harness import ReliabilityDisplay, RiskCoverageDisplay

    for display in (ReliabilityDisplay, RiskCoverageDisplay, UnbinnedDisplay):
        figure, ax = pyplot.subplots()
        drawn = display.from_predictions(run, n_resamples=20).plot(ax)
        figure.draw_without_rendering()
        legend = drawn.ax_.get_legend().get_window_extent()
        assert legend.y1 <= figure.bbox.y1
        assert legend.x0 >= 0
    pyplot.close("all")


def test_points_of_few_questions_are_small_and_hollow(tmp_path):
    write_example_log(tmp_path, model="org/m", task="toy", n=90)
    (run,) = load_predictions(tmp_path, cache=False)
    from calib_harness import ReliabilityDisplay

    display = ReliabilityDisplay.from_predictions(run, n_resamples=0).plot()
    (curve,) = display.curves.values()
    points = display.ax_.collections[-1]
    sizes = points.get_sizes()
    assert (np.argsort(sizes) == np.argsort(curve.n)).all() or sizes[curve.n.argmax()] == max(sizes)
    white = (points.get_facecolors()[:, :3] == 1).all(axis=1)
    assert white.tolist() == (curve.n < 5).tolist()
    assert white.any()
    assert not white.all()
    pyplot.close("all")
