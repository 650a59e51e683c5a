"""Sound for talking-face generators: wave files, the mel spectrogram, and its windows."""
