"""Distillation methods by name. Each is a short class, with its loss as a plain function next to it."""

from famkd.distill.types import Method
from famkd.methods.contrast import CRD
from famkd.methods.fam import FAMLayers
from famkd.methods.frequency import FiGKD, FreeKD
from famkd.methods.heads import CATKD, SimKD
from famkd.methods.logits import DIST, DKD, KD, NKD, WTTM
from famkd.methods.maps import AT, NST, OFD, VID, FitNet, Mimic
from famkd.methods.relations import CC, PKT, RKD, SP
from famkd.methods.review import FAMReview, ReviewKD

METHODS: dict[str, type[Method]] = {
    "fam": FAMLayers,
    "fam_review": FAMReview,
    "reviewkd": ReviewKD,
    "kd": KD,
    "dkd": DKD,
    "dist": DIST,
    "nkd": NKD,
    "wttm": WTTM,
    "fitnet": FitNet,
    "mimic": Mimic,
    "at": AT,
    "nst": NST,
    "vid": VID,
    "ofd": OFD,
    "sp": SP,
    "cc": CC,
    "rkd": RKD,
    "pkt": PKT,
    "crd": CRD,
    "simkd": SimKD,
    "catkd": CATKD,
    "freekd": FreeKD,
    "figkd": FiGKD,
}
