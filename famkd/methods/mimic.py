"""Feature imitation: the student's maps are matched to the teacher's, stage by stage."""

from torch import Tensor, nn

from famkd.distill.types import Batch, Method, Probe, View
from famkd.methods.common import add_up, pair_maps
from famkd.methods.maps import mse_loss


class Mimic(Method):
    """Each stage after a 1x1 convolution is compared with the teacher's by MSE, mean over stages. It has no options.

    This is the plain baseline for detectors, whose pyramids have equal sizes in student and teacher.

    Source: Li et al., "Mimicking Very Efficient Network for Object Detection", CVPR 2017; here on whole maps.
    """

    wants = "stages"

    def __init__(self, probe: Probe):
        super().__init__()
        pairs = pair_maps(probe.student.feats, probe.teacher.feats)
        self.connectors = nn.ModuleList(nn.Conv2d(s.shape[1], t.shape[1], 1) for s, t in pairs)

    def forward(self, student: View, teacher: View, batch: Batch) -> dict[str, Tensor]:
        pairs = pair_maps(student.feats, teacher.feats)
        losses = [mse_loss(connector(s), t) for connector, (s, t) in zip(self.connectors, pairs, strict=True)]
        return {"mimic": add_up(losses) / len(losses)}
