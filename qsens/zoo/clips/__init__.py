"""Clips of faces with sound: their layout on disk, packed for training, as sample sets, from videos."""
