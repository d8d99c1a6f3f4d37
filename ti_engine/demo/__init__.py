"""The demo model: a small text-to-image model of SD1's shape that runs everywhere, with an exact judge of its pictures."""
