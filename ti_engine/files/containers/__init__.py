"""The containers that embedding files come in: safetensors, pickle, zip, pictures. Reading one never executes code."""
