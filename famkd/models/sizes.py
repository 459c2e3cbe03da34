"""How large the networks are, so that listing them need not build them; a test counts again."""

MILLIONS = {  # of parameters, with 100 classes, of detectors with 91
    "resnet8": 0.08,
    "resnet14": 0.18,
    "resnet20": 0.28,
    "resnet32": 0.47,
    "resnet44": 0.67,
    "resnet56": 0.86,
    "resnet110": 1.74,
    "resnet8x4": 1.23,
    "resnet32x4": 7.43,
    "resnet8x0.5": 0.02,
    "resnet14x0.5": 0.05,
    "ResNet18": 11.22,
    "ResNet50": 23.71,
    "wrn_16_1": 0.18,
    "wrn_16_2": 0.70,
    "wrn_40_1": 0.57,
    "wrn_40_2": 2.26,
    "vgg8": 3.97,
    "vgg11": 9.28,
    "vgg13": 9.46,
    "vgg16": 14.77,
    "vgg19": 20.09,
    "MobileNetV1": 3.31,
    "MobileNetV2": 0.81,
    "ShuffleV1": 0.95,
    "ShuffleV2": 1.36,
    "fasterrcnn_resnet18": 28.74,
    "fasterrcnn_resnet50": 41.81,
    "fasterrcnn_resnet101": 60.81,
    "fasterrcnn_mobilenet_v2": 19.26,
}


def size_of_model(name: str) -> str:
    """A few words on a network's size and use; none for one that is not ours."""
    if name not in MILLIONS:
        return ""
    use = "finds objects" if name.startswith("fasterrcnn") else "for small images"
    return f"{MILLIONS[name]:.2f} M parameters, {use}"
