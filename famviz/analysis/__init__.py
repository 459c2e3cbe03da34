"""Arrays in, arrays out: spectra of stages, the effect of filters, activation maps. Nothing is drawn here."""
