"""Every loss as a plain function: `famkd.losses.dkd(student_logits, teacher_logits, targets)`.

The functions take tensors and return a scalar, in float32 also under autocast. None of them has parameters or state: a
layer that a method trains, such as the 1x1 convolution of FitNet, is the caller's. `famkd.distill` builds whole methods
with their layers. Defaults are those of the methods.
"""

from famkd.methods.contrast import nce_loss as crd_nce
from famkd.methods.frequency import detail_loss as freekd
from famkd.methods.frequency import figkd_loss as figkd
from famkd.methods.heads import cat_loss as catkd
from famkd.methods.heads import class_maps
from famkd.methods.logits import dist_loss as dist
from famkd.methods.logits import dkd_loss as dkd
from famkd.methods.logits import kd_loss as kd
from famkd.methods.logits import nkd_loss as nkd
from famkd.methods.logits import standardized
from famkd.methods.logits import wttm_loss as wttm
from famkd.methods.maps import at_loss as at
from famkd.methods.maps import margins as ofd_margins
from famkd.methods.maps import mse_loss as fitnet
from famkd.methods.maps import nst_loss as nst
from famkd.methods.maps import ofd_loss as ofd
from famkd.methods.maps import vid_loss as vid
from famkd.methods.relations import cc_loss as cc
from famkd.methods.relations import pkt_loss as pkt
from famkd.methods.relations import rkd_loss as rkd
from famkd.methods.relations import sp_loss as sp
from famkd.methods.review import hierarchical_mse as reviewkd

__all__ = [
    "at", "catkd", "cc", "class_maps", "crd_nce", "dist", "dkd", "figkd", "fitnet", "freekd", "kd", "nkd", "nst", "ofd",
    "ofd_margins", "pkt", "reviewkd", "rkd", "sp", "standardized", "vid", "wttm",
]  # fmt: skip
