"""What every run does beside training: folder, checkpoints, media, the screen."""
