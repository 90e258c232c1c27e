"""Generative adversarial nets."""
