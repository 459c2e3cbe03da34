"""Compute what the figures show: spectra of stages, effects of filters, activation maps. Nothing is drawn here."""
