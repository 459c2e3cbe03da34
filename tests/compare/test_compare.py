"""The comparison against formulas written out, on run directories written by hand."""

import csv
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from helpers.runs import write_run

from famkd.compare import compare, holm, paired
from famkd.compare.find import find_runs, read_scores
from famkd.compare.groups import group_scores
from famkd.compare.published import published_figures
from famkd.errors import UserError
from famkd.methods import METHODS

SCORES = {"none": {0: 50.0, 1: 52.0, 2: 51.0}, "kd": {0: 55.0, 1: 54.0, 2: 58.0}}


@pytest.fixture
def runs(tmp_path) -> Path:
    for method, by_seed in SCORES.items():
        for seed, score in by_seed.items():
            write_run(
                tmp_path / f"{method}-{seed}", "--method", method, "--seed", str(seed), last=score, best=score + 3
            )
    return tmp_path


def table(text: str) -> dict[str, dict[str, str]]:
    return {row["method"]: row for row in csv.DictReader(io.StringIO(text))}


def test_mean_and_deviation_of_last_and_best_are_those_of_the_formulas(runs):
    row = table(compare([runs], format="csv"))["kd"]
    mean = (55 + 54 + 58) / 3
    deviation = math.sqrt(((55 - mean) ** 2 + (54 - mean) ** 2 + (58 - mean) ** 2) / 2)
    assert (row["n"], row["seeds"]) == ("3", "0 1 2")
    assert float(row["last_mean"]) == pytest.approx(mean, abs=1e-3)
    assert float(row["best_mean"]) == pytest.approx(mean + 3, abs=1e-3)
    assert float(row["last_std"]) == float(row["best_std"]) == pytest.approx(deviation, abs=1e-4)
    assert float(row["seconds_per_epoch"]) == 4.0


def test_the_paired_test_is_students_t_on_the_differences(runs):
    row = table(compare([runs], format="csv"))["kd"]
    differences = [5.0, 2.0, 7.0]
    mean = sum(differences) / 3
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 2 / 3)
    t = mean / error
    p = 1 - t / math.sqrt(t * t + 2)  # two-sided, in closed form for two degrees of freedom
    assert float(row["difference"]) == pytest.approx(mean, rel=1e-4)
    assert float(row["p"]) == pytest.approx(p, rel=1e-4)
    assert float(row["ci_low"]) == pytest.approx(mean - 4.302653 * error, rel=1e-4)
    assert float(row["ci_high"]) == pytest.approx(mean + 4.302653 * error, rel=1e-4)


def test_runs_of_several_tasks_name_the_figure_of_each_row_and_are_not_tested_against_each_other(runs):
    assert "top-1 %" in compare([runs])
    write_run(runs / "tags", "--method", "dkd", "--task", "multilabel", figure="mAP", last=25.0)
    text = compare([runs], against="kd")
    assert re.search(r"dkd +1 +mAP +25\.00", text)
    assert re.search(r"none +3 +top-1 % +51\.00", text)
    rows = table(compare([runs], format="csv", against="kd"))
    assert [rows[name]["figure"] for name in ("none", "kd", "dkd")] == ["top1", "top1", "mAP"]
    assert rows["none"]["difference"]
    assert not rows["dkd"]["difference"]


def test_seeds_are_paired_and_those_of_one_group_alone_left_out():
    test = paired({0: 1.0, 1: 3.0, 7: 100.0}, {1: 1.0, 0: 0.0, 8: -100.0})
    assert test.n == 2
    assert test.difference == pytest.approx(1.5)
    assert paired({0: 1.0}, {1: 0.0}) is None


def test_one_seed_has_a_difference_without_interval_and_p(runs):
    test = paired({0: 1.5}, {0: 0.0, 1: 1.0})
    assert (test.difference, test.n) == (1.5, 1)
    assert all(map(math.isnan, (test.low, test.high, test.p)))
    text = compare([runs / "none-0", runs / "kd-0"])
    assert re.search(r"kd +1 +55\.00 .* \+5\.00\n", text)
    assert "last epoch against none, one seed; two or more have a p" in text


def test_equal_differences_have_no_p(tmp_path):
    test = paired({0: 1.1, 1: 2.1, 2: 3.1}, {0: 1.0, 1: 2.0, 2: 3.0})
    assert test.difference == pytest.approx(0.1)
    assert math.isnan(test.p)
    for method, seed, score in (("none", 0, 50.0), ("none", 1, 52.0), ("kd", 0, 51.5), ("kd", 1, 53.5)):
        write_run(tmp_path / f"{method}-{seed}", "--method", method, "--seed", str(seed), last=score)
    text = compare([tmp_path])
    assert re.search(r"kd +2 +52\.50 .* \+1\.50\n", text)
    assert "kd differs from none by the same amount for every seed: no t-test." in text


def test_another_baseline_turns_the_difference_round(runs):
    rows = table(compare([runs], format="csv", against="kd"))
    assert float(rows["none"]["difference"]) == pytest.approx(-14 / 3, rel=1e-4)
    assert rows["kd"]["p"] == ""
    with pytest.raises(UserError, match=r"no group 'kkd'. Did you mean kd"):
        compare([runs], against="kkd")
    write_run(runs / "other", "--name", "other")
    with pytest.raises(
        UserError, match=r"There are: kd \(of quickstart\); none \(of quickstart\); fam_review \(of other"
    ):
        compare([runs], against="kkd")


