"""Two small trained generators that are called more than once: a sampler of faces, a video super-resolver."""
