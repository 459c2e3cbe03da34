"""Feature imitation: the student's maps made equal to the teacher's, level by level."""

from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import pair_maps
from famkd.methods.maps import mse_loss


class Mimic(Method):
    """Every stage through a 1x1 convolution to the teacher's by MSE, the mean over stages; it has no options.

    The plain baseline of distillation for detectors, whose pyramids have the same sizes on both sides.
    """

    wants = "stages"

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        self.connectors = nn.ModuleList(nn.Conv2d(s.shape[1], t.shape[1], 1) for s, t in pairs)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = [mse_loss(connector(s), t) for connector, (s, t) in zip(self.connectors, pairs, strict=True)]
        return {"mimic": sum(losses) / len(losses)}
