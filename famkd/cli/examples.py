"""Examples of each command, printed under its help."""

EXAMPLES = {
    "train": (
        "famkd train quickstart",
        "famkd train cifar100/resnet56-resnet20 --root DATA --method fam_review+kd --seeds 0 1 2",
        "famkd train mine.yaml --resume",
        "famkd train --student.model timm:resnet18 --teacher.model timm:resnet50 --teacher.weights pretrained "
        "--data folder --root DIR",
    ),
    "init": ("famkd init", "famkd init mine.yaml --student.model timm:resnet18 --teacher.model timm:resnet50"),
    "eval": (
        "famkd eval runs/quickstart/fam_review-seed0",
        "famkd eval --model resnet56 --weights resnet56.pth --data cifar100 --root DATA",
    ),
    "compare": (
        "famkd compare runs/quickstart",
        "famkd compare 'runs/*/kd-seed*' runs/mine --against kd --format json",
        "famkd compare runs/methods --save results/methods",
        "famkd compare results/methods --against kd --explain",
    ),
    "sweep": (
        "famkd sweep methods --dry-run",
        "famkd sweep methods --jobs 2",
        "famkd sweep mine.yaml --on ray --gpus 0.5",
    ),
    "tune": ("famkd tune search.yaml --trials 50", "famkd tune search.yaml --trials 80 --pruner hyperband"),
    "store": (
        "famkd store cifar100/resnet56-resnet20 --root DATA --views 4 --features stages embed",
        "famkd store mine.yaml --views 4",
    ),
    "export": (
        "famkd export runs/quickstart/fam_review-seed0 --to onnx",
        "famkd export RUN --to onnx --input bytes --best --out student.onnx --format json",
        "famkd export RUN --to onnx --int8 --calibration 512",
        "famkd export RUN --to hub --out my-student",
    ),
    "bench": ("famkd bench cifar100/resnet56-resnet20 --noise --against naive", "famkd bench quickstart --format json"),
    "ls": ("famkd ls recipes", "famkd ls models --sizes", "famkd ls methods --format json"),
    "doctor": ("famkd doctor", "famkd doctor --format json > machine.json"),
    "completion": (
        'eval "$(famkd completion bash)"',
        "famkd completion fish > ~/.config/fish/completions/famkd.fish",
    ),
}
