"""Sentences that say what runs show: each figure in them against one computed here."""

import re
import shutil

import numpy as np
import pytest
from helpers.cam_networks import comparison
from helpers.famviz_runs import make_run
from helpers.runs import write_run
from scipy.stats import ttest_rel

import famviz
from famkd.compare import compare, paired
from famkd.errors import UserError
from famkd.files import write_csv, write_rows
from famkd.run.directory import Run
from famviz import spectra
from famviz.analysis import answers, studies
from famviz.analysis.amplitude import compare_stage
from famviz.figures.study import cost_figure, difference_figure

pytest_plugins = ("helpers.famviz_trained",)


def last(run):
    return run.metrics()[-1]["top1"]


def numbers(words):
    return [float(each) for each in re.findall(r"[-+]?\d+\.\d+", words)]


def test_one_seed_is_compared_with_the_student_alone_and_called_too_few(trained_runs):
    run = trained_runs["fam"]
    alone = last(Run(run.path.parent / "none-seed0"))
    words = answers.accuracy_words(run)
    gap, teacher = last(run) - alone, run.teacher["top1"]
    assert words == (
        f"After the last epoch the student by fam has top-1 {last(run):.2f} %, {gap:+.2f} points from the student "
        f"alone (n = 1 seed); the teacher has {teacher:.2f} %. One seed cannot tell a method from chance."
    )
    both = answers.accuracy_words(list(trained_runs.values()))
    assert "the student by fam has" in both
    assert "the student by fam_review has" in both
    assert both.count("One seed cannot") == 1


def test_seeds_beside_a_run_are_paired(trained_runs, tmp_path):
    scores = {"fam": (40.0, 50.0, 60.0), "none": (30.0, 55.0, 49.0)}
    for method, values in scores.items():
        for seed, value in enumerate(values):
            path = tmp_path / f"{method}-seed{seed}"
            shutil.copytree(trained_runs["fam"].path.parent / f"{method}-seed0", path)
            recipe = path / "recipe.yaml"
            recipe.write_text(recipe.read_text().replace("\nseed: 0\n", f"\nseed: {seed}\n"))
            write_rows(path / "metrics.jsonl", [{**row, "top1": value} for row in Run(path).metrics()])
    words = answers.accuracy_words(tmp_path / "fam-seed1")
    test = ttest_rel(scores["fam"], scores["none"])
    low, high = test.confidence_interval(0.95)
    assert numbers(words)[:5] == pytest.approx([50, 10, 16 / 3, low, high], abs=0.006)
    assert "(n = 3 seeds, the interval contains 0: not told apart)" in words
    assert "One seed" not in words


@pytest.mark.parametrize(
    ("low", "high", "words"), [(0.1, 2, "above 0"), (-2, -0.1, "below 0"), (-1, 1, "not told apart")]
)
def test_where_an_interval_lies(low, high, words):
    assert words in answers.verdict(studies.Paired(1.0, low, high, 0.5, 3))


def test_a_run_that_still_trains_says_how_far_it_is(tmp_path):
    run = make_run(tmp_path / "run", "--data.root", "nowhere", "--epochs", "9", shapes=((2, 5), (2, 4)))
    assert answers.accuracy_words(run) == "The training has done 3 of 9 epochs; top-1 is 53.00 % so far."


def stage(shift_of_student):
    """A stage of 20 images: the student alone has 3 dB too much at the highest ring, the student a part of it."""
    rng = np.random.default_rng(0)
    teacher = rng.normal(size=(20, 8, 8))
    high = np.hypot(*np.meshgrid(np.arange(-4, 4), np.arange(-4, 4))) > 3
    noisy = {"teacher": teacher, "student alone": teacher + 3 * high + 0.1 * rng.normal(size=teacher.shape)}
    noisy["student by fam"] = teacher + shift_of_student * high + 0.1 * rng.normal(size=teacher.shape)
    return compare_stage("layer1", "teacher", {**noisy, "fam output": teacher + 9 * high})


