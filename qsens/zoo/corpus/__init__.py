"""A procedural corpus of talking faces: sound and picture from one phone track, nothing recorded."""
