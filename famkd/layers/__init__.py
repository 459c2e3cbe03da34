"""Building blocks of methods, in torch only: frequency filters and the fusion of neighbouring stages."""
