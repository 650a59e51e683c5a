"""The nouns of qsens: precisions and maps, layers, trials and scores, the spec, plug-in contracts and errors.

They come from a spec file, a journal or a plug-in and go to every other room, checked where they are read.
The main type is `PrecisionMap`; the contracts of plug-ins are in `interfaces`.
"""
