"""Keep parts of a network as they are while the rest is trained."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from types import MethodType

from torch import nn

from famkd.errors import UserError, nearest


def freeze_parts(model: nn.Module, patterns: Iterable[str]) -> None:
    """Turn the gradients of some parts off and keep their modules in eval mode, so that batch norms do not change.

    Args:
        patterns: paths of modules or of parameters, such as `layer1`, or patterns such as `blocks.[0-5]` and `*.norm1`.
            A module stands for everything in it.

    Errors: UserError for a pattern that fits nothing, and where nothing is left to train.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    for pattern in patterns:
        inside = [path for path in modules if path and fnmatchcase(path, pattern)]
        alone = [path for path in parameters if fnmatchcase(path, pattern)]
        if not inside and not alone:
            names = [path for path in (*modules, *parameters) if path]
            raise UserError(f"--student.freeze {pattern}: the student has no such part.{nearest(pattern, names)}")
        for path in inside:
            modules[path].requires_grad_(False)
            for module in modules[path].modules():
                _stay_in_eval_mode(module)
        for path in alone:
            parameters[path].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError("--student.freeze leaves nothing of the student to train: leave a part out of it.")


def _stay_in_eval_mode(module: nn.Module) -> None:
    """Make `train()` keep the mode of a module, whoever calls it."""
    module.eval()
    module.train = MethodType(_keep_mode, module)


def _keep_mode(module: nn.Module, mode: bool = True) -> nn.Module:
    return module
