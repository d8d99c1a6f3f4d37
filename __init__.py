"""ComfyUI entry point. Declares, never imports: the host calls `comfy_entrypoint` when it is ready."""

WEB_DIRECTORY = "web"


async def comfy_entrypoint():
    try:
        from .nodes import TextualInversionExtension
    except Exception:
        import logging

        # The host would print one line without the place of the error.
        logging.exception("Textual Inversion could not be loaded")
        raise
    return TextualInversionExtension()
