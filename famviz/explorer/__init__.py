"""The interactive widgets, for a notebook and for a saved page."""
