"""How much of a file is ever believed or read; every limit of the readers, once."""

from __future__ import annotations

MAX_FILE = 4 << 30  # bytes on the disk: words also travel in LoRA files, of which only the words are read
MAX_LOADED = 48 << 20  # bytes of tensors in memory: 3,000 vectors of the widest encoder
MAX_REPEATED = 8 << 20  # bytes of tensors more than the file has, because they share their numbers or repeat them
MAX_TENSORS = 20_000  # a large LoRA has 7,000
MAX_DIMENSIONS = 8
MAX_KEY = 1_000  # characters of a tensor's name

MAX_HEADER = 4 << 20  # bytes of a safetensors header
MAX_HEADER_TEXTS = 150_000  # five for a tensor, two for an entry of the metadata
MAX_PICKLE = 4 << 20  # bytes of a pickle without its tensors
MAX_OPCODES = 100_000  # a word has about 60, a whole model 50,000
MAX_PARTS = 20_000  # values in all, each counted as often as it is referred to
MAX_NESTING = 32

MAX_PICTURE = 16 << 20  # bytes of a picture file
MAX_PIXELS = 4 << 20  # 2048 x 2048; decoding takes 10 bytes each
MAX_CHUNKS = 20_000  # of a PNG; large ones are written in pieces of 8 KB
MAX_JSON = 4 << 20  # bytes of the JSON in a picture: 250 vectors of width 768
MAX_JSON_LISTS = 10_000  # parsed, one that is empty takes thirty times its text
MAX_JSON_NUMBERS = 500_000
