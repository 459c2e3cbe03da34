"""Building blocks of methods: frequency filters, fusion of neighbouring stages, connectors."""
