"""What the browser page shows while a run goes on."""
