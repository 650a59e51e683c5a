"""The Wav2Lip family: generators, lip-sync expert, quality discriminator, and how their files are opened."""