@pytest.mark.parametrize(("shift", "where"), [(1.0, "nearer"), (6.0, "farther")])
def test_where_spectra_moved(shift, where):
    found = stage(shift)
    words = answers.spectra_words([found], 20)
    before, after = found.rms_db("student alone"), found.rms_db("student by fam")
    rings = answers.moved(found, "student by fam")
    assert words.startswith("Spectra of 20 images")
    assert words.endswith(f"student by fam is {where} at layer1 ({before:.2f} to {after:.2f} dB, {rings} of 4 rings).")
    assert "fam output" not in words
    assert 0 < rings <= 4
    assert answers.moved(found, "student alone") == 0


def test_a_stage_of_one_ring_is_left_out():
    rng = np.random.default_rng(0)
    planes = {name: rng.normal(size=(20, 2, 2)) for name in ("teacher", "student alone", "student by fam")}
    small = compare_stage("layer3", "teacher", planes)
    assert answers.spectra_words([stage(1.0), small], 20) == answers.spectra_words([stage(1.0)], 20)
    assert answers.spectra_words([small], 20) == ""


def test_without_a_student_alone_the_distance_is_said():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(5, 8, 8))
    high = np.hypot(*np.meshgrid(np.arange(-4, 4), np.arange(-4, 4))) > 3
    found = compare_stage("layer1", "teacher", {"teacher": plane, "student": plane - 4 * high}, relative="none")
    words = answers.spectra_words([found], 5)
    assert "student differs by" in words
    assert "dB less at 4 cycles per map" in words
    assert answers.spectra_words([compare_stage("s", "a", {"a": plane})], 5) == ""


def test_how_alike_maps_are_beside_chance():
    shown = comparison().cams(6)
    words = answers.maps_words(shown)
    (other, *_) = [name for name in shown.results if name != "teacher"]
    mean = np.nanmean(shown.figures[other]["rank correlation"])
    chance = np.nanmean(shown.chance[other]["rank correlation"])
    assert words.startswith("GradCAM of 6 images: the rank correlation with the maps of the teacher is ")
    assert f"{mean:.2f} for {other} ({chance:.2f} by chance)" in words


def test_the_change_of_maps_from_the_student_alone_is_paired_by_image():
    shown = comparison().cams(6)
    first, *others = shown.results
    names = dict(zip([first, *others], ["teacher", "student alone", "student by kd"]))
    if len(names) < 3:  # another student whose figures are larger by 0.25 on every image
        results = {**shown.results, "student by kd": shown.results[others[0]]}
        figures = {**shown.figures, "student by kd": {k: v + 0.25 for k, v in shown.figures[others[0]].items()}}
        chance = {**shown.chance, "student by kd": shown.chance[others[0]]}
        for each in (results, figures, chance):
            each["student alone"] = each.pop(others[0])
        shown = type(shown)(results, "teacher", figures, chance, shown.pixels, shown.labels, shown.masks, shown.classes)
    words = answers.maps_words(shown)
    assert "this is a change of +0.250 ± 0.000 for student by kd (± standard error over images)." in words


def test_a_study_is_read_and_told_apart(tmp_path):
    rows = {"none": (80, 82, 84), "fam": (86, 87, 91), "kd": (70,)}
    for group, values in rows.items():
        for seed, value in enumerate(values):
            write_run(tmp_path / f"{group}-{seed}", "--method", group, "--seed", str(seed), last=value)
    compare([tmp_path], save=tmp_path / "saved")
    scores = studies.study(tmp_path / "saved")
    assert scores["fam"] == {0: 86.0, 1: 87.0, 2: 91.0}
    low, high = ttest_rel(rows["fam"], rows["none"]).confidence_interval(0.95)
    words = studies.study_words(scores, "fam", ("none", "kd"))
    assert words == (
        f"On 3 seeds fam is +6.00 points [{low:.2f}, {high:.2f}] from none (the interval is above 0) and +16.00 points "
        "from kd (one seed)."
    )
    with pytest.raises(UserError, match=r"no group 'fan'\. Did you mean fam\?"):
        studies.study_words(scores, "fan")
    with pytest.raises(UserError, match="no saved results at nowhere"):
        studies.study("nowhere")


