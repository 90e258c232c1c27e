"""PixelCNN: pictures generated pixel by pixel."""
