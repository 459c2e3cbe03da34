"""Ways to teach, by name: each a short module with a pure loss function beside its `Method`."""

from famkd.method import Method
from famkd.methods.fam import FAMLayers
from famkd.methods.review import FAMReview, ReviewKD

METHODS: dict[str, type[Method]] = {
    "fam": FAMLayers,
    "fam_review": FAMReview,
    "reviewkd": ReviewKD,
}
