"""What each person likes, computed from declared sources and kept where the application reads it."""
