"""The demo model: a small text-to-image model of SD1's shape, with an exact judge of its pictures."""
