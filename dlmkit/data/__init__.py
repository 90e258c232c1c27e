"""LightningDataModules over Hugging Face datasets, and the data that needs no network."""
