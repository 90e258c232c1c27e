"""LightningModule base classes: what every plugin would otherwise repeat."""
