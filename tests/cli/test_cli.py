"""The command line: what it prints, and how it refuses; some as real processes, the rest within this one."""

import io
import json
import re
import signal
from importlib import metadata
from pathlib import Path

import pytest
import torch
from helpers.processes import HANG, finish, spoken, wait_for_epochs
from safetensors.torch import load_file

from famkd import console as progress
from famkd.cli import COMMANDS
from famkd.config.builtin import builtin_recipes
from famkd.data import DATA
from famkd.methods import METHODS
from famkd.models import DETECTORS, MODELS, build_model
from famkd.run.directory import Run


def teach(classes: int = 3, model: str = "resnet8") -> str:
    torch.manual_seed(5)
    torch.save({"model": build_model(model, classes).state_dict()}, "teacher.pt")
    return "teacher.pt"


TAUGHT = ("--method", "fam_review", "--teacher.model", "resnet8", "--teacher.weights")


# real processes --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_teacher_a_student_alone_and_a_student_distilled_as_a_real_process(small, python, famkd):
    """The quickstart on a few images: its lines and closing table, then the run measured again."""
    Path("big.yaml").write_text(Path("small.yaml").read_text().replace("resnet8x0.5", "resnet8"))
    code, out, err = python(
        "-m", "famkd", "train", "small.yaml", "--baseline", "--epochs", "2", *TAUGHT, "recipe:big.yaml"
    )
    assert code == 0
    epochs = re.findall(r"^(\w+) (\w+)  epoch (\d)/\d  task\.ce", err, re.M)
    assert epochs == [(*who, str(n + 1)) for who, count in ((("big", "none"), 3), (("small", "none"), 2),
                      (("small", "fam_review"), 2)) for n in range(count)]  # fmt: skip
    rows = [line for line in out.splitlines() if line.startswith("│")]
    roles = ["teacher resnet8", "student resnet8x0.5 alone", "student resnet8x0.5 by fam_review"]
    paths = ["runs/big/none-seed0", "runs/small/none-seed0", "runs/small/fam_review-seed0"]
    for row, role, path in zip(rows, roles, paths, strict=True):
        scores = [line["top1"] for line in Run(path).metrics()]
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells[:3] == [role, f"{scores[-1]:.2f}", f"{max(scores):.2f}"]
        assert float(cells[3]) >= 0
        assert f"{role}: {path}" in out.splitlines()
    last = Run(paths[2]).metrics()[-1]
    code, out, err = famkd("eval", paths[2])
    assert (code, err, out.splitlines()[0]) == (0, "", f"top1 {last['top1']:.2f}  top5 {last['top5']:.2f}")


def test_a_bad_name_as_a_real_process(small, python):
    answer = python("-m", "famkd", "trian", "quickstart")
    assert answer == (2, "", "famkd: There is no command 'trian'. Did you mean train? See famkd --help.\n")


@pytest.mark.slow
def test_a_locked_directory_and_an_interrupt_as_real_processes(small, background, famkd):
    options = ("train", "small.yaml", "--out", "busy", "--epochs", "500")
    process = background("-m", "famkd", *options)
    wait_for_epochs("busy", 1, process)
    code, _, err = famkd(*options, "--resume")
    assert (code, err) == (
        2, "famkd: Another process is writing busy: wait for it, or pass another --out.\n"
    )  # fmt: skip
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code == 130
    wanted = "famkd: interrupted; the run directory holds the last finished epoch, --resume continues from it\n"
    assert spoken(err) == wanted
    assert 0 < len(Run("busy").metrics()) < 500


# help and lists --------------------------------------------------------------------------------------------------


def test_help(famkd):
    for flag in ("-h", "--help"):
        code, out, err = famkd(flag)
        assert (code, err) == (0, "")
        assert "famkd train RECIPE|FILE" in out
    code, out, _ = famkd()
    assert code == 2
    assert "famkd train" in out