def test_the_study_of_the_repository_holds_three_seeds_and_the_control():
    scores = studies.study("parts_bands")
    assert {len(scores[name]) for name in ("none", "fam_review", "fam_review branch=local")} == {3}


def test_filters_are_described_beside_noise(tmp_path):
    filters = famviz.open(make_run(tmp_path / "run", shapes=((2, 5), (2, 4)))).filters
    words = answers.filters_words(filters)
    centroid = spectra.centroid_frequency(filters[0].response, filters[0].size[1]).mean()
    assert words.startswith(f"level 0 (layer1): the filters pass {centroid:.2f} of Nyquist on average (noise ")
    assert words.count("with a coherence of") == 2


def test_lists_in_sentences():
    assert [answers.joined(list("abc"[:n])) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]


def test_differences_are_drawn_with_their_intervals():
    one = {"fam": {0: 50.0, 1: 54.0, 2: 52.0}, "kd": {0: 51.0, 1: 56.0, 2: 53.5}, "none": {0: 40.0, 1: 45.0, 2: 41.0}}
    two = {"fam": {0: 70.0, 1: 71.0}, "kd": {0: 71.0, 1: 74.0}, "one seed": {0: 80.0}}
    figure = difference_figure({"first": one, "second": two}, "fam")
    (ax,), (legend,) = figure.axes, figure.legends
    assert [label.get_text() for label in ax.get_yticklabels()] == ["none", "kd"]
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second"]
    drawn = [(list(line.get_xdata()), line.get_ydata()[0]) for line in ax.lines if len(line.get_xdata())]
    test = paired(one["kd"], one["fam"])
    assert test is not None
    assert ([test.low, test.high], 1.15) in drawn
    assert ([1.0, 2.0, 1.5], 1.15) in drawn
    assert ([pytest.approx(1.5)], 1.15) in drawn
    assert ([1.0, 3.0], 0.85) in drawn
    assert ([-10.0, -9.0, -11.0], 0.15) in drawn
    assert len(drawn) == 1 + 3 * 3


def test_accuracy_is_drawn_against_the_cost_of_each_group_that_has_one(tmp_path):
    write_csv(tmp_path / "costs.csv", [{"group": "none", "ratio": 1.0}, {"group": "fam", "ratio": 2.5}])
    write_csv(tmp_path / "runs.csv", [])
    costs = studies.study_costs(tmp_path)
    scores = {"fam": {0: 50.0, 1: 54.0}, "kd": {0: 51.0}, "none": {0: 40.0}}
    (ax,) = cost_figure(scores, costs).axes
    drawn = [(set(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]
    assert drawn == [({1.0}, [40.0]), ({1.0}, [40.0]), ({2.5}, [50.0, 54.0]), ({2.5}, [52.0])]
    assert [text.get_text() for text in ax.texts] == ["none (one seed)", "fam"]
    many = {f"group {n}": {0: float(n)} for n in range(9)}
    assert len(cost_figure(many, dict.fromkeys(many, 1.0)).axes[0].texts) == 9
    near = {"fam": {0: 50.0}, "local": {0: 50.1}, "kd": {0: 30.0}, "other": {0: 50.2}}
    axes = cost_figure(near, {"kd": 1.0, "fam": 2.0, "local": 2.05, "other": 2.1}).axes[0]
    one, two = (text.get_window_extent() for text in axes.texts if text.get_text()[:3] in ("fam", "loc"))
    assert not one.overlaps(two)
    with pytest.raises(UserError, match=r"costs\.csv is missing"):
        studies.study_costs("parts_bands")
