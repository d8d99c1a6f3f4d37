"""The only part that touches ComfyUI's inner modules. Each file holds one subject; the nodes import from them."""