@pytest.mark.parametrize("command", ["train", "sweep", "eval"])
def test_an_interrupt_speaks_of_run_directories_where_there_are_some(famkd, monkeypatch, command):
    def interrupt(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(COMMANDS, command, interrupt)
    code, _, err = famkd(command)
    assert code == 130
    assert ("run directory" in err) == (command != "eval")


def test_the_lists_are_listed(famkd):
    code, out, err = famkd("ls")
    assert (code, err) == (0, "")
    listed = [line.split()[0] for line in out.splitlines()]
    assert listed == ["recipes", "models", "methods", "data", "optimizers", "sweeps"]


def test_the_version(famkd):
    assert famkd("--version") == (0, f"famkd {metadata.version('famkd')}\n", "")


@pytest.mark.parametrize("argv", [("train", "--help"), ("train", "cifar100/resnet56-resnet20", "--help")])
def test_the_help_of_train_explains_every_field(famkd, argv):
    code, out, _ = famkd(*argv)
    assert code == 0
    flat = " ".join(out.replace("│", " ").split())
    flags = ("--student.model", "--teacher.weights", "--data.root", "--optim.lr", "--fam_review.cutoff", "--engine",
             "--out", "--runs", "--seeds", "--jobs")  # fmt: skip
    assert "--resume" in out
    for flag in flags:
        assert re.search(rf"{re.escape(flag)} \S.{{0,40}}? \w+", flat), flag
    helps = ("adius of the high-pass as a fraction", "Weight of this method's losses", "Random seed of initial")
    for words in helps:
        assert words in flat
    fields = re.findall(r"(--[\w.]+)[^-]*?\(default:", flat)
    assert len(set(fields)) > 25


@pytest.mark.parametrize("command", ["eval", "ls"])
def test_the_help_of_other_commands(famkd, command):
    code, out, _ = famkd(command, "--help")
    assert code == 0
    assert f"usage: famkd {command}" in out


@pytest.mark.parametrize("argv", ["famkd ls recipes", "famkd ls sweeps", "famkd train quickstrat", "famviz --help"])
def test_what_needs_no_torch_does_not_wait_for_it(python, argv):
    package, *rest = argv.split()
    code = f"import sys\nfrom {package}.__main__ import main\ntry:\n    main({rest})\n"
    code += "except SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    assert python("-c", code)[0] == 0


@pytest.mark.parametrize("argv", [("famkd", "ls", "models"), ("famkd", "eval", "--help"), ("famviz", "--help")])
def test_nobody_reading_on_ends_it_without_a_word(background, argv):
    process = background("-m", *argv)
    process.stdout.close()  # before it has written anything, as `| true` does
    assert process.stderr.read() == ""
    assert process.wait(HANG) == 141


@pytest.mark.parametrize(
    ("kind", "table"),
    [("recipes", builtin_recipes()), ("models", {**MODELS, **DETECTORS}), ("methods", METHODS), ("data", DATA)],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_lists_have_one_name_a_line_first(famkd, kind, table):
    code, out, err = famkd("ls", kind)
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(table)
    assert all(len(line.split()) > 2 for line in out.splitlines())  # and what it is
    assert kind != "recipes" or max(map(len, out.splitlines())) <= 100


def test_sizes_of_models_are_those_of_the_networks(famkd, monkeypatch):
    sizes = dict(line.split(maxsplit=1) for line in famkd("ls", "models", "--sizes")[1].splitlines())
    assert list(sizes) == [*MODELS, *DETECTORS]
    assert sizes["resnet20"] == "0.28 M parameters"
    assert sizes["fasterrcnn_resnet50"] == "41.81 M parameters"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert famkd("ls", "models")[2] == "timm:NAME, torchvision:NAME and hf-hub:OWNER/NAME are models too.\n"


def test_the_bar_leaves_room_on_80_columns_and_epochs_stand_above_it(monkeypatch):
    screen = io.StringIO()
    terminal = progress.PlainConsole(
        file=screen, width=80, force_terminal=True, color_system=None, legacy_windows=False
    )
    monkeypatch.setattr(progress, "console", terminal)
    with progress.reporting("cifar100/resnet56-resnet20 fam_review+kd", 2, 3) as report:
        report.step()
        report.epoch({"epoch": 1, "task.ce": 2.5, "top1": 33.0, "lr": 0.1}, 1.0)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    assert "cifar100/resnet56-resnet20 fam_review+kd  epoch 1/2  task.ce 2.5  top1 33  " in shown
    assert re.search(r"cifar100/resnet56-resnet20 fam_… [━╸╺ ]{24} +17% +[-\d:]+", shown)


# measuring -------------------------------------------------------------------------------------------------------


@pytest.mark.sample(1)
@pytest.mark.parametrize("method", ["none", "fam_review", "simkd"])
def test_eval_of_a_run_is_its_last_row(small, famkd, method):
    extra = () if method == "none" else ("--method", method, *TAUGHT[2:], teach())
    assert famkd("train", "small.yaml", "--out", "run", "--lr", "0.02", *extra)[0] == 0
    last = Run("run").metrics()[-1]
    code, out, err = famkd("eval", "run")
    assert (code, err, out.splitlines()[0]) == (0, "", f"top1 {last['top1']:.2f}  top5 {last['top5']:.2f}")


def test_eval_of_the_best_epoch(small, famkd):
    assert famkd("train", "small.yaml", "--out", "run")[0] == 0
    run = Run("run")
    best = max(run.metrics(), key=lambda row: row["top1"])
    (run.path / "student.safetensors").unlink()
    assert famkd("eval", "run", "--best")[1].startswith(f"top1 {best['top1']:.2f} ")


def test_eval_of_a_bare_checkpoint_on_data_of_ones_own(small, famkd):
    assert famkd("train", "small.yaml", "--out", "run")[0] == 0
    last, root = Run("run").metrics()[-1], small().data.root
    torch.save({"module." + key: v for key, v in load_file("run/student.safetensors").items()}, "bare.pt")
    bare = ("eval", "--model", "resnet8x0.5", "--weights", "bare.pt", "--data", "npz", "--root", root)
    for batch in ("500", "7"):
        code, out, _ = famkd(*bare, "--batch_size", batch)
        assert (code, out.splitlines()[0]) == (0, f"top1 {last['top1']:.2f}  top5 {last['top5']:.2f}")


# training --------------------------------------------------------------------------------------------------------


def test_flags_win_over_the_file_and_the_resolved_recipe_trains_the_same(small, famkd):
    assert famkd("train", "small.yaml", "--seed", "4", "--optim.steps", "1", "2", "--out", "one")[0] == 0
    recipe = Run("one").recipe
    assert (recipe.seed, recipe.optim.steps, recipe.optim.epochs) == (4, (1, 2), 3)
    assert famkd("train", "one/recipe.yaml", "--out", "two")[0] == 0
    assert famkd("train", "one", "--out", "three")[0] == 0
    assert Run("one").metrics() == Run("two").metrics() == Run("three").metrics()


def test_a_finished_run_shows_its_table_again(small, famkd):
    first = famkd("train", "small.yaml", "--out", "run")
    again = famkd("train", "small.yaml", "--out", "run")
    assert again[0] == 0
    assert again[1]
    assert first[1].endswith(again[1])


def test_the_command_is_written_down(small, famkd, monkeypatch):
    monkeypatch.setattr("sys.argv", ["famkd", "train", "small.yaml", "--out", "a b"])
    assert famkd("train", "small.yaml", "--out", "a b")[0] == 0
    assert json.loads(Path("a b/machine.json").read_text())["command"] == "famkd train small.yaml --out 'a b'"


# bad input -------------------------------------------------------------------------------------------------------

TRAIN, KD = ("train", "small.yaml"), ("--method", "kd", "--teacher.model", "resnet8", "--teacher.weights")
BARE = ("eval", "--model", "resnet8", "--weights", "teacher.pt", "--data", "digits")
BAD = {  # the command -> what its one sentence says
    "no seeds": ((*TRAIN, "--seeds"), "--seeds takes one or more numbers"),
    "command": (("trian", "quickstart"), r"no command 'trian'\. Did you mean train\? See famkd --help"),
    "no recipe": (("train",), r"Name a recipe or a file: famkd train quickstart"),
    "flags first": (
        ("train", "--epochs", "1", "--out", "list.yaml", "quickstart"),
        r"comes first: famkd train quickst",
    ),
    "seeds first": (("train", "--seeds", "0", "1", "small.yaml"), r"comes first: famkd train small\.yaml --seeds 0 1$"),
    "another method's option": (
        (*TRAIN, "--kd.temperature", "1"),
        r"kd is not among this run's methods \(none\): pass",
    ),
    "recipe": (("train", "cifar100/resnet65-resnet20"), r"'cifar100/resnet65-resnet20'\. Did you mean cifar100/resnet"),
    "not yaml": (("train", "broken.yaml"), r"Cannot read the recipe broken\.yaml, line \d: "),
    "a list": (("train", "list.yaml"), r"list\.yaml is not a table of settings: write lines such as `seed: 1`"),
    "binary": (("train", "teacher.pt"), r"Cannot read the recipe teacher\.pt"),
    "model": ((*TRAIN, "--student.model", "resnet21"), r"no model 'resnet21'\. Did you mean resnet"),
    "torchvision": ((*TRAIN, "--student.model", "torchvision:resnet19"), r"no model 'resnet19'\. Did you mean resnet1"),
    "method": (
        (*TRAIN, "--method", "fam_revue"),
        r"no method 'fam_revue'\. Did you mean fam_review.*`famkd ls methods`",
    ),
    "one of a sum": ((*TRAIN, "--method", "kd+fitnt"), r"no method 'fitnt'\. Did you mean fitnet"),
    "one method twice": ((*TRAIN, "--method=kd+kd"), r"kd\+kd names one method twice"),
    "data": ((*TRAIN, "--data.name", "digit"), r"no data set 'digit'\. Did you mean digits"),
    "data root": ((*TRAIN, "--data.root", "nowhere"), r"no file nowhere: point --data\.root at an \.npz"),
    "tap": ((*TRAIN, *TAUGHT, "teacher.pt", "--teacher.taps", "layer7"), r"no module 'layer7'\. Did you mean layer"),
    "classes": (
        (*TRAIN, *KD, "five.pt"),
        r"kd learns from the teacher's classifier, which has random weights, because the checkpoint has 5 classes, the "
        r"model 3: pass --teacher\.finetune_head 5",
    ),
    "architecture": (
        (*TRAIN, *KD[:3], "resnet14", KD[4], "teacher.pt"),
        r"another architecture, with keys \d+ missing",
    ),
    "weights": ((*TRAIN, *KD, "gone.pt"), r"no file of weights at gone\.pt"),
    "teacher recipe": ((*TRAIN, *KD, "recipe:quickstar"), r"no recipe or file 'quickstar'\. Did you mean quickstart"),
    "no teacher": ((*TRAIN, "--method", "kd"), r"kd needs a teacher: pass --teacher\.model and --teacher\.weights"),
    "device": ((*TRAIN, "--accelerator", "gpuu"), r"no accelerator 'gpuu' here: pass auto, cpu, cuda or mps"),
    "out is a file": ((*TRAIN, "--out", "teacher.pt"), r"Cannot write into teacher\.pt: .*Pass another --out"),
    "diverges": ((*TRAIN, "--lr", "1e30", "--optim.steps"), r"Not finite in step \d of epoch \d: the "),
    "nothing to compare": (
        ("compare",),
        r"There is no run at runs: name run directories, folders of runs or a pattern",
    ),
    "eval nothing": (("eval",), r"Name either a run directory, or --model with --weights and --data"),
    "eval no run": (("eval", "nowhere"), r"nowhere is no run directory: it holds no recipe\.yaml"),
    "eval both": ((*BARE, "somewhere"), r"Name either a run directory, or --model"),
    "eval no weights": (("eval", "--model", "resnet8"), r"A model needs --weights"),
    "eval model": (("eval", "--model", "resnet9", *BARE[3:]), r"no model 'resnet9'\. Did you mean resnet"),
    "eval data": ((*BARE[:-1], "digitss"), r"no data set 'digitss'\. Did you mean digits"),
    "eval classes": (BARE, r"the checkpoint has 3 classes, the model 10"),
    "eval architecture": (("eval", "--model", "vgg8", *BARE[3:]), r"not fit the model vgg8: it is of another archit"),
    "eval damaged": ((*BARE[:4], "broken.yaml", *BARE[5:]), r"broken\.yaml cannot be read as weights: it is a text"),
    "eval root": ((*BARE[:-1], "npz", "--root", "gone.npz"), r"no file gone\.npz: point --data\.root"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_in_one_sentence_and_code_2(small, famkd, case):
    teach()
    torch.save(build_model("resnet8", 5).state_dict(), "five.pt")
    Path("broken.yaml").write_text("student: {model: resnet8\n")
    Path("list.yaml").write_text("- seed\n- 1\n")
    argv, words = BAD[case]
    code, out, err = famkd(*argv)
    assert code == 2
    said = spoken(err)
    assert re.fullmatch(r"famkd: .*\n", said), err
    assert re.search(words, said), err
    assert out == ""
    assert case in ("diverges", "tap") or err == said


PARSED = {  # what cannot be read at all
    "seeds": ((*TRAIN, "--seeds", "x"), "--seeds is 'x': pass a whole number."),
    "flag": (
        (*TRAIN, "--optim.lrr", "1"),
        "--optim.lrr is not a setting. Did you mean --optim.lr or .* See famkd",
    ),
    "the command's own flag": ((*TRAIN, "--resum"), "--resum is not a setting. Did you mean --resume"),
    "a flag without its section": ((*TRAIN, "--momentum", "1"), "Did you mean --optim.momentum?"),
    "several seeds": ((*TRAIN, "--seed", "0", "1"), "--seed takes one number: .* pass --seeds 0 1."),
    "no value": ((*TRAIN, "--seed"), "--seed needs a value."),
    "two values": ((*TRAIN, "--name", "my", "recipe"), "'recipe' belongs to no flag: .* in quotes."),
    "type": ((*TRAIN, "--epochs", "many"), "--optim.epochs is 'many': pass a whole number."),
    "choice": ((*TRAIN, "--engine", "jit"), "--engine is 'jit': pass auto, eager, compile or graph."),
    "in the file": (("train", "wrong.yaml"), "In wrong.yaml, line 4: optim.learning_rate is not a setting"),
    "type in the file": (("train", "typed.yaml"), "In typed.yaml, line 5: seed is 'abc': pass a whole number."),
    "jobs of one seed": ((*TRAIN, "--jobs", "2"), "--jobs is for several seeds"),
    "jobs of Ray": (("sweep", "ablations", "--on", "ray", "--jobs", "2"), "Ray decides how many"),
    "GPUs without Ray": (("sweep", "ablations", "--gpus", "0.5"), "--gpus and --cpus are for --on ray"),
    "negative GPUs": (("sweep", "ablations", "--on", "ray", "--gpus", "-1"), "--gpus is -1.0: pass 0 or more"),
    "negative jobs": (("sweep", "ablations", "--jobs", "-1"), "--jobs is -1: pass 0 or more"),
    "negative jobs of seeds": ((*TRAIN, "--seeds", "0", "1", "--jobs", "-1"), "--jobs is -1: pass 0 or more"),
    "search without a file": (("tune",), "Name a file that says what to vary"),
    "trials of a search": (("tune", "search.yaml", "--trials", "0"), "--trials"),
    "kind of list": (("ls", "recipe"), "There is no list 'recipe'. Did you mean recipes?"),
    "sizes of recipes": (("ls", "recipes", "--sizes"), "famkd ls models --sizes"),
    "flag of eval": (("eval", "run", "--weigths", "x"), "--weigths is not a setting. Did you mean --weights?"),
    "sweep alone": (("sweep",), "Name a sweep or a file: famkd sweep ablations"),
    "export alone": (("export",), "Name the run whose student to export"),
    "a folder": (("train", "."), ". is a folder without a recipe.yaml"),
}


@pytest.mark.parametrize("case", PARSED)
def test_flags_and_fields_that_do_not_parse_are_told_with_the_nearest(small, famkd, case):
    text = Path("small.yaml").read_text()
    Path("wrong.yaml").write_text(text.replace("lr:", "learning_rate:"))
    Path("typed.yaml").write_text(text + "seed: abc\n")
    argv, words = PARSED[case]
    code, out, err = famkd(*argv)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"famkd: .*{words}.*\n", err), err
    assert not Path("runs").exists()
