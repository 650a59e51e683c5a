"""guided."""