def test_options_make_groups_and_name_them(tmp_path):
    for place, flags in enumerate(((), ("--fam_review.highpass", "none"), ("--seed", "1"), ("--data.root", "moved"))):
        write_run(tmp_path / str(place), "--method", "fam_review", *flags)
    groups, repeated = group_scores(read_scores(find_runs([tmp_path]))[0])
    assert {group.label: sorted(group.scores) for group in groups} == {
        "fam_review highpass=ideal": [0, 1],
        "fam_review highpass=none": [0],
    }
    assert repeated == [f"Left out: {tmp_path / '3'} repeats recipe and seed of {tmp_path / '0'}."]


def test_runs_are_found_by_pattern_and_folder_and_unfinished_ones_told_apart(runs):
    write_run(runs / "late", "--method", "at", epochs=2)
    assert len(find_runs([runs])) == 7
    assert [path.name for path in find_runs([runs / "kd-*", runs / "kd-0"])] == ["kd-0", "kd-1", "kd-2"]
    text = compare([runs])
    assert f"Unfinished: {runs / 'late'}, epoch 2 of 5." in text
    assert " at " not in text
    with pytest.raises(UserError, match="no run at"):
        find_runs([runs / "nothing"])
    with pytest.raises(UserError, match="No finished run"):
        compare([runs / "late"])


def test_a_damaged_run_does_not_stop_the_others(runs, capsys):
    (write_run(runs / "torn") / "metrics.jsonl").write_text('{"epoch": 1, "to')
    (write_run(runs / "foreign") / "recipe.yaml").write_text("no_such_field: 1\n")
    text = compare([runs])
    assert text.count("Unreadable: ") == 2
    assert f"{runs / 'foreign'}/recipe.yaml, line 1: no_such_field is not a setting" in text
    assert "kd" in text
    assert capsys.readouterr().err == ""


def test_at_80_columns_words_stay_whole_and_empty_columns_are_left_out(runs, monkeypatch):
    write_run(runs / "digits", recipe="digits/resnet20", epochs=12)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    lines = compare([runs]).splitlines()
    rows = lines[: next(n for n, line in enumerate(lines) if line.startswith("Mean"))]
    assert max(map(len, rows)) <= 80
    for word in ("digits/resnet20", "quickstart", "difference", "55.67", "s/epoch", "method"):
        assert any(word in row.split() for row in rows), word
    assert "peak" not in rows[0] + rows[1]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.texts = set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_html_and_markdown_show_hostile_names_as_text(tmp_path):
    name = '<script>alert("1")</script>|& [bold]x'
    write_run(tmp_path / "hostile", "--name", name)
    reader = Reader()
    reader.feed(compare([tmp_path], format="html"))
    assert name in reader.texts
    assert reader.tags == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    markdown = compare([tmp_path], format="markdown")
    assert "<script>" not in markdown
    assert "\\|&amp;" in markdown
    columns = [line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")]
    assert len(set(columns)) == 1
    assert name in compare([tmp_path], format="table")
    assert next(csv.DictReader(io.StringIO(compare([tmp_path], format="csv"))))["recipe"] == name


def test_published_figures_stand_beside_ours_with_source_and_epoch(tmp_path):
    recipe = "cifar100/resnet56-resnet20"
    for method in ("kd", "fam_review", "none"):
        write_run(tmp_path / method, "--method", method, "--epochs", "240", recipe=recipe, epochs=240)
    write_run(tmp_path / "short", "--method", "at", "--epochs", "5", recipe=recipe)
    write_run(tmp_path / "ls", "--method", "kd", "--kd.standardize", "--epochs", "240", recipe=recipe, epochs=240)
    rows = table(compare([tmp_path], format="csv", published=True))
    assert rows["kd standardize=False"]["published"] == "70.66 (CRD, epoch not stated)"
    assert rows["kd standardize=True"]["published"] == "71.43 (LSKD, best epoch)"
    assert rows["fam_review"]["published"] == "not available"
    assert rows["none"]["published"] == "69.06 (CRD, epoch not stated)"
    assert rows["at"]["published"].endswith("240 epochs against 5 here")
    assert rows["reviewkd"]["n"] == "0"
    assert rows["teacher"]["published"].startswith("72.34")


def test_the_data_file_holds_no_figure_of_our_own_paper_and_only_known_words():
    figures = published_figures()
    assert len({figure[1:3] for figure in figures}) == 13
    assert len({figure[:4] for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.method.removesuffix(" standardize") in {*METHODS, "none", "teacher"}
        assert not figure.method.startswith("fam")
        assert figure.epoch in ("best epoch", "last epoch", "not stated")
        assert 55 < float(figure.top1) < 82
        assert figure.source


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, math.nan, 0.5], [0.04, math.nan, 0.5]),
        ([0.6, 0.7], [1.0, 1.0]),
    ],
)
def test_p_is_corrected_for_the_number_of_groups(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted, nan_ok=True)


def test_where_copies_of_shards_lie_makes_no_group(tmp_path):
    for seed, cache in enumerate(("/a", "/b")):
        flags = ("--data.cache", cache, "--data.cache_gib", str(seed + 1), "--seed", str(seed), "--method", "none")
        write_run(tmp_path / str(seed), *flags, recipe="imagenet/resnet34-resnet18", epochs=120)
    groups, _ = group_scores(read_scores(find_runs([tmp_path]))[0])
    assert [list(group.scores) for group in groups] == [[0, 1]]
